"""The arguments that all evolution strategies share, checked where they enter."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import (
    check_choice,
    check_kind,
    check_optimizer,
    check_positive_int,
    check_task,
    short,
)
from l2ljax.estimators.episodes import check_lengths
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.particles import Objective, Told
from l2ljax.estimators.perturbations import check_sigma
from l2ljax.estimators.weights import Weights, step_weights
from l2ljax.parallel import COORDINATES, check_mesh, place_data

LossTransform = Callable[[jax.Array], jax.Array] | Literal["log"]


class Options(TypedDict, total=False):
    """Keyword arguments of every evolution strategy.

    Attributes:
        weights: w_1 ... w_T >= 0 as in `truncated_bptt`. Where lengths are drawn T is the largest,
            and a shorter episode has the weights of the same shares of its length. Default: 1.
        reduction: what becomes of the weighted losses f(theta_t) after each of a window's steps:
            "sum" (as `truncated_bptt`; Vicol et al. 2021), "mean" over the window's steps (Li et
            al. 2023 and google/learned_optimization; `full_es`: over the episode's), or "last",
            the one at the end of the window and those at ends of episodes. "min" (`full_es` alone):
            the least of the episode, of the steps that have a weight. Default: "sum".
        objective: (params, batch) -> scalar, what the meta-loss is made of instead of the task's
            loss. It is never differentiated: the error rate on a part of the batch will do.
        loss_transform: applied to each loss (or objective), array to array of the same shape;
            "log" is the logarithm. Default: none.
        told: length of the running episode (int32 scalar) -> what the optimizer is told of it, by
            the extra argument `num_steps` of its updates, which rules such as `nominal` read.
            Default: nothing.
        delta_losses: take each loss relative to that of the same optimizee at the start of the
            window, or of its episode where that began later. Where pairs start windows together,
            as in `es`, this changes the meta-loss alone.
        sign: of a pair's difference of losses use the sign alone.
        stagger: spread the tasks over the episode: the first one of each is cut short after
            another share of its length (at windows' ends where windows fill an episode exactly).
            The first task has a whole one. Default: True; `full_es` has no use for it.
        perturbations_at_once: at most so many pairs of perturbed meta-parameters are made at the
            same time on a device. Default: all.
        mesh: devices to spread the tasks over, as in `truncated_bptt`.
        shard_data: as in `truncated_bptt`.
    """

    weights: Weights | None
    reduction: Literal["sum", "mean", "last", "min"]
    objective: Objective | None
    loss_transform: LossTransform | None
    told: Told | None
    delta_losses: bool
    sign: bool
    stagger: bool
    perturbations_at_once: int | None
    mesh: Mesh | None
    shard_data: bool


def evolution_strategy(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    unroll_length: int,
    num_perturbations: int,
    sigma: Any,
    carried: Literal["pairs", "centre", "nothing"],
    redraw_every: int | None,
    accumulates: bool = False,
    weights: Weights | None = None,
    reduction: Literal["sum", "mean", "last", "min"] = "sum",
    objective: Objective | None = None,
    loss_transform: LossTransform | None = None,
    told: Told | None = None,
    delta_losses: bool = False,
    sign: bool = False,
    stagger: bool = True,
    perturbations_at_once: int | None = None,
    mesh: Mesh | None = None,
    shard_data: bool = False,
) -> EvolutionStrategy:
    """Checks the arguments of `es`, `pes`, `nres`, `gpes` and `full_es`, and those of `Options`.

    Raises:
        ValueError, TypeError: in one sentence, for what does not fit.
    """
    _check_stateless(task)
    check_optimizer("optimizer", optimizer)
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("num_perturbations", num_perturbations)
    check_positive_int("unroll_length", unroll_length)
    lengths = check_lengths(episode_length)
    if perturbations_at_once is not None:
        check_positive_int("perturbations_at_once", perturbations_at_once)
    _check_reduction(reduction, least=carried == "nothing" and not delta_losses)
    for name, flag in {"delta_losses": delta_losses, "sign": sign, "stagger": stagger}.items():
        check_kind(name, flag, bool)
    loss_transform = _checked_functions(objective, loss_transform, told)
    _check_mesh(mesh, num_tasks, task.data if shard_data else ())
    return EvolutionStrategy(
        task=dataclasses.replace(task, data=place_data(task.data, mesh, shard=shard_data)),
        optimizer=optimizer,
        num_tasks=num_tasks,
        num_perturbations=num_perturbations,
        episode_lengths=lengths,
        unroll_length=unroll_length,
        sigma=check_sigma(sigma),
        carried=carried,
        redraw_every=redraw_every,
        accumulates=accumulates,
        weights=step_weights(weights, lengths[1]),
        reduction=reduction,
        objective=objective,
        loss_transform=loss_transform,
        told=told,
        delta_losses=delta_losses,
        sign=sign,
        stagger=stagger,
        perturbations_at_once=perturbations_at_once,
        mesh=mesh,
        shard_data=shard_data,
    )


def _check_stateless(task: Task) -> None:
    check_task(task)
    if task.init_state is not None:
        raise ValueError(
            "Evolution strategies do not carry the state of a task with init_state, such as "
            "running averages; train on it with truncated_bptt, or give a task without it."
        )


def _check_reduction(reduction: Any, *, least: bool) -> None:
    """Refuses an unknown one, and "min" unless the `least` of whole episodes can be had."""
    check_choice("reduction", reduction, ("sum", "mean", "last", "min"))
    if reduction == "min" and not least:
        raise ValueError(
            'reduction="min" is the least loss of a whole episode; take it with full_es, and '
            "without delta_losses."
        )


def _checked_functions(objective: Any, loss_transform: Any, told: Any) -> Callable | None:
    """The loss transform as a function, once both are known to be functions or none."""
    if objective is not None and not callable(objective):
        raise TypeError(
            f"objective must be a function (params, batch) -> scalar, got {short(objective)}."
        )
    if told is not None and not callable(told):
        raise TypeError(
            f"told must be a function of an episode's length or None, got {short(told)}."
        )
    if loss_transform == "log":
        return log
    if loss_transform is not None and not callable(loss_transform):
        raise TypeError(
            f'loss_transform must be "log", a function of losses or None, got '
            f"{short(loss_transform)}."
        )
    return loss_transform


def _check_mesh(mesh: Mesh | None, num_tasks: int, sharded_data: Any) -> None:
    check_mesh(mesh, num_tasks, sharded_data)
    if mesh is not None and COORDINATES in mesh.shape:
        raise ValueError(
            f"An evolution strategy has no use for the mesh axis {COORDINATES!r}; give a mesh with "
            'the axis "tasks" alone.'
        )


def log(losses: jax.Array) -> jax.Array:
    """The logarithm, from the smallest normal float32 upwards."""
    return jnp.log(jnp.maximum(losses, jnp.finfo(jnp.float32).tiny))
