"""What an adaptation is given: weights to start from, and a task of one's own, checked to fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from l2ljax.base import LearnedOptimizer, MetaParams, Params, Task
from l2ljax.bundled import load_optimizer, weights_path
from l2ljax.checks import check_like, check_task, short, shorten
from l2ljax.evaluation._rollouts import is_pair
from l2ljax.optimizers import build
from l2ljax.optimizers.plain_labels import labels_given
from l2ljax.specification.names import find, module_at
from l2ljax.unrolling import init_optimizee, unroll

EXAMPLE = '"file.py", "file.py:attribute" or "module:attribute"'


class Start(NamedTuple):
    """Where an adaptation begins: a name for sentences, and what it names."""

    name: str
    optimizer: LearnedOptimizer
    meta_params: MetaParams


def find_start(weights: Any, labels: Any = None) -> Start:
    """The learned optimizer and meta-parameters to start from.

    Args:
        weights: a bundled optimizer's name, a `.safetensors` file, or a pair.
        labels: of a partition, instead of its own, as `l2ljax.pretrained` takes them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for names that are not known, files that are damaged, a pair that does not
            belong together, and labels for a rule without members.
        TypeError: for anything else.

    Example:
        >>> find_start("lstm-mnist").optimizer.specification["name"]
        'lstm'
    """
    if is_pair(weights):
        optimizer, meta_params = weights
        expected = jax.eval_shape(optimizer.init, jax.random.key(0))
        check_like(expected, meta_params, "weights[1]", "give what weights[0].init makes")
        name = "the weights given"
    elif isinstance(weights, str | Path):
        optimizer, meta_params, _ = load_optimizer(weights_path(weights))
        name = str(weights)
    else:
        raise TypeError(
            "weights must be a bundled optimizer's name, a .safetensors file or a pair "
            f"(optimizer, meta_params), got {short(weights)}."
        )
    if labels is not None:
        optimizer = _relabelled(name, optimizer, labels)
    return Start(name, optimizer, meta_params)


def _relabelled(name: str, optimizer: LearnedOptimizer, labels: Any) -> LearnedOptimizer:
    specification = optimizer.specification
    if specification is None or specification["name"] != "partition":
        raise ValueError(
            f"{name} has one rule for all parameters and takes no labels; leave labels out."
        )
    return build({**specification, "labels": labels_given(labels)})


def title_of(place: str) -> str:
    """What a table or figure calls the task that `find_task` has found.

    Example:
        >>> title_of("mine.py:task"), title_of("Task(init='init', loss='loss')")
        ('mine.py:task', 'a task of your own')
    """
    return "a task of your own" if place.startswith("Task(") else place


def find_task(task: Any) -> tuple[Task, str]:
    """A task, and what names it.

    Args:
        task: a `Task`; or where one is: `"file.py:attribute"` or `"module:attribute"` of a `Task`
            or of a function without arguments that returns one; or `"file.py"` alone, if `task` is
            its name there or it is the only one.

    Raises:
        ValueError: if there is none, or the code that makes it fails.
        TypeError: if it is something else.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> find_task(task := quadratic())[0] is task
        True
        >>> find_task("l2ljax.tasks:quadratic")[1]
        'l2ljax.tasks:quadratic'
    """
    if not isinstance(task, str | Path):
        check_task(task)
        return task, repr(task)  # for the card; see `title_of`
    name = str(task)
    if ":" not in name and not name.endswith(".py"):
        raise ValueError(f"task must be an l2ljax.Task or name one, {EXAMPLE}, got {short(name)}.")
    found = find(name) if ":" in name else _only_task(name)
    if not isinstance(found, Task) and callable(found):
        found = _made_by(found, name)
    if not isinstance(found, Task):
        raise TypeError(
            f"{short(name)} must be an l2ljax.Task or a function without arguments that returns "
            f"one, got {short(found)}."
        )
    check_task(found)
    return found, name


def _only_task(file: str) -> Any:
    """What a file calls `task`, or its only `Task`."""
    there = vars(module_at(file, file))
    if "task" in there:
        return there["task"]
    tasks = {name: value for name, value in there.items() if isinstance(value, Task)}
    if len(tasks) == 1:
        return next(iter(tasks.values()))
    if tasks:
        raise ValueError(
            f"{file} has several tasks, {', '.join(tasks)}; say which, as in "
            f'"{file}:{next(iter(tasks))}".'
        )
    raise ValueError(
        f"{file} has no l2ljax.Task; give one the name task there, or name a function without "
        f'arguments that returns one, as in "{file}:make".'
    )


def _made_by(function: Any, name: str) -> Any:
    try:
        return function()
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"{short(name)} failed when called without arguments ({reason(error)}); mend it there."
        ) from error


def reason(error: Exception) -> str:
    """What an error says, for a sentence."""
    return " ".join(shorten(f"{type(error).__name__}: {error}", 300).split()).rstrip(".")


def check_fits(task: Task, start: Start) -> Params:
    """Refuses a task that cannot be run, or not by this optimizer; nothing is computed.

    Returns:
        the shapes of its parameters.

    Raises:
        ValueError: telling which of the two, and why.
    """

    def step(make):
        def run(key):
            tx = make()
            state = init_optimizee(task, tx, key)
            return state.params, unroll(task, tx, state, key, 1)[1]

        return jax.eval_shape(run, jax.random.key(0))[0]

    try:
        params = step(lambda: optax.sgd(0.1))
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"This task cannot be run for one step ({reason(error)}); mend its functions."
        ) from error
    try:
        step(lambda: start.optimizer.transform(start.meta_params))
    except Exception as error:  # whatever the optimizer's own code raises
        raise ValueError(
            f"{start.name} does not fit this task's parameters ({reason(error)}); "
            f"{_advice(start.optimizer.specification)}."
        ) from error
    return params


def _advice(specification: Mapping[str, Any] | None) -> str:
    if specification is None or specification["name"] != "partition":
        return "start from other weights, see l2ljax.pretrained_table()"
    members = specification["optimizers"]
    if set(members) == {"conv", "fc"} and specification["labels"] != "conv_fc_or_rank":
        return 'give labels="conv_fc_or_rank", or labels of your own'
    return f"give labels among {', '.join(members)} that do"
