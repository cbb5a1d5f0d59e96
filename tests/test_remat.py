"""`checkpointed_scan` is `lax.scan`, with another memory use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.unrolling.remat import checkpointed_scan, segment_length, steps_kept


def step(carry, x):
    carry = jnp.tanh(carry * x + 0.3)
    return carry, {"square": carry**2}


@pytest.mark.parametrize("remat", ["none", "step", "nested"])
@pytest.mark.parametrize("num_steps", [1, 2, 9, 11])
def test_it_is_a_scan(num_steps, remat):
    """Values, stacked outputs and gradients, for whole and broken numbers of segments."""
    xs = jnp.linspace(0.5, 1.5, num_steps)

    def result(scan):
        def f(xs):
            carry, ys = scan(step, jnp.float32(0.1), xs)
            return carry + jnp.sum(ys["square"] * jnp.arange(1.0, num_steps + 1))

        return jax.value_and_grad(f)(xs)

    ours = result(lambda *args: checkpointed_scan(*args, remat=remat))
    np.testing.assert_allclose(ours[0], result(jax.lax.scan)[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1], result(jax.lax.scan)[1], rtol=1e-5)


def temporary_bytes(num_steps, remat):
    def f(state):
        def wide(carry, _):
            for _ in range(8):
                carry = jnp.sin(carry)
            return carry, None

        return checkpointed_scan(wide, state, jnp.zeros(num_steps), remat=remat)[0].sum()

    compiled = jax.jit(jax.grad(f)).lower(jnp.ones(10_000)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_is_what_is_kept():
    """XLA's temporaries: 8 values, 1, or 2 sqrt(T) / T of one for each step, and a few besides."""
    carry, num_steps = 40_000, 100
    spare = 12 * carry
    assert temporary_bytes(num_steps, "none") >= 6 * num_steps * carry
    assert num_steps * carry <= temporary_bytes(num_steps, "step") <= num_steps * carry + spare
    assert temporary_bytes(num_steps, "nested") <= steps_kept(num_steps, "nested") * carry + spare


def test_segments_are_the_square_root():
    """100 steps: ten segments of ten, 20 carries at once."""
    assert (segment_length(100), steps_kept(100, "nested")) == (10, 20)
    assert (segment_length(1), steps_kept(100, "step")) == (1, 100)


def test_an_unknown_choice_is_refused():
    """With those there are."""
    with pytest.raises(ValueError, match=r"remat must be one of .*'nested'.*got 'often'"):
        checkpointed_scan(step, 0.0, jnp.zeros(3), remat="often")
