"""`pretrained`: one line to a complete transformation, in AdamW's order."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import l2ljax

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.full(3, 2.0)}
GRADIENT = {"w": jnp.full((2, 3), 0.5), "b": jnp.array([0.0, -1.0, 3.0])}


def one_update(tx, **extra):
    return tx.update(GRADIENT, tx.init(PARAMS), PARAMS, **extra)[0]


def test_it_is_the_learned_update_times_a_factor():
    optimizer, meta_params = l2ljax.load_pretrained("lstm-mnist")
    learned = one_update(optimizer.transform(meta_params))
    for rate in (1.0, 0.25):
        ours = one_update(l2ljax.pretrained("lstm-mnist", learning_rate=rate))
        for name, leaf in ours.items():
            np.testing.assert_allclose(leaf, rate * learned[name], rtol=1e-6)


def test_decay_is_adamws():
    """theta <- theta + rate (u - decay theta), the learned u untouched by it."""
    learned = one_update(l2ljax.pretrained("lstm-mnist"))
    ours = one_update(l2ljax.pretrained("lstm-mnist", learning_rate=0.5, weight_decay=0.1))
    for name, leaf in ours.items():
        expected = 0.5 * (learned[name] - 0.1 * PARAMS[name])
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-7)


def test_schedules_are_taken():
    tx = l2ljax.pretrained("lstm-mnist", learning_rate=optax.linear_schedule(0.0, 1.0, 10))
    state = tx.init(PARAMS)
    first, state = tx.update(GRADIENT, state, PARAMS)
    second, _ = tx.update(GRADIENT, state, PARAMS)
    assert not np.any(first["w"])
    assert np.all(second["w"] != 0)


def test_options_are_the_builders():
    """A NaN coordinate stands still; the weights are the bundled ones."""
    sick = {"w": GRADIENT["w"].at[0, 0].set(jnp.nan), "b": GRADIENT["b"]}
    tx = l2ljax.pretrained("lstm-mnist", nonfinite="skip")
    updates, _ = tx.update(sick, tx.init(PARAMS), PARAMS)
    assert updates["w"][0, 0] == 0
    assert np.isfinite(updates["w"]).all()


OPTIONS = "it takes learning_rate, weight_decay, guard, hidden_sizes, num_steps"
UNKNOWN = {  # name, option -> what the sentence says
    ("nominal-suite", "b1"): OPTIONS,
    ("nominal-suite", "max_update"): OPTIONS,
    ("lstm-mnist", "nonfinit"): "(did you mean nonfinite?); it takes learning_rate, weight_decay",
    ("lstm-mnist", "num_steps"): "guard, hidden_sizes, preprocess",
    ("rnnprop-suite", "options"): "output_scale, b1, b2",
    ("lstm-cifar10", "max_update"): "; it takes learning_rate, weight_decay, labels, guard.",
    ("lstm-cifar10", "optimizers"): "; it takes learning_rate, weight_decay, labels, guard.",
}


@pytest.mark.parametrize(("name", "option"), UNKNOWN)
def test_an_unknown_option_is_refused_with_those_there_are(name, option):
    """`b1` is Adam's, and rnnprop's; the sentence knows no rule behind a bundled name."""
    with pytest.raises(ValueError, match="pretrained has no option") as raised:
        l2ljax.pretrained(name, **{option: 0.9})
    said = str(raised.value)
    assert said.startswith(f"l2ljax.pretrained has no option {option!r} for {name!r}")
    assert UNKNOWN[name, option] in said
    assert "keyword" not in said


def test_an_unknown_option_is_refused_for_a_file_and_through_optax(tmp_path):
    """Of a file its path is named; `inject_hyperparams` passes options on in a dict."""
    path = tmp_path / "mine.safetensors"
    l2ljax.save_optimizer(path, *l2ljax.load_pretrained("lstm-mnist"))
    with pytest.raises(ValueError, match=r"no option 'b1' for '.*mine.safetensors'"):
        l2ljax.pretrained(path, b1=0.9)
    with pytest.raises(ValueError, match="no option 'b1' for 'lstm-mnist'"):
        optax.inject_hyperparams(l2ljax.pretrained)("lstm-mnist", b1=0.9).init(PARAMS)


@pytest.mark.parametrize("name", ["lstm-mnist", "nominal-suite", "rnnprop-suite", "lstm-cifar10"])
def test_made_while_something_is_traced_it_outlives_that(name):
    """As with `nnx.eval_shape`, which gives a model and an `nnx.Optimizer` without arrays."""
    made = []
    jax.eval_shape(lambda: made.append(l2ljax.pretrained(name)))
    expected = one_update(l2ljax.pretrained(name))
    for leaf, update in one_update(made[0]).items():
        np.testing.assert_array_equal(update, expected[leaf])


class Net(nnx.Module):
    """Names that tell nothing of convolutions."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.second = nnx.Linear(2, 3, rngs=rngs)


def test_partitions_have_labels_by_rank_where_names_tell_nothing():
    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    tx = l2ljax.pretrained("lstm-cifar10")
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))
    by_hand = l2ljax.pretrained("lstm-cifar10", labels=lambda p: jax.tree.map(lambda _: "fc", p))
    others, _ = by_hand.update(jax.tree.map(jnp.ones_like, params), by_hand.init(params), params)
    kernel = updates["first"]["kernel"], others["first"]["kernel"]
    assert not np.allclose(*map(np.asarray, jax.tree.leaves(kernel)), rtol=1e-3)


def test_a_guard_counts_beside_it():
    tx = l2ljax.pretrained("lstm-mnist", guard=optax.sgd(1e-9))
    updates, state = tx.update(GRADIENT, tx.init(PARAMS), PARAMS, value=jnp.float32(1.0))
    assert isinstance(state, l2ljax.GuardState)
    assert int(state.counts.norm) == 1  # a learned step is far beyond ten times a billionth
    np.testing.assert_allclose(updates["w"], -1e-9 * GRADIENT["w"], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "lstm-mnst"}, "lstm-mnist"),
        ({"name": "lstm-mnist", "labels": {"w": "a"}}, "takes no labels"),
        ({"name": "lstm-mnist", "weight_decay": -1.0}, "weight_decay"),
        (
            {"name": "lstm-mnist", "weight_decay": jnp.float32(-1.0)},
            "weight_decay must be at least 0",
        ),
        ({"name": "lstm-mnist", "learning_rate": "fast"}, "learning_rate"),
        ({"name": "lstm-mnist", "hidden": 3}, "hidden"),
    ],
)
def test_what_it_does_not_take_is_refused_in_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        l2ljax.pretrained(**arguments)
    assert "\n" not in str(error.value)


def test_the_table_tells_of_every_bundled_optimizer():
    """Two layers of 20 units keep a hidden and a cell number each, 80 float32 numbers in all."""
    table = l2ljax.pretrained_table()
    assert [row["name"] for row in table.rows] == l2ljax.pretrained_names()
    by_name = {row["name"]: row for row in table.rows}
    assert by_name["lstm-mnist"]["state_bytes"] == 4 * 2 * (20 + 20)
    assert all(row["fails"] != "-" for row in table.rows)
    assert "lstm-mnist" in str(table)
    assert "<td>lstm-mnist</td>" in table._repr_html_()


def test_without_a_name_it_is_the_one_without_anything_to_tune():
    """Steps of the size that the bound allows, at any scale of the gradient."""
    tx = l2ljax.pretrained()
    updates = [
        tx.update(jax.tree.map(lambda g, s=scale: s * g, GRADIENT), tx.init(PARAMS), PARAMS)[0]
        for scale in (1.0, 1e3)
    ]
    assert all(0 < np.abs(leaf).max() <= 5 * np.e for leaf in jax.tree.leaves(updates))
    chex.assert_trees_all_close(*updates, rtol=1e-2, atol=1e-7)
