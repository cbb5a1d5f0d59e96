"""Noise: on gradients, in place of gradients, on labels."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int, check_task, is_number, short
from l2ljax.tasks.minibatch import draws, with_draws
from l2ljax.tasks.transforms.carried import With, around, own_key, with_slope


def noisy_gradients(task: Task, stddev: float, *, relative: bool = False) -> Task:
    """Normal noise on every gradient, new in each step; the loss itself is untouched.

    Args:
        task: any task.
        stddev: of the noise on each coordinate, above 0.
        relative: in units of the root mean square of each tensor's gradient. The noise is then
            added where the gradient is formed, and the loss has no forward-mode derivative.

    Returns:
        a task with the same params and losses.

    Raises:
        ValueError: for a `stddev` that is no positive number.

    Example:
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> task = noisy_gradients(parabola, 0.1)
        >>> batch = task.batch((), (), jax.random.key(0))
        >>> value, slope = jax.value_and_grad(task.loss)(jnp.ones(()), batch)
        >>> float(value), float(slope) != 2.0
        (1.0, True)
    """
    check_task(task)
    check_number("stddev", stddev, above=0)

    def batch(data: PyTree, instance: Instance, key: Key) -> With:
        return With(task.batch(data, instance, key), own_key(task.batch, key))

    def noisy(inner: Callable[[Params], jax.Array], params: Params, key: Key) -> jax.Array:
        leaves, treedef = jax.tree.flatten(params)
        keys = jax.random.split(key, max(1, len(leaves)))
        noise = treedef.unflatten(
            [
                stddev * jax.random.normal(key, jnp.shape(leaf), jnp.result_type(leaf))
                for leaf, key in zip(leaves, keys, strict=False)
            ]
        )
        if relative:
            return inner(jax.tree.map(_with_relative_noise, params, noise))
        return with_slope(inner(params), params, noise)

    counted = with_draws(batch, draws(task.batch) + 1)
    return dataclasses.replace(task, loss=around(task, noisy), batch=counted)


def es_gradients(task: Task, num_pairs: int, sigma: float = 0.01) -> Task:
    """Gradients estimated by evolution strategies, as where a loss cannot be differentiated.

    The gradient is the mean over `num_pairs` antithetic pairs of
    epsilon (f(theta + epsilon) - f(theta - epsilon)) / (2 sigma^2), epsilon ~ N(0, sigma^2), new in
    each step, and the loss the mean of all those f (the ESWrapped tasks of VeLO's suite, Metz et
    al. 2022, arXiv:2211.09760).

    Args:
        task: any task; its loss need not be differentiable.
        num_pairs: antithetic pairs.
        sigma: standard deviation of the perturbations, above 0.

    Returns:
        a task with the same params.

    Raises:
        ValueError: for a count or a sigma that is not positive, and a task with `init_state`.

    Example:
        >>> steps = Task(init=lambda _, key: jnp.ones(2), loss=lambda x, _: jnp.floor(x).sum())
        >>> task = es_gradients(steps, num_pairs=4)
        >>> jax.grad(task.loss)(jnp.ones(2), task.batch((), (), jax.random.key(0))).shape
        (2,)
    """
    check_task(task)
    if task.init_state is not None:
        raise ValueError(
            "es_gradients looks at the loss at many places, after which a task's state would be "
            "that of none; give a task without init_state."
        )
    check_positive_int("num_pairs", num_pairs)
    check_number("sigma", sigma, above=0)

    def batch(data: PyTree, instance: Instance, key: Key) -> With:
        return With(task.batch(data, instance, key), own_key(task.batch, key))

    def loss(params: Params, batch: With) -> jax.Array:
        here = jax.lax.stop_gradient(params)

        def pair(key):
            leaves, treedef = jax.tree.flatten(here)
            keys = jax.random.split(key, max(1, len(leaves)))
            epsilon = treedef.unflatten(
                [
                    sigma * jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
                    for leaf, k in zip(leaves, keys, strict=False)
                ]
            )
            above = task.loss(jax.tree.map(jnp.add, here, epsilon), batch.inner)
            below = task.loss(jax.tree.map(jnp.subtract, here, epsilon), batch.inner)
            slope = jax.tree.map(lambda e: e * ((above - below) / (2 * sigma**2)), epsilon)
            return (above + below) / 2, slope

        values, slopes = jax.vmap(pair)(jax.random.split(batch.extra, num_pairs))
        slope = jax.tree.map(lambda s: s.mean(0), slopes)
        return with_slope(jax.lax.stop_gradient(values.mean()), params, slope)

    counted = with_draws(batch, draws(task.batch) + 1)
    return dataclasses.replace(task, loss=loss, batch=counted)


def noisy_labels(task: Task, share: float, num_classes: int) -> Task:
    """Wrong labels: each label of a minibatch is replaced by a random one with probability `share`.

    Args:
        task: one whose batches have a field `labels`, such as `l2ljax.tasks.mlp`.
        share: probability in (0, 1].
        num_classes: of the labels; the random one may be the right one.

    Returns:
        a task with the same params and, but for the labels, the same batches.

    Raises:
        ValueError: for a share that is none, and (when a batch is drawn) for batches without
            labels.

    Example:
        >>> from l2ljax.tasks import mlp
        >>> digits = (jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = noisy_labels(mlp(digits, batch_size=16), 0.2, num_classes=10)
        >>> task.batch(task.data, (), jax.random.key(0)).labels.shape
        (16,)
    """
    check_task(task)
    if not (is_number(share) and 0 < share <= 1):
        raise ValueError(f"share must be a probability in (0, 1], got {short(share)}.")
    check_positive_int("num_classes", num_classes)

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        clean = task.batch(data, instance, key)
        return _noisy(clean, own_key(task.batch, key), share, num_classes)

    return dataclasses.replace(task, batch=with_draws(batch, draws(task.batch) + 1))


def _noisy(batch: Batch, key: Key, share: float, num_classes: int) -> Batch:
    """`batch` with noise on its labels, which other transforms may have wrapped."""
    if isinstance(batch, With):
        return batch._replace(inner=_noisy(batch.inner, key, share, num_classes))
    if not hasattr(batch, "labels") or not hasattr(batch, "_replace"):
        raise ValueError(
            "noisy_labels needs a task whose batches are NamedTuples with a field labels, such as "
            f"l2ljax.tasks.mlp(...), got a batch of type {type(batch).__name__}."
        )
    which, other = jax.random.split(key)
    wrong = jax.random.bernoulli(which, share, batch.labels.shape)
    labels = jax.random.randint(other, batch.labels.shape, 0, num_classes, batch.labels.dtype)
    return batch._replace(labels=jnp.where(wrong, labels, batch.labels))


@jax.custom_vjp
def _with_relative_noise(param: jax.Array, noise: jax.Array) -> jax.Array:
    del noise
    return param


def _noise_forward(param, noise):
    return param, noise


def _noise_backward(noise, cotangent):
    rms = jnp.sqrt(jnp.mean(jnp.square(cotangent)))
    return cotangent + rms * noise, jnp.zeros_like(noise)


_with_relative_noise.defvjp(_noise_forward, _noise_backward)
