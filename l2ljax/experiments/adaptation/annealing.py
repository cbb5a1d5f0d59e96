"""Adam with a cosine whose length is a number in its state, so that any length is one program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


class SameUpdate(optax.GradientTransformationExtraArgs):
    """Transformations with one `update`; equal ones may differ in what their `init` puts there.

    As static arguments of a compiled function they stand for one program.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameUpdate) and self.update is other.update

    def __hash__(self) -> int:
        return hash(self.update)


def annealed_adam(
    learning_rate: float, clip_norm: float
) -> Callable[[int], optax.GradientTransformationExtraArgs]:
    """Number of updates -> Adam with a cosine to 0 over so many, behind clipping by global norm.

    Example:
        >>> make = annealed_adam(1e-3, clip_norm=1.0)
        >>> make(10) == make(20)
        True
        >>> params = jnp.zeros(2)
        >>> [float(make(n).init(params).hyperparams["num_updates"]) for n in (10, 20)]
        [10.0, 20.0]
    """

    def with_length(num_updates):
        def rate(count: jax.typing.ArrayLike) -> jax.Array:
            return (
                learning_rate
                * 0.5
                * (1 + jnp.cos(jnp.pi * jnp.minimum(jnp.asarray(count) / num_updates, 1)))
            )

        return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(rate))

    injected = optax.inject_hyperparams(with_length)
    update = injected(num_updates=1.0).update
    return lambda n: SameUpdate(injected(num_updates=float(n)).init, update)
