"""The page of runs: what stands in it by closed forms, and what is refused."""

import html.parser
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from run_directories import UPDATES, make_run

import l2ljax
from l2ljax.evaluation.page import interactive
from l2ljax.experiments import run_report
from l2ljax.experiments.run_report import evaluation_figures, rule
from l2ljax.experiments.run_report.assembly import report_page
from l2ljax.experiments.run_report.runs import Evaluation, read_runs


class Page(html.parser.HTMLParser):
    """Ids, what is loaded, the cells of tables, and the figures' data of a page."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.ids, self.labels, self.cells, self._at = [], [], [], [], None
        self.text = {"script": [], "style": []}
        self.feed(page)
        self.figures = {f["id"]: f for f in map(dict, json.loads(self.text["script"][0]))}

    def handle_starttag(self, tag, attributes):
        found, self._at = dict(attributes), tag
        self.loads += [found[n] for n in ("src", "srcset", "href", "action") if n in found]
        self.ids += [found["id"]] if "id" in found else []
        self.labels += [found["aria-labelledby"]] if "aria-labelledby" in found else []
        if tag in self.text:
            self.text[tag].append("")
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        self._at = None

    def handle_data(self, data):
        if self._at in self.text:
            self.text[self._at][-1] += data
        elif self._at == "td":
            self.cells[-1] += data


def page_of(*folders):
    return report_page(read_runs(folders), ["draw()"], "l2ljax report")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three seeds, whose losses are as 1 : 2 : 4, and another task."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, factor in enumerate([1.0, 4.0, 2.0]):
        make_run(folder / f"seed{seed}", seed=seed, factor=factor)
    make_run(folder / "other <b>", task="mlp", evaluated=False, finished=False)
    return folder


def test_a_page_stands_alone_and_holds_the_run(three):
    """Curves, evaluation, rule, configuration and command; nothing is loaded."""
    text = page_of(three / "seed0")
    page = Page(text)
    assert page.loads == ["data:,"]
    assert not re.findall(r"url\(|@import", "".join(page.text["style"]))
    assert len(page.ids) == len(set(page.ids))
    assert set(page.labels) <= set(page.ids)
    assert {f"plot-{name}" for name in page.figures} <= set(page.ids)
    line = page.figures["meta-loss"]["traces"][-1]
    np.testing.assert_allclose(line["x"], UPDATES)
    np.testing.assert_allclose(line["y"], 1000 / UPDATES, rtol=1e-5)
    np.testing.assert_allclose(line["other"], UPDATES * 50.0 / 100)  # seconds
    assert page.figures["evaluation-0"]["traces"][-2]["name"] == "LSTM"
    assert "LSTM ends at 0.00391; of the baselines Adam ends lowest, at 0.0117." in text
    assert {"0.003906", "0.01172", "1 after 100"} <= set(page.cells)  # 2^-8 and 3 * 2^-8
    assert {"state-0-0", "responses-0-0", "sequence-0-0"} <= set(page.figures)
    assert len(page.figures["state-0-0"]["traces"][0]["z"]) == 3  # hidden units
    assert "l2ljax train demo" in text
    assert "workdir=&lt;x&gt;" in text
    assert "jax 0.0.1" in text
    assert "&quot;num_meta_updates&quot;: 100" in text


def test_the_sentence_names_every_learned_one():
    """An adapted optimizer is the point of its run; one that diverged has no end to tell."""
    ends = {"start": 0.5, "adapted": 0.25, "lost": None, "adam": 0.4, "sgd": 0.7}
    rates = {"adam": 0.1, "sgd": 1.0}
    rows = {
        name: {"learning_rate": rates.get(name), "final_loss": {"mean": end}}
        for name, end in ends.items()
    }
    said = evaluation_figures._verdict(Evaluation({"optimizers": rows}, {}))
    assert said == (
        "start ends at 0.5, adapted ends at 0.25; of the baselines Adam ends lowest, at 0.4."
    )


def test_times_are_those_that_a_run_noted(tmp_path):
    """A slow first update, a rest at 50, and nothing noted beyond 90: linear in between."""
    folder = make_run(tmp_path / "x", evaluated=False)
    text = "".join(
        json.dumps({"update": update, "seconds": seconds}) + "\n"
        for update, seconds in [(10, 20.0), (50, 24.0), (60, 40.0), (90, 43.0)]
    )
    (folder / "seconds.jsonl").write_text(text)
    expected = [20, 21, 22, 23, 24, 40, 41, 42, 43, 50]  # the last is the card's total
    page = page_of(folder)
    line = Page(page).figures["meta-loss"]["traces"][-1]
    np.testing.assert_allclose(line["other"], expected)
    assert "Seconds are those of the run, over all resumptions." in page
    (run,) = read_runs([folder], rules=False)  # no weights are read, so no total is known
    np.testing.assert_allclose(run.seconds_at(UPDATES)[:-1], expected[:-1])
    np.testing.assert_allclose(run.seconds_at(np.array([5.0, 180.0])), [10, 86])
    (folder / "seconds.jsonl").unlink()
    assert "the total, spread evenly" in page_of(folder)
    (run,) = read_runs([folder], rules=False)
    assert run.seconds_at(UPDATES) is None


def test_seeds_are_summed_up_and_other_runs_stand_beside_them(three):
    """Median and extremes of 1 : 4 : 2; a name is no HTML; what is missing is told."""
    folders = [three / f"seed{seed}" for seed in range(3)]
    text = page_of(*folders, three / "other <b>")
    page = Page(text)
    low, high, *thin, middle, other = page.figures["meta-loss"]["traces"]
    for trace, factor in ((low, 1), (high, 4), (middle, 2), (other, 1)):
        np.testing.assert_allclose(trace["y"], factor * 1000 / UPDATES, rtol=1e-5)
    assert len(thin) == 3
    assert middle["group"] == "seed0 … seed2: median of 3 seeds"
    learned = [t for t in page.figures["evaluation-0"]["traces"] if t["group"].endswith("LSTM")]
    np.testing.assert_allclose(learned[-1]["y"], 2 * 0.5 ** np.arange(9), rtol=1e-5)
    assert "other <b>" not in text.partition("<script")[0]
    assert "other &lt;b&gt; was not evaluated" in text
    assert "It has no checkpoint yet" in text
    assert "different tasks (mlp, quadratic)" in text
    assert "100 of 100, unfinished" in page.cells
    assert list(page.figures["rules-compared"]["traces"][2]["name"]) == list("seed2")


def test_what_is_not_finite_is_left_out(three, tmp_path):
    """A null in the history is a gap, NaN and infinity never reach the page's JSON."""
    run = make_run(tmp_path / "run", evaluated=False)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[2] = json.dumps({"update": 20, "meta_loss": None})
    lines[4] = json.dumps({"update": 30, "meta_loss": float("nan")})
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n" + '{"update": 110, "meta_lo')
    page = page_of(run)
    assert Page(page).figures["meta-loss"]["traces"][0]["y"][:4] == [100.0, None, None, 25.0]
    assert not re.search(r"NaN|Infinity", "".join(Page(page).text["script"]))


def test_a_rule_is_shown_by_its_own_equations():
    """Momentum, m <- g + m / 2 and u = -m / 10, after histories whose sums are known."""
    momentum = l2ljax.LearnedOptimizer(lambda key: 0.1, lambda rate: optax.sgd(rate, momentum=0.5))
    (found,), failed = rule.behaviours(momentum, 0.1)
    assert failed == []
    ones, turns = 2 * (1 - 0.5**20), -(1 - 0.5**20) / 1.5
    sums = [0.0, ones, -ones, turns, 0.01 * ones]
    for total, response in zip(sums, found.responses.values(), strict=True):
        np.testing.assert_allclose(response, -0.1 * (rule.VALUES + total / 2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.updates[:3], [-0.1, -0.15, -0.175], rtol=1e-6)
    (trace,) = found.state.values()
    np.testing.assert_allclose(-0.1 * trace, found.updates, rtol=1e-6)


def test_members_of_a_partition_are_shown_one_by_one_and_what_fails_is_told():
    """Each by its own weights; a rule that wants more than a coordinate is told in a sentence."""

    def needs_a_matrix(rate):
        def update(updates, state, params=None):
            return updates @ jnp.eye(3), state

        return optax.GradientTransformation(lambda params: (), update)

    small = {"name": "lstm", "hidden_sizes": [2], "preprocess": {"name": "identity"}}
    both = l2ljax.optimizers.build(
        {"name": "partition", "optimizers": {"conv": small, "fc": small}, "labels": "conv_fc"}
    )
    weights = both.init(jax.random.key(0))
    found, failed = rule.behaviours(both, weights)
    assert [one.label for one in found] == ["conv", "fc"]
    assert failed == []
    assert not np.allclose(found[0].updates, found[1].updates)
    found, failed = rule.behaviours(l2ljax.LearnedOptimizer(lambda key: 1.0, needs_a_matrix), 1.0)
    assert found == []
    assert failed[0].startswith("The rule cannot be run on a coordinate alone (TypeError")


def test_a_run_that_was_started_in_code_or_by_adapt(tmp_path):
    """Without a configuration: its weights are found, and no command is made up."""
    run = make_run(tmp_path / "run", evaluated=False)
    (run / "config.json").unlink()
    (run / "meta_params.safetensors").rename(run / "adapted.safetensors")
    text = page_of(run)
    assert {"meta-loss", "responses-0-0"} <= set(Page(text).figures)
    assert "run was started in code: no config.json" in text
    assert "l2ljax evaluate" not in text


def damage(name, text):
    return lambda run: (run / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / "metrics.jsonl").unlink(), "has no history yet"),
        (damage("metrics.jsonl", ""), "has no history yet"),
        (damage("metrics.jsonl", '{"update": 1}\n'), "has neither meta_loss nor validation_loss"),
        (damage("config.json", "{"), "is not valid JSON"),
        (damage("config.json", "[]"), "must hold a JSON object"),
        (damage("evaluation/summary.json", "{}"), "The evaluation in .* is damaged"),
        (damage("evaluation/summary.json", "["), "The evaluation in .* is damaged"),
        (damage("evaluation/curves.csv", "step,lstm_mean\n0,1\n"), "no column 'adam_mean'"),
        (damage("evaluation/curves.csv", "step,lstm_mean,adam_mean\n"), "holds no step"),
        (damage("evaluation/curves.csv", ""), "The evaluation in .* is damaged"),
        (damage("meta_params.safetensors", "x"), "is damaged"),
    ],
)
def test_damaged_runs_are_refused_in_a_sentence(change, said, tmp_path):
    run = make_run(tmp_path / "run")
    change(run)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        page_of(run)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_what_is_no_run_is_refused_in_a_sentence(three, tmp_path):
    """Nothing, a file, an empty folder, the same twice, another ending; nothing is written."""
    good = three / "seed0"
    for folders, said in (
        ([], "at least one"),
        ([tmp_path / "gone"], "is not there"),
        ([good / "config.json"], "is a file"),
        ([good, tmp_path], "holds no run"),
        ([good, three / "." / "seed0"], "are the same directory"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            run_report.write_report(folders, tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        run_report.write_report([good], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_without_plotly_or_matplotlib_a_sentence_says_how_to_get_it(three, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "l2ljax\[report\]"'):
        run_report.write_report([three / "seed0"], tmp_path / "x.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "l2ljax\[plots\]"'):
        run_report.save_training_curves([three / "seed0"], tmp_path / "x.png")


def test_a_run_whose_own_code_is_gone_is_shown_without_its_rule(tmp_path):
    """In the place of its figures a sentence says which code is missing."""
    run = make_run(tmp_path / "run", evaluated=False, finished=False)
    metadata = {"optimizer": json.dumps({"name": "gone_rule.py:rule"})}
    weights = {"(root)": np.ones(1, np.float32)}
    safetensors.numpy.save_file(weights, run / "meta_params.safetensors", metadata)
    text = page_of(run)
    assert "gone_rule.py" in text
    assert "responses-0-0" not in Page(text).figures
    assert "meta-loss" in Page(text).figures


def test_many_curves_stay_apart(three):
    """Of 40 looks none is another's colour and dash; each colour is in both themes."""
    looks = {(look % interactive.NUM_TONES, interactive.dash(look)) for look in range(40)}
    assert len(looks) == 40
    style = interactive.asset("style.css")
    for tone in range(interactive.NUM_TONES):
        assert style.count(f"--series-{tone}: #") == 3  # light, dark by button, dark by system


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_of_runs(ending, three, tmp_path):
    """Whole, in its format, also against seconds where those are known."""
    pytest.importorskip("matplotlib")
    folders = [three / f"seed{seed}" for seed in range(3)]
    out = run_report.save_training_curves(folders, tmp_path / f"x.{ending}")
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert out.read_bytes().startswith(starts[ending])
    if ending == "png":
        run_report.save_training_curves(folders, out, against_seconds=True)
        with pytest.raises(ValueError, match="is not known"):
            run_report.save_training_curves([three / "other <b>"], out, against_seconds=True)
        with pytest.raises(ValueError, match="A picture ends in"):
            run_report.save_training_curves(folders, tmp_path / "x.html")
    assert [path.name for path in tmp_path.iterdir()] == [f"x.{ending}"]
