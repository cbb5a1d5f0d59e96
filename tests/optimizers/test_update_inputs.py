"""Gradients, state and parameters that do not belong together are refused in a sentence."""

import jax
import jax.numpy as jnp
import optax
import pytest

from l2ljax import pretrained
from l2ljax.optimizers import celo, celo2, celo_adam, lstm, nominal, rnnprop, small_fc, velo

RULES = {
    "nominal": nominal((4,)),
    "nominal-skip": nominal((4,), nonfinite="skip"),
    "small_fc": small_fc((4,)),
    "celo2": celo2((4,)),
    "celo": celo(num_steps=10),
    "celo_adam": celo_adam(num_steps=10),
    "velo": velo(num_steps=10),
    "lstm": lstm((4,)),
    "rnnprop": rnnprop((4,)),
}
READ_PARAMS = [name for name in RULES if name not in ("lstm", "rnnprop", "celo_adam")]
PARAMS = {"kernel": jnp.ones((3, 2)), "scale": jnp.ones(1)}
OTHERS = {  # what is wrong about a tree, and what the sentence says of it
    "a kernel turned round": (PARAMS | {"kernel": jnp.ones((2, 3))}, r"2, 3\)"),
    "one that would be broadcast": (PARAMS | {"scale": jnp.ones(4)}, r"4,?\)"),
    "a leaf too many": (PARAMS | {"more": jnp.ones(2)}, "more"),
}


def made(name):
    optimizer = RULES[name]
    return optimizer.transform(optimizer.init(jax.random.key(0)))


@pytest.mark.parametrize("wrong", OTHERS)
@pytest.mark.parametrize("name", RULES)
def test_a_state_of_other_parameters_is_refused(name, wrong):
    other, said = OTHERS[wrong]
    tx = made(name)
    with pytest.raises(ValueError, match=f"^the state of .*{said}.*give update.. gradients like"):
        tx.update(PARAMS, tx.init(other), PARAMS, value=1.0)


@pytest.mark.parametrize("wrong", OTHERS)
@pytest.mark.parametrize("name", READ_PARAMS)
def test_other_parameters_than_the_gradients_are_of_are_refused(name, wrong):
    other, said = OTHERS[wrong]
    tx = made(name)
    with pytest.raises(ValueError, match=f"^the tree of parameters .*{said}.*give update.. the"):
        tx.update(PARAMS, tx.init(PARAMS), other, value=1.0)


@pytest.mark.parametrize("name", RULES)
def test_what_the_sentence_says_helps(name):
    tx = made(name)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)
    assert jax.tree.map(jnp.shape, updates) == {"kernel": (3, 2), "scale": (1,)}


@pytest.mark.parametrize("name", [*READ_PARAMS, "enduring-suite"])
def test_containers_may_differ(name):
    """Parameters as a list of the gradients' leaves, in their order: each finds its own."""
    tx = made(name) if name in RULES else pretrained(name)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)
    listed, _ = tx.update(PARAMS, tx.init(PARAMS), jax.tree.leaves(PARAMS), value=1.0)
    assert float(optax.tree.norm(optax.tree.sub(updates, listed))) == 0
