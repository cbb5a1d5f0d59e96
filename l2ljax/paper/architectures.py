"""How a learned optimizer fares on networks it was not trained on (section 3.2's last figure)."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2ljax.evaluation import BASELINES
from l2ljax.experiments.comparison import evaluate_weights
from l2ljax.storage.workdir import make_directory, write_atomically


def compare_architectures(
    path: str | Path,
    weights: str | Path,
    *,
    layers: Sequence[int],
    units: Sequence[int],
    baseline: str,
    overrides: Mapping[str, Any],
    data_dir: str | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Final losses of a learned optimizer and a tuned baseline on a grid of network sizes.

    Each network's results are written as soon as they are there; those that `path` already holds
    for the same settings are not computed again.

    Args:
        path: a JSON file.
        weights: a bundled optimizer or a file, trained on a task with `hidden_sizes`.
        layers: numbers of hidden layers.
        units: units of each.
        baseline: a name in `l2ljax.BASELINES`.
        overrides: of the evaluation, as in `evaluate_weights`.
        data_dir: as in `load_dataset`.
        on_done: called after each network.

    Returns:
        the content of `path`: `settings`, `seed`, `hardware`, and `networks`, a list of
        `{"hidden_sizes": [...], "optimizers": ...}` as in `summary.json`.

    Raises:
        ValueError: for an unknown baseline, and whatever the evaluation refuses.
    """
    if baseline not in BASELINES:
        raise ValueError(f"Unknown baseline {baseline!r}; there are {', '.join(BASELINES)}.")
    path = Path(path)
    settings = json.loads(json.dumps({"weights": str(weights), **overrides}))
    found: dict[str, Any] = {"settings": settings, "networks": []}
    if path.exists() and (old := json.loads(path.read_text()))["settings"] == settings:
        found = old  # but for networks beside another baseline
        found["networks"] = [n for n in old["networks"] if baseline in n["optimizers"]]
    done = [network["hidden_sizes"] for network in found["networks"]]
    for depth, width in itertools.product(layers, units):
        hidden_sizes = [width] * depth
        if hidden_sizes not in done:
            summary, _ = evaluate_weights(
                weights,
                {**overrides, "task": {**overrides.get("task", {}), "hidden_sizes": hidden_sizes}},
                baselines={baseline: BASELINES[baseline]},
                data_dir=data_dir,
            )
            network = {"hidden_sizes": hidden_sizes, "optimizers": summary["optimizers"]}
            found["networks"].append(network)
            found |= {
                name: summary[name] for name in ("num_tasks", "num_steps", "seed", "hardware")
            }
            make_directory(path.parent)
            write_atomically(path, json.dumps(found, indent=1) + "\n")
        on_done()
    return found
