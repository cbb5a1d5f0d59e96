"""From the name of a bundled optimizer to a complete Optax transformation, and what each is for."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from rich.box import SIMPLE
from rich.table import Table

from l2ljax.base import LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.base.words import hint
from l2ljax.bundled.files import load_optimizer
from l2ljax.bundled.shipped import pretrained_names, weights_path
from l2ljax.checks import check_number, check_transform, short
from l2ljax.optimizers import BUILDERS, build
from l2ljax.optimizers import guard as guard_
from l2ljax.optimizers.plain_labels import labels_given
from l2ljax.specification import find_builder

DEFAULT = "enduring-suite"
"""The one that needs no tuning; docs/board.md has how it fares."""


def pretrained(
    name: str | Path = DEFAULT,
    *,
    learning_rate: float | jax.Array | optax.Schedule = 1.0,
    weight_decay: float | jax.Array = 0.0,
    labels: PyTree | Callable[[Params], PyTree] | None = None,
    guard: bool | optax.GradientTransformation | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """A bundled learned optimizer, ready for a training loop: one line, as `optax.adamw(...)` is.

    It is `optax.chain(rule, optax.add_decayed_weights(weight_decay),
    optax.scale_by_learning_rate(learning_rate))`, AdamW's order (Loshchilov & Hutter 2019), where
    the rule already knows its step size: a learning rate of 1 is what it was trained with.

    Args:
        name: one of `pretrained_names()`, or a `.safetensors` file of `l2ljax.save_optimizer`.
            Default: "enduring-suite", which knows no task and no number of steps; it reads `params`
            in `update` and orthogonalises matrices in each step, as Muon does, and so do
            "opening-suite", for 1,000 steps, "averaged-suite", that with slower first steps, and
            "desk-suite", what the default was searched on from. Two are told `num_steps`, 1,000
            unless given: "opening-suite-steps", lower after 100 and 1,000, and "timed-suite", a
            little lower after 1,000, which two cores make from scratch in hours. "nominal-suite"
            and, told so too, "nominal-suite-steps" are for large matrices on a CPU.
        learning_rate: a factor on all updates, or a schedule of it. It and `weight_decay` may be
            scalar arrays, also traced: `optax.inject_hyperparams(pretrained)(learning_rate=1.0)`.
        weight_decay: share of each parameter that is taken off in each step, times the learning
            rate; needs `params` in `update`. The number 0 adds nothing to the chain.
        labels: of a partition, such as the two LSTMs of "lstm-cifar10": a tree of its labels, or a
            function params -> labels. Default: by the parameters' names where those tell (keys that
            begin with "conv", "fc" or "dense"), else by rank: "conv" above two axes.
        guard: `True` to fall back on Adam at 1e-3 where the learned rule is in trouble, or another
            additive transformation to fall back on; see `l2ljax.guard`.
        **options: arguments of the rule's builder to change, such as `nonfinite="skip"`,
            `max_update=0.1` or `num_steps=1000`.

    Returns:
        a complete and additive transformation: `optax.apply_updates(params, updates)`.

    Raises:
        ValueError: for a name that is not there, an option that the rule does not have, labels for
            a rule without members, or a number out of range.

    Example:
        >>> tx = pretrained("lstm-mnist", learning_rate=0.5, weight_decay=1e-4)
        >>> params = {"w": jnp.ones((3, 2))}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> updates["w"].shape
        (3, 2)
    """
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate)
    check_number("weight_decay", weight_decay, what="a number of at least 0")
    if not isinstance(weight_decay, Tracer) and float(weight_decay) < 0:
        raise ValueError(f"weight_decay must be at least 0, got {short(weight_decay)}.")
    if isinstance(options.get("options"), dict):  # how optax.inject_hyperparams passes them on
        options |= options.pop("options")
    optimizer, meta_params = _rule(name, labels, options)
    complete = _complete(optimizer, meta_params, learning_rate, weight_decay)
    if guard is None or guard is False:
        return complete
    fallback = optax.adam(1e-3) if guard is True else guard
    check_transform("guard", fallback)
    return guard_(complete, fallback)


def _rule(name: Any, labels: Any, options: dict[str, Any]) -> tuple[LearnedOptimizer, MetaParams]:
    _, meta_params, metadata = load_optimizer(weights_path(name))
    specification = dict(metadata["optimizer"])
    builder = find_builder(BUILDERS, specification["name"], "optimizer")
    if labels is None and specification["name"] == "partition":
        specification["labels"] = "conv_fc_or_rank"
    elif labels is not None and "labels" in inspect.signature(builder).parameters:
        specification["labels"] = labels_given(labels)
    elif labels is not None:
        raise ValueError(
            f"{short(str(name))} has one rule for all parameters and takes no labels; leave labels "
            "out, or combine transformations with optax.partition."
        )
    _check_options(name, specification["name"], options)
    return build(specification | options), meta_params


OWN_OPTIONS = ("learning_rate", "weight_decay", "labels", "guard")
"""Of `pretrained` itself, whatever the rule."""


def _check_options(name: Any, rule: str, options: Mapping[str, Any]) -> None:
    """Refuses what the rule of `name` does not take; a partition has labels alone."""
    parameters = inspect.signature(find_builder(BUILDERS, rule, "optimizer")).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    is_partition = rule == "partition"
    of_rule = [] if is_partition else list(parameters)
    taken = [option for option in OWN_OPTIONS if is_partition or option != "labels"] + of_rule
    for option in options:
        if option not in taken:
            raise ValueError(
                f"l2ljax.pretrained has no option {option!r} for {short(str(name), 200)}"
                f"{hint(option, taken)}; it takes {', '.join(taken)}."
            )


def _complete(
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    learning_rate: float | jax.Array | optax.Schedule,
    weight_decay: float | jax.Array,
) -> optax.GradientTransformationExtraArgs:
    with jax.ensure_compile_time_eval():  # it may be kept by who calls this while tracing
        learned = optimizer.transform(meta_params)
    rule = optax.chain(learned, optax.scale(-1.0))  # Optax's sign
    decays = isinstance(weight_decay, jax.Array) or weight_decay != 0
    decay = [optax.add_decayed_weights(weight_decay)] if decays else []
    return optax.chain(rule, *decay, optax.scale_by_learning_rate(learning_rate))


WHERE_THEY_FAIL = {
    "lstm-cifar10": "behind NAG from about step 200",
    "lstm-cifar10-single": "behind NAG from about step 200",
    "lstm-cifar10-sub2": "behind NAG beyond 100 steps; trained on eight classes",
    "lstm-cifar10-sub5": "behind NAG beyond 100 steps; trained on five classes",
    "lstm-mnist": "level with NAG at step 200, then behind; ReLU networks, other loss scales",
    "lstm-neural-art": "behind Adam at 128 x 128 unless gradients are scaled by 4",
    "lstm-quadratic": "anything but quadratics",
    "lstm-quadratic-all": "anything but quadratics",
    "lstm-quadratic-last": "behind Adam already on quadratics: a lesson, not a tool",
    "averaged-suite": "slow for 100 steps; large matrices on CPUs; unguarded on equations",
    "desk-suite": "deep networks; large matrices on CPUs; unguarded on equations",
    "enduring-suite": "100 steps; unguarded on equations for long; large matrices on CPUs",
    "opening-suite": "100 steps of pictures; large matrices on CPUs; unguarded on equations",
    "opening-suite-steps": "a num_steps that is not the training's (1,000 unless given)",
    "nominal-suite-steps": "a num_steps that is not the training's (1,000 unless given)",
    "nominal-suite": "parameters in units below 0.1; slow for 30 steps; see docs/board.md",
    "timed-suite": "some 100 steps; a num_steps that is not the training's (1,000 unless given)",
    "rnnprop-suite": "parameters in units below 0.1; 10,000 steps (2.7 times tuned Adam's loss)",
}
"""Measured: docs/results.md, docs/robustness.md, docs/board.md, docs/choose.md."""


class PretrainedTable:
    """What `pretrained_table` returns: prints as a table, on a terminal and in a notebook.

    Attributes:
        rows: one dict a bundled optimizer: `name`, `rule`, `trained_on`, `steps`, `weights`
            (numbers), `state_bytes` (a parameter) and `fails`.

    Example:
        >>> table = PretrainedTable([{"name": "mine", "rule": "lstm", "trained_on": "quadratic"}])
        >>> str(table).splitlines()[-2].split()
        ['mine', 'lstm', 'quadratic']
    """

    HEADINGS = ("name", "rule", "trained on", "steps", "weights", "state B/param", "where it fails")

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def __rich__(self) -> Table:
        table = Table(*self.HEADINGS, box=SIMPLE, pad_edge=False)
        for row in self.rows:
            table.add_row(*(str(value) for value in row.values()))
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=120, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        def line(tag: str, values: Any) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(str(v))}</{tag}>" for v in values) + "</tr>"

        body = [line("td", row.values()) for row in self.rows]
        return "<table>" + "".join([line("th", self.HEADINGS), *body]) + "</table>"


def pretrained_table() -> PretrainedTable:
    """What each bundled optimizer is for, what it costs, and where it fails.

    Returns:
        a table that prints itself, with a dict a row.

    Example:
        >>> table = pretrained_table()
        >>> [row["state_bytes"] for row in table.rows if row["name"] == "lstm-mnist"]
        [320]
    """
    rows = []
    for name in pretrained_names():
        optimizer, meta_params, metadata = load_optimizer(weights_path(name))
        rows.append(
            {
                "name": name,
                "rule": metadata["optimizer"]["name"],
                "trained_on": trained_on(metadata),
                "steps": trained_steps(metadata) or "-",
                "weights": sum(leaf.size for leaf in jax.tree.leaves(meta_params)),
                "state_bytes": _state_bytes(optimizer, meta_params),
                "fails": metadata.get("fails", WHERE_THEY_FAIL.get(name, "-")),
            }
        )
    return PretrainedTable(rows)


def trained_on(metadata: Mapping[str, Any]) -> str:
    """What weights were meta-trained on, in a few words: as their card says, else by their task.

    Example:
        >>> trained_on({"config": {"task": {"name": "mlp", "dataset": {"name": "mnist"}}}})
        'mlp of mnist'
    """
    if "trained_on" in metadata:
        return str(metadata["trained_on"])
    task = metadata.get("config", {}).get("task", {})
    data = task.get("dataset", {})
    of = f" of {data['name']}" if isinstance(data, Mapping) and "name" in data else ""
    return f"{task.get('name', 'unknown')}{of}"


def trained_steps(metadata: Mapping[str, Any]) -> int | str | None:
    """How many inner steps long their episodes were: as their card says, else by configuration."""
    return metadata.get("steps", metadata.get("config", {}).get("episode_length"))


def _state_bytes(optimizer: LearnedOptimizer, meta_params: MetaParams) -> int:
    """Bytes of state for each parameter of a large matrix."""
    params = {"dense": jnp.zeros((256, 256), jnp.float32)}
    state = jax.eval_shape(lambda p: optimizer.transform(meta_params).init(p), params)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return round(total / 256**2)
