"""Gradient -> network features, one coordinate at a time.

Gradients span many orders of magnitude, networks want inputs of order one. `log_sign` is the
preprocessing of Andrychowicz et al. (2016), Appendix A; `identity` passes the gradient on.

Features stack on a new *first* axis, so that they work alike on one coordinate (`[] -> [F]`) and on
a whole parameter (`[*shape] -> [F, *shape]`). The objects compare and hash by value, which lets a
network that holds one be a static argument of `jax.jit`.
"""

import dataclasses
import math
from types import MappingProxyType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class Preprocess(Protocol):
    """What a network needs of its preprocessing: the features and how many they are."""

    @property
    def num_features(self) -> int:
        """How many features each coordinate's gradient becomes."""
        ...

    def __call__(self, gradient: jax.Array) -> jax.Array:
        """`[*shape]` float -> `[num_features, *shape]`, same dtype."""
        ...


@dataclasses.dataclass(frozen=True)
class _Identity:
    num_features = 1
    specification = MappingProxyType({"name": "identity"})

    def __call__(self, gradient: jax.Array) -> jax.Array:
        return jnp.asarray(gradient)[None]


def _at_least_float32(dtype: Any) -> Any:
    """By itself: JAX's promotion refuses in its strict mode."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


@dataclasses.dataclass(frozen=True)
class _LogSign:
    p: float
    num_features = 2

    @property
    def specification(self) -> dict[str, Any]:
        return {"name": "log_sign", "p": self.p}

    def __call__(self, gradient: jax.Array) -> jax.Array:
        dtype = jnp.asarray(gradient).dtype
        gradient = jnp.asarray(gradient, _at_least_float32(dtype))
        magnitude = jnp.abs(gradient)
        large = magnitude >= math.exp(-self.p)
        # The inner `where` keeps log away from 0: its infinite slope there would turn the unused
        # branch's zero cotangent into NaN as soon as somebody differentiates through the gradient.
        log_magnitude = jnp.log(jnp.where(large, magnitude, 1.0))
        # Likewise e^p g of a huge gradient must not overflow in the branch that is not used.
        small = jnp.where(large, 0.0, gradient)
        return jnp.stack(
            [
                jnp.where(large, log_magnitude / self.p, -1.0),
                jnp.where(large, jnp.sign(gradient), math.exp(self.p) * small),
            ]
        ).astype(dtype)


@dataclasses.dataclass(frozen=True)
class _LogAndSign:
    k: float
    num_features = 2

    @property
    def specification(self) -> dict[str, Any]:
        return {"name": "log_and_sign", "k": self.k}

    def __call__(self, gradient: jax.Array) -> jax.Array:
        dtype = jnp.asarray(gradient).dtype
        gradient = jnp.asarray(gradient, _at_least_float32(dtype))
        magnitude = jnp.log(jnp.abs(gradient) + float(np.finfo(np.float32).eps)) / self.k
        # Clipped before it is scaled, as e^k g of a huge gradient would overflow.
        bound = math.exp(-self.k)
        sign = jnp.clip(gradient, -bound, bound) * math.exp(self.k)
        return jnp.stack([jnp.maximum(magnitude, -1.0), sign]).astype(dtype)


@dataclasses.dataclass(frozen=True)
class _Given:
    num_features: int

    def __call__(self, gradient: jax.Array) -> jax.Array:
        return jnp.asarray(gradient)


def given(num_features: int) -> Preprocess:
    """For networks that are handed features `[num_features, *shape]` instead of a gradient."""
    return _Given(num_features)


def identity() -> Preprocess:
    """The gradient itself as the only feature (the paper's choice for quadratics).

    Returns:
        a `Preprocess` with one feature: float `[*shape]` -> `[1, *shape]`, same dtype.

    Example:
        >>> [float(feature) for feature in identity()(jnp.array(-0.5))]
        [-0.5]
    """
    return _Identity()


def log_sign(p: float = 10.0) -> Preprocess:
    """The gradient's log magnitude and sign, two features (Andrychowicz et al. 2016, Appendix A).

    `(log|g| / p, sgn g)` where `|g| >= e^-p`, else `(-1, e^p g)`. Larger `p` keeps smaller
    gradients apart. The derivative is finite for every finite `g`, 0 and denormals included.

    Args:
        p: natural log of the factor by which gradients may shrink before they count as small;
            0 < p <= 80 (beyond that e^-p is no normal float32).

    Returns:
        a `Preprocess` with two features: float `[*shape]` -> `[2, *shape]`, same dtype.

    Raises:
        ValueError: if `p` is not a number in that range.

    Example:
        >>> [round(float(feature), 3) for feature in log_sign(10.0)(jnp.array(-1.0e-2))]
        [-0.461, -1.0]
    """
    if not (isinstance(p, int | float) and not isinstance(p, bool) and 0 < p <= 80):
        raise ValueError(
            f"log_sign needs a number p with 0 < p <= 80, got p={p!r}; use p=10 as the paper does."
        )
    return _LogSign(float(p))


def log_and_sign(k: float = 5.0) -> Preprocess:
    """The log magnitude and sign as DeepMind's released code computes them.

    `(max(log(|g| + eps) / k, -1), clip(e^k g, -1, 1))` with eps = 2^-23. Up to eps it is
    `log_sign(k)`; weights trained with https://github.com/google-deepmind/learning-to-learn expect
    it as it stands, with k = 5.

    Args:
        k: natural log of the factor by which gradients may shrink before they count as small;
            0 < k <= 80.

    Returns:
        a `Preprocess` with two features: float `[*shape]` -> `[2, *shape]`, same dtype.

    Raises:
        ValueError: if `k` is not a number in that range.

    Example:
        >>> [round(float(feature), 3) for feature in log_and_sign(5.0)(jnp.array(-1.0e-2))]
        [-0.921, -1.0]
    """
    if not (isinstance(k, int | float) and not isinstance(k, bool) and 0 < k <= 80):
        raise ValueError(
            f"log_and_sign needs a number k with 0 < k <= 80, got k={k!r}; use k=5 as DeepMind's "
            "code does."
        )
    return _LogAndSign(float(k))
