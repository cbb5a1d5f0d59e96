"""Directories of runs as `l2ljax train` and `evaluate` leave them, without any training."""

import json

import jax
import numpy as np

import l2ljax
from l2ljax.evaluation import Curve, summarise
from l2ljax.experiments import write_results
from l2ljax.experiments.experiment import DEFAULTS

UPDATES = np.arange(10, 101, 10)


def make_run(
    folder, *, seed=0, factor=1.0, optimizer=None, evaluated=True, finished=True, task="quadratic"
):
    """A run whose meta-loss is `factor * 1000 / update` and validation a tenth of it.

    Evaluated, its learned optimizer has the loss `factor * 2^-t` everywhere, Adam thrice it.
    """
    folder.mkdir(parents=True)
    specification = {"name": "lstm", "hidden_sizes": [3]} if optimizer is None else optimizer
    config = {
        **DEFAULTS, "seed": seed, "num_meta_updates": 100, "task": {"name": task},
        "optimizer": specification,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    records = []
    for update in UPDATES.tolist():
        loss = factor * 1000 / update
        records.append({"update": update, "meta_loss": loss, "losses": [loss], "skipped": 0})
        records.append({"update": update, "validation_loss": loss / 10})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if finished:
        built = l2ljax.optimizers.build(specification)
        known = {
            "command": "l2ljax train demo --workdir=<x>", "config": config, "seconds": 50.0,
            "hardware": "a machine", "validation_loss": factor, "best_update": 100,
            "versions": {"jax": "0.0.1"},
        }  # fmt: skip
        weights = built.init(jax.random.key(seed))
        l2ljax.save_optimizer(folder / "meta_params.safetensors", specification, weights, known)
    if evaluated:
        losses = factor * np.tile(0.5 ** np.arange(9.0), (6, 1))
        curves = {"lstm": Curve(None, losses), "adam": Curve(0.1, 3 * losses)}
        summary = {
            "task": task, "num_tasks": 6, "num_steps": 8, "num_tuning_steps": 8, "seed": seed,
            "optimizers": {name: summarise(curve) for name, curve in curves.items()},
        }  # fmt: skip
        write_results(folder / "evaluation", summary, curves)
    return folder
