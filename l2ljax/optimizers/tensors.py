"""The moments that small_fc and Celo2 keep of each tensor, and the transformation around a rule.

After Metz et al. (2022, arXiv:2203.11860): running averages of the gradient and its square at
several decays, and of its square over rows and columns, as Adafactor's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import PyTree
from l2ljax.checks import check_like, check_real_floating
from l2ljax.optimizers.features import (
    FactoredMoments,
    update_factored_moments,
    update_moments,
    zero_factored_moments,
    zero_moments,
)
from l2ljax.optimizers.sharding import axis_in_front
from l2ljax.optimizers.update_inputs import check_params


class Decays(NamedTuple):
    """Decays of the moments, `[number]` each."""

    momentum: Any
    second_moment: Any
    factored: Any


class MomentsState(NamedTuple):
    """State of `scale_by_small_fc` and `scale_by_celo2`: float32 trees like the parameters.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        momentum: `[number, *param.shape]`, averages of g at several decays.
        second_moment: likewise of g^2.
        row: averages of g^2 over rows, see `FactoredMoments`.
        column: over columns.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momentum: PyTree
    second_moment: PyTree
    row: PyTree
    column: PyTree


CALL = "call update(gradients, state, params)"
"""What to do where the parameters are missing."""

Rule = Callable[[jax.Array, jax.Array, jax.Array, Any], jax.Array]
"""(count, gradient, param, its moments as a `MomentsState`) -> step, float32 of Optax's sign."""


def scale_by_rule(
    rule: Rule, decays: Decays, name: str, clip: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """An Optax transformation that moves the moments of each tensor and then asks its `rule`.

    Args:
        rule: sees the moments after this gradient.
        decays: of the moments.
        name: of the transformation, for its refusals.
        clip: largest size of a gradient's entry in the moments; `None`: no bound.
    """
    numbers = [np.shape(d)[0] for d in decays]

    def init(params: PyTree) -> MomentsState:
        check_real_floating(params, "parameter")

        def of(make: Callable[[jax.Array], jax.Array]) -> PyTree:
            return axis_in_front(jax.tree.map(lambda param: make(jnp.asarray(param)), params))

        return MomentsState(
            count=jnp.zeros([], jnp.int32),
            momentum=of(lambda param: zero_moments(param, numbers[0])),
            second_moment=of(lambda param: zero_moments(param, numbers[1])),
            row=of(lambda param: zero_factored_moments(param, numbers[2]).row),
            column=of(lambda param: zero_factored_moments(param, numbers[2]).column),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, MomentsState]:
        del extra_args
        check_real_floating(updates, "gradient")
        check_like(
            jax.eval_shape(init, updates)[1:],
            tuple(state[1:]),
            f"the state of {name}",
            "give update() gradients like the parameters that init() was given",
        )
        gradients, treedef = jax.tree.flatten(updates)
        if params is None and gradients:
            raise ValueError(f"{name} reads the parameters, got params=None; {CALL}.")
        check_params(name, updates, params)
        # Leaf by leaf: boxes around a state's arrays name more axes than those of the parameters.
        columns = [jax.tree.leaves(tree) for tree in (params, *state[1:])]
        of_one = jax.jit(one)  # traced once for tensors that are alike
        stepped = [
            of_one(state.count, jnp.asarray(gradient), jnp.asarray(param), *moments)
            for gradient, param, *moments in zip(gradients, *columns, strict=True)
        ]
        treedefs = [treedef, *map(jax.tree.structure, state[1:])]
        results = list(zip(*stepped, strict=True)) or [()] * 5
        step, *moments = [d.unflatten(r) for d, r in zip(treedefs, results, strict=True)]
        return step, MomentsState(jnp.asarray(optax.safe_increment(state.count)), *moments)

    def one(count, gradient, param, momentum, second_moment, row, column):
        if not gradient.size:
            return gradient, momentum, second_moment, row, column
        g = bounded(gradient.astype(jnp.float32), clip)
        momentum = update_moments(momentum, g, decays.momentum)
        second_moment = update_moments(second_moment, g * g, decays.second_moment)
        lines = update_factored_moments(FactoredMoments(row, column), g, decays.factored)
        moments = MomentsState(count, momentum, second_moment, *lines)
        step = rule(count, gradient, param, moments)
        return (step.astype(gradient.dtype), *moments[1:])

    return optax.GradientTransformationExtraArgs(init, update)


def bounded(x: jax.Array, clip: float | None) -> jax.Array:
    """`x`, its entries cut to the size `clip`, if there is one."""
    return x if clip is None else jnp.clip(x, -clip, clip)
