"""Adapting a learned optimizer to a task of one's own: doors, files, budget."""

import json
import os
import signal
import types

import chex
import jax
import numpy as np
import optax
import pytest
from adaptation_cases import BOWL, RULE, adapt

import l2ljax
from l2ljax.experiments.adaptation import pace, procedure
from l2ljax.experiments.adaptation.given import check_fits, find_start


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minutes": 0}, "minutes must be a finite number above 0, got 0"),
        ({"minutes": -1.0}, "minutes must be"),
        ({"minutes": float("inf")}, "minutes must be"),
        ({"minutes": "5"}, "minutes must be"),
        ({"weights": "lstm-minst"}, r"did you mean lstm-mnist\?"),
        ({"weights": "gone.safetensors"}, "There is no weights file gone.safetensors"),
        ({"weights": RULE}, "weights must be a bundled optimizer's name"),
        ({"weights": (RULE, {})}, r"weights\[1\] lacks the leaf"),
        ({"task": 3}, "task must be an l2ljax.Task"),
        ({"task": "mine"}, "task must be an l2ljax.Task or name one"),
        ({"task": "gone.py"}, "no file"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"num_tasks": 0}, "num_tasks must be"),
        ({"num_validation_tasks": 0}, "num_validation_tasks must be"),
        ({"num_eval_tasks": 4}, "num_eval_tasks must be an integer of at least 5"),
        ({"num_meta_updates": 1.5}, "num_meta_updates must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"meta_optimizer": 0.1}, "meta_optimizer must be an Optax transformation"),
        ({"key": 0}, "key must be a random key"),
        ({"baselines": {}}, "baselines must be a dict"),
        ({"baselines": {"adam": 0.1}}, "baselines must be a dict"),
        ({"baselines": {"start": optax.sgd}}, "'start', which is taken"),
        ({"estimator": "pes"}, "estimator must be"),
        ({"estimator": {"name": "pse"}}, "pse"),
        ({"weights_of_steps": "first"}, "weights_of_steps must be one of"),
        ({"labels": "conv_fc_or_rank"}, "takes no labels"),
        ({"workdir": 3}, "workdir must be a path"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_door(changes, words):
    """In one sentence, before anything is compiled."""
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=words) as found:
        adapt(**changes)
    assert "\n" not in str(found.value)


def broken(**functions):
    given = {"init": BOWL.init, "loss": BOWL.loss} | functions
    return l2ljax.Task(**given)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (broken(loss=lambda params, batch: 1 / 0), "cannot be run for one step.*division by zero"),
        (broken(loss=lambda params, batch: params), "cannot be run for one step.*scalar"),
        (broken(init=lambda instance: 0.0), "cannot be run for one step.*argument"),
        (broken(batch=lambda data, instance, key: instance[3]), "cannot be run for one step"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(task, words):
    with pytest.raises(ValueError, match=words):
        adapt(task=task)


def test_labels_that_do_not_fit_are_refused_and_the_advice_helps(tmp_path):
    """The paper's names of layers, on a task that has others; and an estimator of another rule."""
    with pytest.raises(ValueError, match='give labels="conv_fc_or_rank"'):
        adapt("lstm-cifar10", BOWL)
    _, meta_params = l2ljax.load_pretrained("lstm-cifar10")
    members = {"conv": l2ljax.lstm(), "fc": l2ljax.lstm()}
    nameless = l2ljax.partition(members, lambda p: jax.tree.map(lambda _: "fc", p))
    with pytest.raises(ValueError, match="no weights file can hold it"):
        adapt((nameless, meta_params), workdir=tmp_path / "never")
    fits = check_fits(BOWL, find_start("lstm-cifar10", "conv_fc_or_rank"))
    assert fits.shape == (2,)
    other = l2ljax.es(
        BOWL, l2ljax.lstm((2,)), num_tasks=1, episode_length=2, unroll_length=2,
        num_perturbations=1, sigma=0.1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="estimator trains"):
        adapt(estimator=other)
    assert not (tmp_path / "never").exists()


def test_files_and_outcome(tmp_path):
    """Weights with a card, curves, records; a second adaptation there is refused, not started."""
    said = []
    result = adapt(workdir=tmp_path / "run", command="as typed", tell=said.append)
    optimizer, meta_params, card = l2ljax.load_optimizer(result.path)
    assert optimizer is RULE
    chex.assert_trees_all_equal(meta_params, result.meta_params)
    assert card["command"] == "as typed"
    assert card["num_meta_updates"] == result.num_meta_updates == 3
    assert card["settings"]["num_eval_tasks"] == 5
    assert card["settings"]["estimator"]["kind"] == "TruncatedBPTT"
    assert card["verdict"] == result.verdict
    assert card["evaluation"]["optimizers"]["sgd"]["learning_rate"] > 0
    assert card["evaluation"]["task"] == result.curves.summary["task"] == "a task of your own"
    assert l2ljax.load_run(tmp_path / "run").num_meta_updates == 3
    begun = l2ljax.load_optimizer(tmp_path / "run" / "start.safetensors")
    chex.assert_trees_all_equal(begun[1], RULE.init(jax.random.key(0)))
    summary = json.loads((tmp_path / "run" / "evaluation" / "summary.json").read_text())
    assert list(summary["optimizers"]) == ["start", "adapted", "sgd"]
    assert result.validation[0]["update"] == 0
    assert result.changed
    least = min(record["validation_loss"] for record in result.validation)
    assert least < result.validation[0]["validation_loss"]
    assert result.curves["adapted"].losses.shape == (5, 5)
    assert result.verdict in repr(result)
    assert [sentence.split()[0] for sentence in said] == [
        *("Compiling,", "Ready", "Tuned", "Meta-training", "Comparing")
    ]
    with pytest.raises(ValueError, match=r"adapted.safetensors already, and nothing is overwr"):
        adapt(workdir=tmp_path / "run")
    again = adapt()  # the same numbers without a directory
    chex.assert_trees_all_equal(again.meta_params, result.meta_params)
    assert again.path is None


@pytest.mark.parametrize("rate", [1e9, float("inf")])
def test_weights_to_start_from_are_a_candidate(rate):
    """Where meta-training only makes it worse, or diverges, they are what is returned."""
    result = adapt(meta_optimizer=optax.sgd(-rate), num_meta_updates=60)
    assert not result.changed
    assert result.ended == ("diverged" if np.isinf(rate) else "done")
    chex.assert_trees_all_equal(result.meta_params, RULE.init(jax.random.key(0)))
    assert "kept unchanged" in result.verdict
    np.testing.assert_array_equal(*(result.curves[n].losses for n in ("start", "adapted")))


@pytest.fixture
def ticks(monkeypatch):
    """A clock that goes on whenever it is looked at, by so many seconds."""
    tick, now = [0.02], [0.0]

    def look():
        now[0] += tick[0]
        return now[0]

    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=look))
    return tick


def test_it_ends_in_time(ticks):
    """As many meta-updates as fit by the measured pace: a third of a look each."""
    result = adapt(minutes=0.1, num_meta_updates=None)
    assert result.ended == "done"
    assert 300 < result.num_meta_updates < 900
    assert result.seconds < 6.0


def test_a_slow_machine_ends_in_time_too(ticks, monkeypatch):
    """Where updates take longer than they did when measured, the clock stops them."""

    def measure(*given):
        found = pace.measure(*given)
        ticks[0] *= 10
        return found

    monkeypatch.setattr(procedure, "measure", measure)
    result = adapt(minutes=0.1, num_meta_updates=None)
    assert result.ended == "time"
    assert 4.0 < result.seconds < 7.0  # the comparison is ten times slower too
    assert result.num_meta_updates > 0


@pytest.mark.usefixtures("ticks")
def test_too_short_a_budget_is_refused_and_the_advice_helps():
    with pytest.raises(ValueError, match="too few for this task on this machine") as found:
        adapt(minutes=5e-3)
    advice = float(str(found.value).split("give at least ")[1].split(",")[0])
    assert adapt(minutes=advice, num_meta_updates=None).num_meta_updates > 0
    with pytest.raises(ValueError, match="too few for this task on this machine"):
        adapt(minutes=1e-4)  # already after the first comparison


def test_baselines_that_no_time_is_left_for_are_named(monkeypatch):
    monkeypatch.setattr(procedure, "TUNING_SHARE", 1e-9)
    result = adapt(baselines={"sgd": optax.sgd, "adam": optax.adam, "mine": optax.lion})
    assert result.untuned == ("sgd", "mine")
    assert "no time was left to tune sgd, mine" in result.verdict
    assert sorted(result.curves) == ["adam", "adapted", "start"]


@pytest.mark.parametrize("number", [1, 10, 10**3, 10**6])
@pytest.mark.parametrize("seconds", [1.0, 100.0])
def test_what_fits_of_a_given_number_is_scored_before_the_time_is_up(number, seconds):
    """At 0.1 s an update and 0.2 s a validation, the first one ends within the time."""
    planned = pace.plan(pace.Pace(0.1, 0.2, 1.0), seconds, number)
    assert planned.num_meta_updates == number
    assert planned.validate_every * 0.1 + 0.2 <= seconds
    assert planned.log_every <= planned.validate_every


def test_a_given_number_that_fits_is_scored_alike_on_every_machine():
    """Or the weights with the best score would be others where validations take longer."""
    plans = {pace.plan(pace.Pace(0.1, seconds, 1.0), 100.0, 50)[:2] for seconds in (0.1, 1.0, 5.0)}
    assert plans == {(50, 2)}


def test_ctrl_c_keeps_the_best_so_far(monkeypatch):
    """The comparison is made all the same."""
    monkeypatch.setattr(pace, "VALIDATIONS", 10**6)  # the first one long before the signal

    def interrupt(sentence):
        if "meta-updates" in sentence:
            signal.setitimer(signal.ITIMER_REAL, 0.3)

    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        result = adapt(num_meta_updates=10**6, tell=interrupt)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert result.ended == "stopped"
    assert 0 < result.num_meta_updates < 10**6
    scores = [record["validation_loss"] for record in result.validation]
    assert result.changed
    assert min(scores) < scores[0]
    best = [c.losses[:, -1].mean() for c in (result.curves["adapted"], result.curves["start"])]
    assert best[0] < best[1]


def test_ctrl_c_in_the_comparison_keeps_the_weights(tmp_path, monkeypatch):
    curves = procedure.Parts.curves

    def stopped(self, learned, *rest):
        if "adapted" in learned:
            raise KeyboardInterrupt
        return curves(self, learned, *rest)

    monkeypatch.setattr(procedure.Parts, "curves", stopped)
    result = adapt(workdir=tmp_path)
    assert (result.level, result.changed) == ("unknown", True)
    assert "comparison was stopped" in result.verdict
    jax.tree.map(
        np.testing.assert_array_equal, l2ljax.load_optimizer(result.path)[1], result.meta_params
    )


def test_one_program_for_all_lengths():
    """Measuring the pace compiles what meta-training needs, whose length it decides."""
    from l2ljax.training.step import meta_step

    meta_step.clear_cache()
    result = adapt(meta_optimizer=None, learning_rate=0.3)
    assert result.num_meta_updates == 3
    assert meta_step._cache_size() == 1  # pyright: ignore
