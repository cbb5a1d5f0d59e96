"""One figure of each kind, made once from weights that one update trained."""

import pytest
from tiny import SIZES, TINY

from l2ljax.experiments import experiment
from l2ljax.paper import reproduction as paper


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    experiment.run(TINY, workdir, command="python train.py", progress=False)
    return str(workdir / "meta_params.safetensors")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def made(figures, tmp_path_factory):
    directory = tmp_path_factory.mktemp("figures")
    for name, figure in figures.items():
        paper.compute(figure, directory / name)
        paper.draw(figure, directory / name)
    return directory
