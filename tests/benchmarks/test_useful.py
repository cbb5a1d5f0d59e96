"""Time to useful: what counts as useful, and that a run's snapshots come back as they were."""

import argparse
import math

import jax
import numpy as np
import pytest
import useful
import useful_peer
import useful_peers

import l2ljax
from l2ljax.evaluation import mean_ci95
from l2ljax.experiments.configuration import check_part
from l2ljax.experiments.fields import completed
from l2ljax.experiments.meta_optimizers import build_meta_optimizer
from l2ljax.experiments.parts import build_estimator
from l2ljax.optimizers import identity, lstm


def test_useful_is_below_every_baseline_on_the_same_optimizees():
    """Intervals are those of the paired differences, by their own formula."""
    draw = np.random.default_rng(0)
    hard = draw.normal(size=64)  # common to all, and far larger than what sets them apart
    own = hard + 1.0
    worse = hard + 1.1 + 0.02 * draw.normal(size=64)
    level = hard + 1.0 + 0.02 * draw.normal(size=64)
    beside = {"adam": {"final": worse.tolist()}, "nag": {"final": level.tolist()}}
    found = useful.above(own, beside)
    np.testing.assert_allclose(found["adam"], mean_ci95(worse - own), rtol=1e-12)
    assert found["adam"][0] > 0
    assert found["nag"][0] < 0 < found["nag"][1]
    assert not useful.is_useful({"above": found})
    assert useful.is_useful({"above": {"adam": found["adam"]}})
    assert not useful.is_useful({"above": {"adam": [None, None]}})  # a loss that is not finite


def test_one_good_moment_is_not_the_time():
    """Useful, then not, is not useful yet; and the last choice has to be."""
    at = [{"seconds": float(t), "above": {"sgd": [low, 1.0]}} for t, low in enumerate([1, -1, 1])]
    assert useful.useful_at(at) == 2.0
    assert useful.useful_at(at[:1]) == 0.0
    assert useful.useful_at(at[:2]) is None


BOWL = l2ljax.Task(
    init=lambda _, key: {"conv": jax.numpy.ones((1, 2, 2, 1)), "fc": jax.numpy.ones(2)},
    loss=lambda p, _: (p["conv"] ** 2).sum() + (p["fc"] ** 2).sum(),
)
RECIPES = [(work, recipe) for work, recipes in useful.RECIPES.items() for recipe in recipes]


@pytest.mark.parametrize(("work", "recipe"), RECIPES, ids=[recipe for _, recipe in RECIPES])
def test_recipes_are_configurations_that_build(work, recipe):
    """Fields by their dotted names; all parts take what they are given, on a task without data."""
    config = completed(useful.config_of(work, recipe, seed=5))
    assert config["seed"] == 5
    optimizer = l2ljax.optimizers.build(config["optimizer"])
    build_meta_optimizer(config["meta_optimizer"], config["num_meta_updates"])
    check_part("validation", config["validation"])
    try:
        build_estimator(config | {"num_tasks": 1}, BOWL, optimizer, None)
    except ModuleNotFoundError as error:  # a stage with a task of its own, whose data are not here
        pytest.skip(str(error))


def test_the_cosine_ends_at_zero():
    """Moves under a constant gradient of 1, of the first step, the middle and after the end.

    NAG's is rate x (1 + 0.9 x momentum), momentum 1, 1.9, ... -> 10; Adam's is its rate.
    """
    steps, rate = 100, 0.5
    for name, whole in {"nag, cosine": 10.0, "adam, cosine": 1.0}.items():
        tx = useful.with_cosine(steps)[name](rate)
        state, moves = tx.init(0.0), []
        for _ in range(steps + 1):
            move, state = tx.update(1.0, state)
            moves.append(-float(move))
        assert moves[0] == pytest.approx(rate * (1.9 if whole > 1 else 1.0), rel=1e-5)
        assert moves[50] == pytest.approx(rate / 2 * whole, rel=0.01)
        assert moves[100] == 0.0


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def torch_layer(weights, name, x, h, c):
    """`torch.nn.LSTMCell` by the formulas of its reference page."""
    w, r = weights[f"{name}.weight_ih"], weights[f"{name}.weight_hh"]
    gates = w @ x + weights[f"{name}.bias_ih"] + r @ h + weights[f"{name}.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def haiku_layer(weights, name, x, h, c):
    """`haiku.LSTM` by the formulas of its reference page, with the 1 that it adds to f."""
    gates = np.concatenate([x, h]) @ weights[f"{name}/w"] + weights[f"{name}/b"]
    i, g, f, o = np.split(gates, 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_other_implementations_weights_are_those_of_our_lstm():
    """Three updates of one coordinate, as their libraries define them and as ours makes them."""
    size, draw = useful_peers.HIDDEN, np.random.default_rng(1)

    def normal(*shape):
        return draw.normal(size=shape).astype(np.float32)

    torch = {"output.weight": normal(1, size), "output.bias": normal(1)}
    haiku = {"linear/w": normal(size, 1), "linear/b": normal(1)}
    layers = [("recurs", "lstm/linear", 1), ("recurs2", "lstm_1/linear", size)]
    for in_torch, in_haiku, fan_in in layers:
        torch |= {f"{in_torch}.weight_ih": normal(4 * size, fan_in)}
        torch |= {f"{in_torch}.weight_hh": normal(4 * size, size)}
        torch |= {f"{in_torch}.bias_{side}": normal(4 * size) for side in ("ih", "hh")}
        haiku |= {f"{in_haiku}/w": normal(fan_in + size, 4 * size)}
        haiku |= {f"{in_haiku}/b": normal(4 * size)}

    def updates(weights, layer, names, readout, bias):
        state = [(np.zeros(size), np.zeros(size))] * 2
        for gradient in (0.3, -1.2, 0.7):
            x = np.array([gradient])
            for number, name in enumerate(names):
                state[number] = layer(weights, name, x, *state[number])
                x = state[number][0]
            yield 0.5 * float(readout @ x + bias)

    optimizer = lstm(preprocess=identity(), output_scale=0.5)
    theirs = {
        "torch": (torch_layer, [n for n, _, _ in layers], torch["output.weight"][0]),
        "haiku": (haiku_layer, [n for _, n, _ in layers], haiku["linear/w"][:, 0]),
    }
    for name, (layer, names, readout) in theirs.items():
        weights, bias = (torch, torch["output.bias"][0])
        if name == "haiku":
            weights, bias = (haiku, haiku["linear/b"][0])
        expected = list(updates(weights, layer, names, readout, bias))
        tx = optimizer.transform(getattr(useful_peers, f"from_{name}")(weights))
        state, found = tx.init(np.zeros(1, np.float32)), []
        for gradient in (0.3, -1.2, 0.7):
            update, state = tx.update(np.array([gradient], np.float32), state)
            found.append(float(update[0]))
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


def test_a_peers_weights_are_kept_at_the_moments_asked_for(tmp_path):
    """After 5 and 15 updates, each with the weights of then; at the last the script ends."""
    options = argparse.Namespace(at="5,12", unit="updates", script="s", out=tmp_path / "w.npz")
    options.out = str(options.out)

    class Net:
        def state_dict(self):
            return {}

    trained = {"net": Net(), "losses": np.arange(100.0)}
    clock = useful_peer.Clock(options, trained)
    clock.tick()
    assert [kept["updates"] for kept in clock.kept] == [5]
    assert clock.kept[0]["meta_loss"] == np.mean(np.arange(80, 100))
    clock.tick()
    with pytest.raises(SystemExit):
        clock.tick()
    assert [kept["updates"] for kept in clock.kept] == [5, 15]
    with pytest.raises(ValueError, match="once"):
        useful_peer.replaced("a + a", [("a", "b")])


@pytest.mark.slow
def test_a_shortened_run_learns_and_is_judged(tmp_path):
    """The recommended recipe for quadratics, two validations long: its snapshots, judged."""
    config = useful.config_of("quadratics", next(iter(useful.RECIPES["quadratics"])), seed=0)
    config |= {"num_meta_updates": 40, "validation": {"num_tasks": 32, "every": 20}}
    found = list(useful.snapshots(config, None))
    seconds, updates, scores, _ = zip(*found, strict=True)
    assert updates[-1] == 40
    assert list(seconds) == sorted(seconds)
    assert scores[-1] == min(scores)
    assert math.isfinite(scores[-1])
    useful.save_snapshots(tmp_path / "runs" / "one.npz", config, found)
    again, loaded = useful.load_snapshots(tmp_path / "runs" / "one.npz")
    assert again["num_meta_updates"] == 40
    for mine, theirs in zip(found, loaded, strict=True):
        assert mine[:3] == tuple(theirs[:3])
        jax.tree.map(np.testing.assert_array_equal, mine.meta_params, theirs.meta_params)
    finals = (1e6 * np.ones(8)).tolist()  # a baseline that anything is below
    beside = {"num_steps": 10, "seed": 3, "sizes": {"num_tasks": 8, "num_tuning_tasks": 1}}
    curve = useful.judged(again, loaded, beside | {"optimizers": {"sgd": {"final": finals}}}, None)
    assert [point["update"] for point in curve] == list(updates)
    assert useful.useful_at(curve) == pytest.approx(seconds[0], abs=0.01)
