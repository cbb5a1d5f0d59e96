"""`check_learned_optimizer` refuses what has nothing to learn, and what small steps would hide."""

import jax
import jax.numpy as jnp
import optax
import pytest

import l2ljax
from l2ljax.base import CoordinateGroup, LearnedOptimizer

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}


def adam(log_rate):
    """Additive, with extra arguments as optimizers' parts have them."""
    tx = optax.chain(optax.scale_by_adam(), optax.scale(-jnp.exp(log_rate)))
    return optax.with_extra_args_support(tx)


def coordinates(make):
    """All leaves in one group."""
    return lambda params: (CoordinateGroup(tuple(range(len(jax.tree.leaves(params)))), make),)


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 1e-1])
def test_a_clip_that_the_groups_do_not_have_is_found_at_any_rate(rate):
    """Adam divides by the gradient's size: only a size that varies tells of a clip before it."""

    def transform(log_rate):
        clip = optax.clip_by_global_norm(0.1)
        return optax.with_extra_args_support(optax.chain(clip, adam(log_rate)))

    def optimizer(transform):
        return LearnedOptimizer(
            init=lambda key: jnp.log(rate),
            transform=transform,
            coordinate_groups=coordinates(adam),
        )

    l2ljax.check_learned_optimizer(optimizer(adam), PARAMS)
    with pytest.raises(ValueError, match=r"recorded backward pass.*leave coordinate_groups out"):
        l2ljax.check_learned_optimizer(optimizer(transform), PARAMS)


def test_a_rule_that_ignores_its_meta_parameters_is_refused():
    """Its meta-gradient is 0 whatever the task."""
    idle = LearnedOptimizer(
        init=lambda key: jnp.zeros(3),
        transform=lambda meta_params: optax.with_extra_args_support(optax.sgd(0.1)),
    )
    with pytest.raises(ValueError, match=r"0 in every entry.*depend on meta_params"):
        l2ljax.check_learned_optimizer(idle, PARAMS)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rules_are_right_in_half_precision_too(dtype):
    """The scan sums a parameter's slope in its dtype, the recorded pass in float32."""
    l2ljax.check_learned_optimizer(l2ljax.lstm((4,)), jax.tree.map(dtype, PARAMS))
