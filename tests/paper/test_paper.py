"""The paper's figures: numbers first, pictures from numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import SIZES

from l2ljax.bundled import pretrained_names
from l2ljax.paper import architectures, deviation_list, figure_list, web
from l2ljax.paper import reproduction as paper
from l2ljax.paper.trajectory import proposed_updates, responses
from l2ljax.tasks import quadratic

ROOT = Path(__file__).parents[2]


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


def test_pictures_of_an_earlier_run_do_not_stay(figures, made, tmp_path):
    """Such as those of a smoke run from another step on; a failure removes none."""
    for path in (made / "curves").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    names = {path.name for path in tmp_path.glob("*.png")}
    (tmp_path / "curves_from_999.png").write_bytes(b"an earlier run's")
    paper.draw(figures["curves"], tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == names
    (tmp_path / "curves.csv").unlink()
    with pytest.raises(FileNotFoundError):
        paper.draw(figures["curves"], tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == names


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
    others = dict(options, units=(3,), layers=(1,), baseline="sgd")
    found = architectures.compare_architectures(
        path, figure["weights"], overrides=SIZES | {"seed": 1}, **others
    )
    assert asked[3:] == [[3]]
    assert list(found["networks"][0]["optimizers"])[1:] == ["sgd"]
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


@pytest.mark.long
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
