"""What several optimizers would do along the trajectory of one of them (paper, Appendix B)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from l2ljax.base import Key, Task
from l2ljax.checks import check_positive_int
from l2ljax.unrolling import loss_and_gradients, sample_optimizee


def proposed_updates(
    task: Task,
    leader: optax.GradientTransformation,
    others: Mapping[str, optax.GradientTransformation],
    key: Key,
    *,
    num_steps: int,
    num_coordinates: int,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Updates that `leader` makes and that `others` propose at the same gradients.

    Only the leader moves the parameters; the others' states see the same gradients. Coordinates are
    drawn at random among those whose gradient is not always zero.

    Args:
        task: where the optimizee comes from.
        leader: the optimizer whose trajectory it is.
        others: name -> optimizer.
        key: draws optimizee, minibatches and coordinates.
        num_steps: inner steps.
        num_coordinates: coordinates to report.

    Returns:
        the leader's updates `[num_steps, num_coordinates]`, the gradients of the same shape, and
        name -> proposed updates.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> updates, gradients, proposed = proposed_updates(
        ...     quadratic(),
        ...     optax.sgd(0.01),
        ...     {"adam": optax.adam(0.1)},
        ...     jax.random.key(0),
        ...     num_steps=5,
        ...     num_coordinates=3,
        ... )
        >>> updates.shape, bool(jnp.allclose(updates, -0.01 * gradients)), list(proposed)
        ((5, 3), True, ['adam'])
    """
    check_positive_int("num_steps", num_steps)
    check_positive_int("num_coordinates", num_coordinates)
    transforms = {"": leader, **others}
    sample_key, run_key, choice_key = jax.random.split(key, 3)

    @jax.jit
    def run(task, sample_key, run_key):
        instance, params = sample_optimizee(task, sample_key)

        def step(carry, key):
            params, states = carry
            batch = task.batch(task.data, instance, key)
            _, gradients = loss_and_gradients(task, params, batch)
            stepped = {
                name: optax.with_extra_args_support(tx).update(gradients, states[name], params)
                for name, tx in transforms.items()
            }
            updates = {name: update for name, (update, _) in stepped.items()}
            states = {name: state for name, (_, state) in stepped.items()}
            flat = {name: ravel_pytree(update)[0] for name, update in updates.items()}
            return (optax.apply_updates(params, updates[""]), states), (
                ravel_pytree(gradients)[0],
                flat,
            )

        states = {name: tx.init(params) for name, tx in transforms.items()}
        return jax.lax.scan(step, (params, states), jax.random.split(run_key, num_steps))[1]

    gradients, updates = run(task, sample_key, run_key)
    moved = jnp.abs(gradients).max(axis=0) > 0
    chosen = jax.random.choice(
        choice_key, gradients.shape[1], (num_coordinates,), replace=False, p=moved / moved.sum()
    )
    picked = {name: update[:, chosen] for name, update in updates.items()}
    return picked.pop(""), gradients[:, chosen], picked


def responses(
    tx: optax.GradientTransformation,
    gradients: jax.Array,
    values: jax.Array,
    at_steps: Sequence[int],
) -> jax.Array:
    """Updates that `tx` would make if the next gradient were each of `values`.

    Args:
        tx: a coordinatewise optimizer that does not read the parameters.
        gradients: of the coordinates along a trajectory, `[num_steps, num_coordinates]`.
        values: what the next gradient might be, `[num_values]`.
        at_steps: inner steps, each below `num_steps`; the optimizer has seen the gradients before.

    Returns:
        `[len(at_steps), num_values, num_coordinates]`.

    Raises:
        ValueError: for a step that the trajectory does not have.

    Example:
        >>> seen, values = jnp.ones((4, 2)), jnp.array([-1.0, 1.0])
        >>> responses(optax.sgd(0.5), seen, values, [3])[0, :, 0]
        Array([ 0.5, -0.5], dtype=float32)
    """
    num_steps, num_coordinates = gradients.shape
    if any(not 0 <= step < num_steps for step in at_steps):
        raise ValueError(f"at_steps must lie in 0 ... {num_steps - 1}, got {tuple(at_steps)}.")
    tx = optax.with_extra_args_support(tx)

    def respond(state, value):
        return jnp.asarray(tx.update(jnp.full(num_coordinates, value), state)[0])

    def step(state, gradient):
        would = jax.vmap(respond, in_axes=(None, 0))(state, values)
        return tx.update(gradient, state)[1], would

    def run() -> jax.Array:
        answers: Any = jax.lax.scan(step, tx.init(jnp.zeros(num_coordinates)), gradients)[1]
        return answers[jnp.asarray(at_steps)]

    return jax.jit(run)()
