"""The paper's figures: numbers first, pictures from numbers, one page of them all."""

import html.parser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.bundled import load_meta_params, load_optimizer, pretrained_names, save_optimizer
from l2ljax.experiments import experiment
from l2ljax.experiments.experiment import DEFAULTS
from l2ljax.paper import architectures, deviation_list, figure_list, web
from l2ljax.paper import reproduction as paper
from l2ljax.paper.deviations import NOT_MEASURED, fill, save_deviations
from l2ljax.paper.trajectory import proposed_updates, responses
from l2ljax.tasks import quadratic

ROOT = Path(__file__).parents[2]
TINY = {
    **DEFAULTS,
    "num_meta_updates": 1,
    "num_tasks": 1,
    "episode_length": 2,
    "unroll_length": 2,
    "task": {
        "name": "mlp",
        "dataset": {"name": "digits", "split": "train"},
        "hidden_sizes": [3],
        "batch_size": 32,
    },
    "optimizer": {"name": "lstm", "hidden_sizes": [4]},
    "validation": {"num_tasks": 1, "every": 1},
    "evaluation": {"num_tasks": 2, "num_steps": 4, "num_tuning_tasks": 2, "task": {}},
}
SIZES = {"num_tuning_steps": 3, "final_batches": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    experiment.run(TINY, workdir, command="python train.py", progress=False)
    return str(workdir / "meta_params.safetensors")


@pytest.fixture(scope="module")
def figures(weights):
    common = {"weights": weights, "title": "A title", "section": "3"}
    return {
        "curves": {"kind": "curves", "evaluation": SIZES, "from_step": 3, **common},
        "networks": {
            "kind": "architectures", "layers": (1, 2), "units": (2, 3), "baseline": "adam",
            "evaluation": SIZES, **common,
        },
        "updates": {
            "kind": "updates", "learning_rates": {"adam": 0.1}, "num_steps": 5, "at_steps": (0, 4),
            **common,
        },
        "features": {"kind": "preprocessing", "title": "Features", "section": "A"},
        "panels": {
            "kind": "panels", "rows": [["curves", "curves"]], "titles": ["One", "Two"],
            "labels": {"lstm": "learned"}, "title": "Panels", "section": "3",
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(figures, tmp_path_factory):
    directory = tmp_path_factory.mktemp("figures")
    for name, figure in figures.items():
        paper.compute(figure, directory / name)
        paper.draw(figure, directory / name)
    return directory


@pytest.mark.parametrize("name", ["curves", "networks", "updates", "features", "panels"])
def test_each_kind_is_drawn(made, name):
    """One PNG each; two of curves with a closer look, and of updates."""
    pictures = list((made / name).glob("*.png"))
    assert len(pictures) == {"updates": 2, "curves": 2}.get(name, 1)
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_panels_need_the_figures_that_they_show(figures, made, tmp_path):
    """Which of them are missing is said."""
    (tmp_path / "panels").mkdir()
    with pytest.raises(ValueError, match=r"not made yet in .*: curves, curves"):
        paper.draw(figures["panels"], tmp_path / "panels")


def test_a_smoke_run_takes_one_of_the_candidate_rates():
    """Given rates stay, and the figure itself is left alone."""
    figure = {"kind": "curves", "evaluation": {"learning_rates": {"sgd": (0.1, 1.0), "nag": 0.3}}}
    small = paper.shrink(figure, {"num_steps": 2})
    expected = {"num_steps": 2, "learning_rates": {"sgd": 0.1, "nag": 0.3}}
    assert small["evaluation"] == expected
    assert figure["evaluation"]["learning_rates"]["sgd"] == (0.1, 1.0)


def test_curves_report_the_step_that_rates_are_tuned_for(made):
    """Beside the last one: here after 3 of 4 steps."""
    summary = json.loads((made / "curves" / "summary.json").read_text())
    table = np.genfromtxt(made / "curves" / "curves.csv", delimiter=",", names=True)
    for name, row in summary["optimizers"].items():
        np.testing.assert_allclose(row["tuned_loss"]["mean"], table[f"{name}_mean"][3], rtol=1e-5)
        np.testing.assert_allclose(row["final_loss"]["mean"], table[f"{name}_mean"][4], rtol=1e-5)


def test_architectures_are_computed_once(figures, made, tmp_path, monkeypatch):
    """What a cut-off run has written is kept; other settings start anew."""
    path = tmp_path / "networks.json"
    whole = json.loads((made / "networks" / "architectures.json").read_text())
    assert [n["hidden_sizes"] for n in whole["networks"]] == [[2], [3], [2, 2], [3, 3]]
    part = whole | {"networks": whole["networks"][:3]}
    path.write_text(json.dumps(part))
    asked = []
    evaluate = architectures.evaluate_weights

    def counted(weights, overrides, **options):
        asked.append(overrides["task"]["hidden_sizes"])
        return evaluate(weights, overrides, **options)

    monkeypatch.setattr(architectures, "evaluate_weights", counted)
    figure = figures["networks"]
    options = {name: figure[name] for name in ("layers", "units", "baseline")}
    found = architectures.compare_architectures(path, figure["weights"], overrides=SIZES, **options)
    assert asked == [[3, 3]]
    assert found == whole  # the same draws
    architectures.compare_architectures(
        path, figure["weights"], overrides=SIZES | {"seed": 1}, **options | {"units": (2,)}
    )
    assert asked == [[3, 3], [2], [2, 2]]
    with pytest.raises(ValueError, match="Unknown baseline 'lion'"):
        architectures.compare_architectures(
            path, figure["weights"], overrides={}, **options | {"baseline": "lion"}
        )


def test_proposed_updates_follow_the_leader():
    """Against a plain loop: the others see the leader's gradients and never move anything."""
    task, key = quadratic(3), jax.random.key(0)
    updates, gradients, others = proposed_updates(
        task, optax.sgd(0.01), {"adam": optax.adam(0.3)}, key, num_steps=6, num_coordinates=3
    )
    np.testing.assert_allclose(updates, -0.01 * gradients, rtol=1e-6)
    adam = optax.adam(0.3)
    state = adam.init(jnp.zeros(3))
    for step in range(6):  # Adam is coordinatewise: the order of coordinates does not matter
        expected, state = adam.update(gradients[step], state)
        np.testing.assert_allclose(others["adam"][step], expected, rtol=1e-5)
    curvature = (gradients[1] - gradients[0]) / updates[0]
    assert float(jnp.abs(curvature).max()) > 0  # the trajectory does move


def test_responses_are_updates_after_the_same_gradients():
    """Against a plain loop with Adam: each value in turn as the gradient of step 3."""
    gradients = jax.random.normal(jax.random.key(0), (5, 2))
    values = jnp.array([-2.0, 0.0, 0.5])
    adam = optax.adam(0.1)
    found = responses(adam, gradients, values, [0, 3])
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[0], -0.1 * jnp.sign(values)[:, None] * jnp.ones(2), rtol=1e-5)
    state = adam.init(jnp.zeros(2))
    for gradient in gradients[:3]:
        _, state = adam.update(gradient, state)
    for value, answer in zip(values, found[1], strict=True):
        expected, _ = adam.update(jnp.full(2, value), state)
        np.testing.assert_allclose(answer, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"at_steps must lie in 0 ... 4, got \(5,\)"):
        responses(adam, gradients, values, (5,))


class Page(html.parser.HTMLParser):
    """What a page loads and shows: sources and links, ids, and the texts of table cells."""

    def __init__(self, page):
        super().__init__()
        self.sources, self.links, self.pictures, self.cells = [], [], {}, []
        self._section, self._in_cell = None, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found[name] for name in ("src", "srcset", "data") if name in found]
        if tag in ("link", "script", "iframe", "object", "embed"):
            self.sources.append(tag)
        if tag == "a":
            self.links.append(found["href"])
        if tag == "h2":
            self._section = found["id"]
        if tag == "img":
            self.pictures.setdefault(self._section, []).append(found["src"])
        if tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("measured")

    def row(mean):
        interval = [mean - 0.1, mean + 0.1]
        final = {"mean": mean, "ci95": interval, "median": mean}
        return {"final_loss": final, "mean_loss": mean, "mean_loss_ci95": interval}

    run = {"title": "a run", "command": "python train.py --x=1", "seconds": 60.0}
    failed = row(1.0) | {
        "final_loss": {"mean": None, "ci95": [None, None]}, "mean_loss": None,
        "mean_loss_ci95": [None, None],
    }  # fmt: skip
    few = row(0.6) | {"final_loss": {"mean": 0.6, "ci95": [None, None]}}
    few["mean_loss_ci95"] = [None, None]
    found = {
        "about": "About.", "num_tasks": 2, "num_steps": 4, "seed": 0, "hardware": "a machine",
        "optimizers": {"adam": row(0.5)},
        "runs": {
            "reference": run | {"optimizers": {"lstm": row(0.25)}},
            "init": run | {"optimizers": {"lstm": row(0.75), "adam": failed, "nag": few}},
        },
    }  # fmt: skip
    (directory / "deviations.json").write_text(json.dumps(found))
    save_deviations(directory / "deviations.json")
    return directory


def test_deviations_are_told_by_their_numbers(measured):
    """Each run's by its name, baselines by theirs; what is not there was not measured."""
    found = json.loads((measured / "deviations.json").read_text())
    rows = [["a", "{reference} and {adam}", "{init}, {init/adam}", "{mnist/adam}"]]
    summaries = {"mnist": {"optimizers": {"adam": found["optimizers"]["adam"]}}}
    adam = "0.500 [0.400, 0.600]"
    expected = ["a", f"0.250 [0.150, 0.350] and {adam}", "0.750 [0.650, 0.850], not finite", adam]
    assert fill(rows, found, summaries) == [expected]
    assert fill([["{windows} after all"]], found, {}) == [["(not measured yet) after all"]]


def test_the_page_stands_alone(figures, made, measured):
    """Pictures inside it, each figure's numbers and command, and nothing from elsewhere."""
    rows = [["a scale", "1", "2", "3", "{init}"]]
    page = web.report(figures | {"later": {"title": "Later"}}, rows, made, measured)
    found = Page(page)
    assert {name: len(of) for name, of in found.pictures.items()} == {
        "curves": 2, "networks": 1, "updates": 2, "features": 1, "panels": 1, "deviations": 1
    }  # fmt: skip
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert set(found.links) == {f"#{name}" for name in found.pictures}
    assert "Not made yet: later" in page
    summary = json.loads((made / "curves" / "summary.json").read_text())
    assert f"{summary['optimizers']['nag']['final_loss']['mean']:#.3g}<" in page  # few: no interval
    assert "over 2 more minibatches" in page
    assert f"{summary['above']['losses']['nag']['expected_loss']['mean']:#.3g}<" in page
    assert "python train.py" in page
    assert found.cells[-5:] == ["a scale", "1", "2", "3", "0.750 [0.650, 0.850]"]


def test_the_report_of_the_repository_is_whole():
    """Every figure and every deviation is there, inside the page."""
    figures, rows = figure_list.FIGURES, deviation_list.DEVIATIONS
    results = ROOT / "docs" / "results"
    page = web.report(figures, rows, results, results / "deviations")
    found = Page(page)
    assert set(found.pictures) - {"deviations"} == set(figures)
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not re.findall(r"url\(|@import", page)
    assert {row[0] for row in rows} <= set(found.cells)
    assert not any("{" in cell for cell in found.cells)
    for name in figures:
        assert f"--figure={name}</span></code>" in page


def test_every_deviation_was_measured():
    """benchmarks/quality/deviations.py was run to its end, and the table names no other run."""
    results = ROOT / "docs" / "results"
    found = json.loads((results / "deviations" / "deviations.json").read_text())
    summaries = {p.parent.name: json.loads(p.read_text()) for p in results.glob("*/summary.json")}
    rows = fill(deviation_list.DEVIATIONS, found, summaries)
    assert not [row for row in rows if NOT_MEASURED in row[-1]]


def test_figures_fit_the_bundled_weights():
    """Every figure of the list has weights, a training configuration and a kind."""
    for figure in figure_list.FIGURES.values():
        assert figure["kind"] in paper.KINDS
        if "weights" in figure:
            assert figure["weights"] in pretrained_names()
            assert (ROOT / figure["train"]).exists()
    assert all(len(row) == len(web.DEVIATION_COLUMNS) for row in deviation_list.DEVIATIONS)


def test_bad_figures_are_refused(figures, tmp_path):
    """Unknown kinds, and pictures of numbers that are not there."""
    with pytest.raises(ValueError, match="Unknown kind of figure 'film'"):
        paper.draw({"kind": "film"}, tmp_path)
    with pytest.raises(FileNotFoundError, match="does not hold the figure's numbers yet"):
        paper.draw(figures["curves"], tmp_path)
    with pytest.raises(ValueError, match=r"evaluation has wrong entries \(unknown: steps"):
        paper.compute(figures["curves"] | {"evaluation": {"steps": 3}}, tmp_path)


def test_runs_start_from_trained_weights(weights, tmp_path):
    """With a rate too small to change a float32 they end with them; others are refused."""
    frozen = TINY | {
        "initial": weights,
        "meta_optimizer": TINY["meta_optimizer"] | {"learning_rate": 1e-30},
        "seed": 5,
    }
    result = experiment.run(frozen, tmp_path / "run", command="python", progress=False)
    jax.tree.map(np.testing.assert_array_equal, result.meta_params, load_optimizer(weights)[1])
    for initial, words in {
        "lstm-mnist": "has shape .* expected",
        "adam-mnist": "There is no bundled optimizer 'adam-mnist'",
        "no.safetensors": "There is no weights file",
        3: "initial must name a bundled optimizer",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            experiment.run(frozen | {"initial": initial}, tmp_path / "no", command="python")


def test_a_partition_starts_from_one_source_a_label(weights):
    """Each label its own."""
    _, meta_params, _ = load_optimizer(weights)
    both = {"conv": meta_params, "fc": meta_params}
    found = load_meta_params({"conv": weights, "fc": weights}, like=both)
    jax.tree.map(np.testing.assert_array_equal, found, both)
    with pytest.raises(ValueError, match="lacks the leaf fc"):
        load_meta_params({"conv": weights}, like=both)


def test_a_partition_goes_on_from_the_parts_of_another(tmp_path, weights):
    """Each label from the file's part of that label; the parts differ."""
    _, meta_params, metadata = load_optimizer(weights)
    one = metadata["optimizer"]
    both = {"name": "partition", "optimizers": {"conv": one, "fc": one}, "labels": "conv_fc"}
    parts = {"conv": meta_params, "fc": jax.tree.map(lambda leaf: leaf + 1, meta_params)}
    path = tmp_path / "both.safetensors"
    save_optimizer(path, both, parts)
    found = load_meta_params({"conv": str(path), "fc": str(path)}, like=parts)
    jax.tree.map(np.testing.assert_array_equal, found, parts)
    found = load_meta_params({"conv": str(path), "fc": weights}, like=parts)
    jax.tree.map(np.testing.assert_array_equal, found["fc"], meta_params)


def test_weights_without_a_configuration_cannot_be_evaluated(tmp_path, weights):
    """The sentence says what to give instead."""
    _, meta_params, metadata = load_optimizer(weights)
    path = tmp_path / "bare.safetensors"
    save_optimizer(path, metadata["optimizer"], meta_params)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        paper.compute({"kind": "curves", "weights": str(path), "evaluation": {}}, tmp_path)


@pytest.mark.slow
def test_every_figure_is_made_in_a_smoke_run(tmp_path):
    """`reproduce.py --all --quick` on real data, and again from its numbers alone."""
    data_dir = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "tfds")
    if not (data_dir / "mnist").exists():
        pytest.skip(f"There is no MNIST in {data_dir}.")
    command = [sys.executable, "scripts/reproduce.py", "--all", "--quick"]
    options = [f"--output={tmp_path}", f"--data_dir={data_dir}"]
    for extra in ([], ["--redraw"]):
        subprocess.run([*command, *options, *extra], cwd=ROOT, check=True, timeout=900)
        assert "Not made yet" not in (tmp_path / "report.html").read_text()
