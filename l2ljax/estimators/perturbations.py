"""Perturbations of meta-parameters, and the meta-gradient that their losses make.

With epsilon ~ N(0, sigma^2) and antithetic pairs, the gradient of E L(phi + epsilon) is

    E (L(phi + epsilon) - L(phi - epsilon)) / (2 sigma^2) * xi,

where xi is what the loss of a step depends on: the sum of all perturbations used since its episode
began (persistent evolution strategies, Vicol et al. 2021, arXiv:2112.13835, equation 8), which is
the one perturbation in use where that is kept for the whole episode (Li et al. 2023,
arXiv:2304.12180).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Key, MetaParams, PyTree
from l2ljax.checks import is_number, short
from l2ljax.estimators.axes import Draw, draw_all, fold, select


class Sigma(NamedTuple):
    """Standard deviations as hashable data: the leaves of a tree, or one for all."""

    values: tuple[float, ...]
    structure: Any  # a PyTreeDef


def check_sigma(sigma: Any) -> Sigma:
    """`sigma`, a number or a tree of numbers, refused with a sentence unless all are positive."""
    values, structure = jax.tree.flatten(sigma)
    numbers = [v.item() if hasattr(v, "item") and jnp.size(v) == 1 else v for v in values]
    if not numbers or not all(is_number(v) and v > 0 for v in numbers):
        raise ValueError(
            "sigma must be a positive finite number, or a tree of them like the meta-parameters "
            f"(or a prefix of it), got {short(sigma)}."
        )
    return Sigma(tuple(map(float, numbers)), structure)


def scales(sigma: Sigma, meta_params: MetaParams) -> PyTree:
    """A standard deviation for each leaf of `meta_params`.

    Raises:
        ValueError: if `sigma` is a tree and no prefix of `meta_params`.
    """
    tree = jax.tree.unflatten(sigma.structure, sigma.values)
    try:
        return jax.tree.map(lambda s, sub: jax.tree.map(lambda _: s, sub), tree, meta_params)
    except ValueError as error:
        raise ValueError(
            f"sigma must be one number or a tree like the meta-parameters, but {short(tree)} is no "
            f"prefix of {short(jax.tree.structure(meta_params), 200)}."
        ) from error


def gaussian(sigma: Sigma, meta_params: MetaParams) -> Draw:
    """Random key -> epsilon ~ N(0, sigma^2), a tree like `meta_params`."""
    leaves, structure = jax.tree.flatten(meta_params)
    deviations = jax.tree.leaves(scales(sigma, meta_params))

    def draw(key):
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(
            s * jax.random.normal(k, leaf.shape, leaf.dtype)
            for s, k, leaf in zip(deviations, keys, leaves, strict=True)
        )

    return draw


def score(
    coefficients: jax.Array,
    redrawn: jax.Array,
    restarted: jax.Array,
    keys: Key,
    new_keys: Key,
    total: PyTree,
    draw: Draw,
) -> tuple[PyTree, PyTree]:
    """The sum over a window's steps of coefficient * xi, for each pair by itself.

    Args:
        coefficients: float32 `[num_steps, tasks, pairs]`, weighted differences of losses.
        redrawn: bool, same shape: new noise was drawn before the step.
        restarted: bool, same shape: an episode began there, whose losses know nothing of the noise
            before.
        keys: `[tasks, pairs]`, of the noise in use before the window.
        new_keys: `[tasks, pairs]`; noise drawn before step j is that of `fold(new_keys, j)`.
        total: xi before the window, leaves `[tasks, pairs, ...]`; `None` where xi is always the
            noise in use.
        draw: key -> noise, a tree like the meta-parameters.

    Returns:
        the sums, a tree of leaves `[tasks, pairs, ...]`, and xi after the window.
    """
    accumulates = total is not None

    def renewed(keys, total, number, redrawn, restarted):
        keys = select(redrawn, fold(new_keys, number), keys)
        eps = draw_all(draw, keys)
        if not accumulates:
            return keys, eps
        more = jax.tree.map(jnp.add, total, eps)
        return keys, select(restarted, eps, select(redrawn, more, total))

    def add(sums, pending, xi):
        def one(s, x):
            factor = pending.reshape(pending.shape + (1,) * (x.ndim - 2))
            return s + factor * x.astype(jnp.float32)

        return jax.tree.map(one, sums, xi)

    def step(carry, inputs):
        number, coefficient, redrawn, restarted = inputs
        changed = (number > 0) & (redrawn | restarted).any()

        def change(keys, xi, sums, pending):
            keys, after = renewed(keys, xi, number, redrawn, restarted)
            return keys, after, add(sums, pending, xi), jnp.zeros_like(pending)

        keys, xi, sums, pending = jax.lax.cond(changed, change, lambda *same: same, *carry)
        return (keys, xi, sums, pending + coefficient), None

    keys, xi = renewed(keys, total, 0, redrawn[0], restarted[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), xi)
    carry = (keys, xi, zeros, jnp.zeros_like(coefficients[0]))
    numbers = jnp.arange(coefficients.shape[0])
    carry, _ = jax.lax.scan(step, carry, (numbers, coefficients, redrawn, restarted))
    _, xi, sums, pending = carry
    return add(sums, pending, xi), xi if accumulates else None


def gradient_sum(sums: PyTree, fine: jax.Array, deviations: PyTree) -> PyTree:
    """Sums of `score` -> the sum over fine pairs of their meta-gradients, float32.

    Args:
        sums: leaves `[tasks, pairs, ...]`, of the differences L(phi + epsilon) - L(phi - epsilon).
        fine: bool `[tasks, pairs]`, which count.
        deviations: sigma for each leaf.
    """
    kept = select(fine, sums, jax.tree.map(jnp.zeros_like, sums))
    return jax.tree.map(lambda s, d: s.sum(axis=(0, 1)) / (2 * d**2), kept, deviations)


def window_coefficients(
    values: jax.Array,
    starts: jax.Array,
    restarted: jax.Array,
    weights: jax.Array,
    *,
    delta: bool,
    sign: bool,
) -> tuple[jax.Array, jax.Array]:
    """Weighted objectives of a window, and the coefficients of the noise.

    Args:
        values: float32 `[num_steps, tasks, pairs, 2]`, the objective after each step.
        starts: float32, same shape: the objective before each step.
        restarted: bool `[num_steps, tasks, pairs]`.
        weights: float32 `[num_steps, tasks]`.
        delta: take each value relative to the same optimizee's where the window, or a later
            episode in it, began.
        sign: keep of a pair's difference over the window its sign alone, spread over the steps in
            proportion to their weights.

    Returns:
        the sum over steps, `[tasks, pairs, 2]`, and coefficients `[num_steps, tasks, pairs]`.
    """
    if delta:
        numbers = jnp.arange(values.shape[0]).reshape(-1, 1, 1)
        latest = jax.lax.cummax(jnp.where(restarted, numbers, 0), axis=0)
        values = values - jnp.take_along_axis(starts, latest[..., None], axis=0)
    weighted = weights[..., None, None] * values
    # A value without a weight may be infinite: 0 * inf is no number.
    weighted = jnp.where(weights[..., None, None] == 0, 0, weighted)
    differences = weighted[..., 0] - weighted[..., -1]
    if sign:
        share = weights / jnp.maximum(weights.sum(axis=0), jnp.finfo(jnp.float32).tiny)
        differences = jnp.sign(differences.sum(axis=0)) * share[..., None]
    return weighted.sum(axis=0), differences


def least_alone(values: jax.Array, weights: jax.Array) -> jax.Array:
    """`values` with 0 in place of all but each optimizee's least where there is a weight.

    Args:
        values: float32 `[num_steps, tasks, pairs, 2]`.
        weights: float32 `[num_steps, tasks]`.

    Returns:
        as `values`: their weighted sum over steps is the weighted least.
    """
    counted = jnp.where(weights[..., None, None] > 0, values, jnp.inf)
    steps = jnp.arange(values.shape[0]).reshape(-1, 1, 1, 1)
    # A NaN counts as the least: so an optimizee that diverged is left out.
    return jnp.where(steps == jnp.argmin(counted, axis=0), values, 0)


def largest_divisor(number: int, bound: int) -> int:
    """The largest divisor of `number` that is at most `bound`, a positive integer."""
    return next(d for d in range(min(number, bound), 0, -1) if number % d == 0)
