"""Painted pictures: the pixels of a plain loop, and the grid that is drawn from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.experiments import experiment
from l2ljax.experiments.experiment import DEFAULTS
from l2ljax.paper import reproduction as paper
from l2ljax.paper.gallery import as_uint8, paint
from l2ljax.tasks import neural_art
from l2ljax.tasks.features import Extractor
from l2ljax.unrolling import init_optimizee


def test_pictures_are_those_of_a_plain_loop():
    """Photograph by photograph, each from the same noise."""
    random = np.random.default_rng(0)
    contents = random.random((2, 8, 8, 3)).astype(np.float32)
    colours = Extractor((), lambda _, image, taps: {"rgb": image}, ("rgb",), "rgb", ("rgb",))
    task = neural_art(contents, random.random((8, 8, 3)).astype(np.float32), extractor=colours)
    tx, key = optax.sgd(1.0, momentum=0.5), jax.random.key(1)
    found = paint(task, tx, key, (1, 3))
    gradient = jax.jit(jax.grad(task.loss))
    for nth in range(2):
        alone = dataclasses.replace(task, data=task.data._replace(contents=contents[nth][None]))
        alone = jax.tree.map(jnp.asarray, alone)
        state = init_optimizee(alone, tx, jax.random.split(key, 4)[0])
        batch = alone.batch(alone.data, state.instance, key)
        params, opt_state = state.params, state.opt_state
        for step in (1, 2, 3):
            updates, opt_state = tx.update(gradient(params, batch), opt_state)
            params = optax.apply_updates(params, updates)
            if step != 2:
                seen = found[nth, (1, 3).index(step)].astype(int)
                assert np.abs(seen - as_uint8(params)).max() <= 1  # they may round differently
    assert (found[0] != found[1]).any()
    with pytest.raises(ValueError, match="steps must be positive integers"):
        paint(task, tx, key, (0, 3))


@pytest.mark.slow
def test_the_grid_is_computed_and_drawn(tmp_path):
    """From a run's weights, and again from its numbers alone."""
    art = {"name": "neural_art", "content": "train", "style": "brick", "size": 8, "num_crops": 1}
    config = {
        **DEFAULTS,
        "num_meta_updates": 1,
        "num_tasks": 1,
        "episode_length": 2,
        "unroll_length": 2,
        "task": art,
        "optimizer": {"name": "lstm", "hidden_sizes": [3]},
        "validation": {"num_tasks": 1, "every": 1},
        "evaluation": {"num_tasks": 1, "num_steps": 2, "num_tuning_tasks": 1, "task": {}},
    }
    experiment.run(config, tmp_path / "run", command="python", progress=False)
    figure = {
        "kind": "pictures",
        "title": "A title",
        "weights": str(tmp_path / "run" / "meta_params.safetensors"),
        "task": {"content": "test"},
        "learning_rates": {"adam": 0.1},
        "steps": (32, 128),
    }
    small = paper.shrink(figure, {"num_steps": 3})
    assert small["steps"] == (1, 3)
    directory = tmp_path / "figure"
    paper.compute(small, directory)
    with np.load(directory / "pictures.npz") as file:
        assert set(file) == {"content", "style", "steps", "lstm", "adam"}
        assert file["content"].shape == (3, 8, 8, 3)
        assert file["adam"].shape == (3, 2, 8, 8, 3)
        assert file["adam"].dtype == np.uint8
    paper.draw(small, directory)
    (picture,) = directory.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match="does not hold the figure's numbers yet"):
        paper.draw(figure, tmp_path / "nothing")
