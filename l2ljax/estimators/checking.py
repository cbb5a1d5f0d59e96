"""Does a learned optimizer keep what estimators take it at its word for?"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams, Params, PyTree, Task
from l2ljax.checks import check_optimizer, path_name
from l2ljax.estimators._truncated_bptt import truncated_bptt
from l2ljax.estimators.groups import coordinate_groups
from l2ljax.optimizers import partition

NUM_STEPS, NUM_TASKS = 4, 2
TOLERANCE = 1e-4
"""Of float32 sums in another order, relative to the largest entry of a meta-gradient."""

EPSILONS = 8
"""In parameters of half precision one pass sums in their dtype: so many of its epsilons."""


def check_learned_optimizer(optimizer: LearnedOptimizer, params: Params) -> None:
    """Tries a learned optimizer by every path that meta-training may take, on a small problem.

    Parabolas of `params` are minimised for four steps, and the meta-gradient is computed by
    backpropagation through the rollout and, where `coordinate_groups` or `tensor_groups` are
    declared, by the recorded backward pass: whole, in chunks of three coordinates (or of one
    tensor), inside nested partitions, and with a gradient that is NaN in one coordinate of one
    optimizee. All must agree.

    Args:
        optimizer: the learned optimizer.
        params: parameters of the kind that it is for: arrays, the fewer the quicker.

    Raises:
        ValueError: naming what differs, by how much, and what to do.
        TypeError: for what is no learned optimizer.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> check_learned_optimizer(lstm((4,)), {"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    """
    check_optimizer("optimizer", optimizer)
    meta_params = optimizer.init(jax.random.key(0))
    if not jax.tree.leaves(meta_params):
        raise ValueError("init of this learned optimizer gives no meta-parameters to train.")
    task, sick = _parabolas(params), _parabolas(params, nan=True)
    by_scan = _estimate(task, optimizer, meta_params, backward="scan")
    compare = functools.partial(_compare, _tolerance(params))
    if all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(by_scan[1])):
        raise ValueError(
            "The meta-gradient of this learned optimizer is 0 in every entry, so that nothing can "
            "be learned; let the updates of transform(meta_params) depend on meta_params."
        )
    again = _estimate(task, optimizer, meta_params, backward="scan")
    compare(by_scan, again, "two calls with the same arguments", "make its functions pure")
    if optimizer.groups is None:
        return
    batch = jax.tree.map(lambda p: jnp.stack([p] * NUM_TASKS), params)
    coordinate_groups(optimizer, batch)  # refuses with a sentence of its own
    remedy, declared, chunks = _DECLARED[optimizer.coordinate_groups is None]
    for what, chunk in (("the recorded backward pass", None), (chunks, 3)):
        found = _estimate(task, optimizer, meta_params, backward="recorded", chunk_size=chunk)
        compare(by_scan, found, f"backpropagation through the rollout and {what}", remedy)
    nested, inside = _nested(optimizer, meta_params)
    found = _estimate(task, nested, inside, backward="recorded")
    compare(
        by_scan,
        (found[0], found[1]["outer"]["inner"]),
        "the rule alone and in partitions",
        f"let {declared} read nothing but paths, shapes and dtypes of the tree it is given",
    )
    healthy = _estimate(sick, optimizer, meta_params, backward="scan")
    found = _estimate(sick, optimizer, meta_params, backward="recorded")
    compare(healthy, found, "the two passes where a gradient is NaN", remedy)


_DECLARED = {
    False: (
        "leave coordinate_groups out, or let its rule treat coordinates alike, alone, by gradients",
        "coordinate_groups",
        "chunks of three coordinates",
    ),
    True: (
        "leave tensor_groups out, or let its rule treat tensors alike, alone, by g and params",
        "tensor_groups",
        "chunks of one tensor",
    ),
}
"""What to do, what it declares and what chunks are, for coordinates and for tensors."""


def _estimate(task: Task, optimizer: LearnedOptimizer, meta_params: MetaParams, **options: Any):
    estimator = truncated_bptt(
        task,
        optimizer,
        num_tasks=NUM_TASKS,
        episode_length=NUM_STEPS,
        unroll_length=NUM_STEPS,
        **options,
    )

    @jax.jit
    def run(estimator, meta_params):
        state = estimator.init(jax.random.key(1), meta_params)
        return estimator.estimate(meta_params, state, jax.random.key(2))[:2]

    return run(estimator, meta_params)


def _nested(optimizer: LearnedOptimizer, meta_params: MetaParams):
    """The optimizer as the only busy member of a partition in a partition."""
    inner = partition({"inner": optimizer, "idle": optimizer}, lambda p: _all(p, "inner"))
    outer = partition({"outer": inner, "idle": optimizer}, lambda p: _all(p, "outer"))
    return outer, {"outer": {"inner": meta_params, "idle": meta_params}, "idle": meta_params}


def _all(params: Params, label: str) -> PyTree:
    return jax.tree.map(lambda _: label, params)


def _parabolas(params: Params, nan: bool = False) -> Task:
    """Sum over coordinates of s c_i (theta_i - b_i)^2 / 2, c between 1/2 and 3/2; see `_poisoned`.

    s is drawn anew for each step, from 1/8 to 8: a rule that divides by a gradient's size, in steps
    too small to change it, would otherwise hide what is done to that size.
    """

    def random_like(key, low, high):
        leaves, treedef = jax.tree.flatten(params)
        keys = jax.random.split(key, max(1, len(leaves)))
        return treedef.unflatten(
            [
                jax.random.uniform(k, jnp.shape(p), jnp.result_type(p), low, high)
                for k, p in zip(keys, leaves, strict=False)
            ]
        )

    def sample(data, key):
        curvature, centre, which = jax.random.split(key, 3)
        sick = jax.random.uniform(which) < 0.5 if nan else jnp.zeros([], bool)
        return random_like(curvature, 0.5, 1.5), random_like(centre, -1.0, 1.0), sick

    def batch(data, instance, key):
        return instance, 2.0 ** jax.random.uniform(key, (), minval=-3.0, maxval=3.0)

    def loss(params, batch):
        (curvature, centre, sick), strength = batch
        params = _poisoned(params, sick)
        terms = jax.tree.map(
            lambda p, c, b: 0.5 * jnp.sum((c * jnp.square(p - b)).astype(jnp.float32)),
            params,
            curvature,
            centre,
        )
        return strength * sum(jax.tree.leaves(terms), jnp.zeros([]))

    def init(instance, key):
        del instance, key
        return jax.tree.map(jnp.asarray, params)

    return Task(init=init, loss=loss, sample=sample, batch=batch)


def _poisoned(params: Params, sick: jax.Array) -> Params:
    """`params`, the gradient of whose first coordinate is NaN where `sick`."""
    leaves, treedef = jax.tree.flatten(params)
    first = next((i for i, leaf in enumerate(leaves) if leaf.size), None)
    if first is not None:
        leaves[first] = _with_nan_gradient(leaves[first], sick)
    return treedef.unflatten(leaves)


@jax.custom_vjp
def _with_nan_gradient(param: jax.Array, sick: jax.Array) -> jax.Array:
    del sick
    return param


def _forward(param, sick):
    return param, sick


def _backward(sick, cotangent):
    flat = cotangent.ravel()
    flat = flat.at[0].set(jnp.where(sick, jnp.nan, flat[0]))
    return flat.reshape(cotangent.shape), np.zeros(sick.shape, jax.dtypes.float0)


_with_nan_gradient.defvjp(_forward, _backward)


def _tolerance(params: Params) -> float:
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    return max([TOLERANCE, *(EPSILONS * float(jnp.finfo(dtype).eps) for dtype in dtypes)])


def _compare(tolerance: float, one: Any, other: Any, what: str, remedy: str) -> None:
    ours = jax.tree_util.tree_leaves_with_path({"meta-loss": one[0], "meta-gradient": one[1]})
    theirs = jax.tree.leaves({"meta-loss": other[0], "meta-gradient": other[1]})
    for (path, a), b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = max(np.abs(a[np.isfinite(a)]).max(initial=0), 1e-6)
        if not np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True):
            worst = np.abs(a - b).max(initial=0)
            raise ValueError(
                f"This learned optimizer gives different results by {what}: {path_name(path)} "
                f"differs by {worst:.3g} of {scale:.3g}; {remedy}."
            )
