"""The stages of an adaptation: measure, tune baselines, meta-train, choose, judge."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams, Task
from l2ljax.evaluation import Comparison, Curve, compare
from l2ljax.evaluation.tuning import LEARNING_RATES, MakeTransform
from l2ljax.experiments.adaptation.choosing import Sizes
from l2ljax.experiments.adaptation.given import Start, title_of
from l2ljax.experiments.adaptation.outcome import Adaptation, Folder, summary_of
from l2ljax.experiments.adaptation.pace import FEWEST_UPDATES, Clock, Pace, measure, plan
from l2ljax.experiments.adaptation.verdict import Level, sentence
from l2ljax.tasks import cluster_of
from l2ljax.training.faults import DivergenceError
from l2ljax.training.loop import meta_train
from l2ljax.training.result import MetaTrainResult
from l2ljax.training.validation import Validation

FIRST = ("adam", "nag", "rmsprop", "sgd")
"""Baselines in the order in which they are tuned while there is time."""
TUNING_SHARE = 0.3
"""Of the budget, that tuning them may take."""
COMPILATIONS = 6
"""Comparisons that compiling everything after the first one takes as long as, about."""
MOST_TUNING_TASKS, FEWEST_TUNING_TASKS = 8, 2


class Parts(NamedTuple):
    """What an adaptation is made of.

    Attributes:
        task, start, estimator, validation, sizes, baselines: of the adaptation.
        place: what names the task.
        meta_optimizer: number of meta-updates -> what trains the meta-parameters.
        keys: of training and of the comparison.
        about: what the card says beforehand.
    """

    task: Task
    place: str
    start: Start
    estimator: GradientEstimator
    validation: Validation
    meta_optimizer: Callable[[int], optax.GradientTransformation]
    sizes: Sizes
    baselines: Mapping[str, MakeTransform]
    keys: tuple[Key, Key]
    about: dict[str, Any]

    def curves(
        self,
        learned: Mapping[str, MetaParams],
        baselines: Mapping[str, MakeTransform],
        num_tuning_tasks: int = FEWEST_TUNING_TASKS,
    ) -> dict[str, Curve]:
        """Of meta-parameters and of baselines, always on the same fresh optimizees."""
        return compare(
            self.task,
            {name: (self.start.optimizer, m) for name, m in learned.items()},
            self.keys[1],
            num_tasks=self.sizes.num_eval_tasks,
            num_steps=self.sizes.num_steps,
            num_tuning_tasks=num_tuning_tasks,
            baselines=baselines,
            cluster=cluster_of(self.task),
        )


class Measured(NamedTuple):
    """What is known before training: curves, the pace, and seconds of one more comparison."""

    curves: dict[str, Curve]
    pace: Pace
    comparison: float


def carry_out(
    parts: Parts,
    clock: Clock,
    folder: Folder,
    num_meta_updates: int | None,
    progress: bool,
    tell: Callable[[str], Any],
) -> Adaptation:
    """All stages in turn; see `adapt`."""
    tell("Compiling, and measuring how fast this machine is on your task.")
    measured = _measured(parts, clock)
    tell(
        f"Ready after {clock.seconds:.0f} s of {clock.budget:.0f} s; a meta-update takes "
        f"{measured.pace.update:.2g} s, a comparison {measured.comparison:.2g} s."
    )
    num_tuning_tasks = _num_tuning_tasks(parts, clock, measured, num_meta_updates)
    folder.begin(parts.about)
    curves, untuned = _tuned(parts, clock, measured, num_tuning_tasks, tell)
    result, ended = _trained(parts, clock, folder, measured, num_meta_updates, progress, tell)
    changed = result is not None and result.best_score < measured.pace.start_score
    meta_params = result.meta_params if result and changed else parts.start.meta_params
    history = result.history if result else []
    validation = [{"update": 0, "validation_loss": _plain(measured.pace.start_score)}]
    validation += [record for record in history if "validation_loss" in record]
    made = result.num_meta_updates if result else 0
    card = {**parts.about, "validation": validation, "num_meta_updates": made, "ended": ended}
    path = folder.save(meta_params, card)  # whatever happens in the comparison
    if changed:
        tell("Comparing on fresh optimizees.")
    curves, (level, verdict) = _judged(parts, curves, meta_params, changed, untuned)
    found = {"verdict": verdict, "level": level, "untuned": untuned}
    summary = summary_of(title_of(parts.place), curves, parts.about["key"], found)
    folder.write(summary, curves)
    seconds = {"seconds": round(clock.seconds, 1)}
    folder.save(meta_params, card | seconds | found | {"evaluation": summary})
    return Adaptation(
        parts.start.optimizer,
        meta_params,
        level,
        verdict,
        changed,
        Comparison(curves, title_of(parts.place)),
        validation,
        made,
        ended,
        tuple(untuned),
        clock.seconds,
        path,
    )


def _judged(
    parts: Parts,
    curves: dict[str, Curve],
    meta_params: MetaParams,
    changed: bool,
    untuned: list[str],
) -> tuple[dict[str, Curve], tuple[Level, str]]:
    """The curves with the adapted one's, and the verdict; Ctrl-C leaves both out."""
    adapted = {"adapted": curves["start"]}
    if changed:
        try:
            adapted = parts.curves({"adapted": meta_params}, {})
        except KeyboardInterrupt:
            return curves, ("unknown", "Not known to be worth using: the comparison was stopped.")
    curves = {"start": curves["start"], **adapted, **curves}
    return curves, sentence(curves, parts.start.name, changed, untuned)


def _measured(parts: Parts, clock: Clock) -> Measured:
    began = clock.seconds
    curves = parts.curves({"start": parts.start.meta_params}, {})
    comparison = clock.seconds - began  # with its compilation, which the last one will not need
    if clock.left < comparison:
        _refuse(clock, clock.seconds + COMPILATIONS * comparison)
    pace = measure(
        parts.estimator,
        parts.meta_optimizer(1),
        parts.start.meta_params,
        parts.validation,
        parts.keys[0],
    )
    return Measured(curves, pace, comparison)


def _num_tuning_tasks(
    parts: Parts, clock: Clock, measured: Measured, num_meta_updates: int | None
) -> int:
    """As many as fit into their share of the budget."""
    rate = len(LEARNING_RATES) * measured.comparison / parts.sizes.num_eval_tasks
    share = TUNING_SHARE * clock.budget / (rate * len(parts.baselines))
    number = max(FEWEST_TUNING_TASKS, min(MOST_TUNING_TASKS, int(share)))
    updates = min(FEWEST_UPDATES, num_meta_updates or FEWEST_UPDATES)
    pace = measured.pace
    needed = clock.seconds + rate * FEWEST_TUNING_TASKS + 2 * measured.comparison
    needed += updates * pace.update + 2 * pace.validation
    if needed > clock.budget:
        _refuse(clock, needed)
    return number


def _refuse(clock: Clock, needed: float) -> NoReturn:
    """Says how many minutes would do, where `needed` seconds are more than there are."""
    raise ValueError(
        f"minutes={clock.budget / 60:.3g} are too few for this task on this machine; give at least "
        f"{1.5 * needed / 60:.2g}, or fewer num_steps, num_eval_tasks or num_tasks."
    )


def _tuned(
    parts: Parts, clock: Clock, measured: Measured, num_tuning_tasks: int, tell: Any
) -> tuple[dict[str, Curve], list[str]]:
    """Curves so far and those of the baselines that there was time for, and names of the others."""
    curves, began, last = dict(measured.curves), clock.seconds, 0.0
    names = [name for name in FIRST if name in parts.baselines]
    names += [name for name in parts.baselines if name not in FIRST]
    for i, name in enumerate(names):
        before = clock.seconds
        late = before - began + last > TUNING_SHARE * clock.budget
        if i and late:
            return curves, names[i:]
        curves |= parts.curves({}, {name: parts.baselines[name]}, num_tuning_tasks)
        last = clock.seconds - before
        final = float(curves[name].losses[:, -1].mean())
        rate = curves[name].learning_rate
        tell(f"Tuned {name}: {final:.4g} after {parts.sizes.num_steps} steps at {rate:.3g}.")
    return curves, []


def _trained(
    parts: Parts,
    clock: Clock,
    folder: Folder,
    measured: Measured,
    num_meta_updates: int | None,
    progress: bool,
    tell: Callable[[str], Any],
) -> tuple[MetaTrainResult | None, str]:
    """Meta-training within the time, and why it ended."""
    reserve = measured.comparison + measured.pace.validation + measured.pace.update
    planned = plan(measured.pace, clock.left - reserve, num_meta_updates)
    if not planned.num_meta_updates:
        return None, "time"
    tell(f"Meta-training from {parts.start.name}: {planned.num_meta_updates} meta-updates.")
    late: list[bool] = []

    def hook(record: dict[str, Any]) -> bool:
        del record
        if clock.left < reserve:
            late.append(True)
        return bool(late)

    try:
        result = meta_train(
            parts.estimator,
            parts.meta_optimizer(planned.num_meta_updates),
            parts.start.meta_params,
            parts.keys[0],
            num_meta_updates=planned.num_meta_updates,
            validation=parts.validation,
            validate_every=planned.validate_every,
            log_every=planned.log_every,
            checkpoint_every=max(1, planned.num_meta_updates // 5),
            workdir=folder.workdir,
            progress=progress,
            hook=hook,
        )
    except DivergenceError as error:
        return error.result, "diverged"
    return result, "time" if late else "stopped" if result.interrupted else "done"


def _plain(score: float) -> float | None:
    return score if np.isfinite(score) else None


def key_data(key: Key) -> list[int]:
    """A random key as plain numbers."""
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key).tolist()
