"""Bad input by the hundred: each either works or is refused in one sentence that names the culprit.

    python tests/experiments/fuzz.py --seed=0 --configs=250 --files=220

Everything else is unexplained and fails: other exceptions, a message that is a traceback, numbers
that are not those saved, a file that was changed, a case that takes longer than two minutes.
Prints a table, and the unexplained cases.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import safetensors.numpy
from damage import DAMAGES
from mutations import mutate
from tally import Case, Tally

from l2ljax.bundled import WEIGHTS, load_optimizer
from l2ljax.experiments import completed, experiment
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import claim
from l2ljax.training import init_state
from l2ljax.training.history import MetricsLog

jax.config.update("jax_disable_most_optimizations", True)  # compilation is what takes time

ROOT = Path(__file__).parents[2]


def small_configs() -> dict[str, dict[str, Any]]:
    """Those of configs/, at sizes that build and run in no time and need no data set from TFDS."""
    configs = {}
    for path in sorted(ROOT.glob("configs/*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config().to_dict()
        config |= {"num_meta_updates": 4, "num_tasks": 2, "episode_length": 2, "unroll_length": 2}
        config |= {"checkpoint_every": 2}
        config["meta_optimizer"]["restarts"] = ()
        config["validation"] = {"num_tasks": 2, "every": 2}
        if "dataset" in config["task"]:
            config["task"]["dataset"] = {"name": "digits", "split": "train[:40]"}
            config["task"]["batch_size"] = 2
        for _, stage in config["estimator"].get("stages", ()):
            if "dataset" in stage.get("task", {}):
                stage["task"] |= {"dataset": config["task"]["dataset"], "batch_size": 2}
        if "num_perturbations" in config["estimator"]:
            config["estimator"] |= {"num_perturbations": 2}
        if "mixtures:suite" in config["estimator"]["name"]:  # some of whose tasks need images
            config["estimator"] |= {"tasks": ["quadratic", "teacher-8"]}
        configs[path.stem] = json.loads(json.dumps(config))
    return configs


def fingerprint(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def try_config(config: Any, folder: Path) -> str:
    """Builds and traces the experiment, which stops short of the compiler; a bad one must also be
    refused by `run`, without a trace in its directory."""
    try:
        parts = experiment.build(config)
        key = jax.random.key(0)
        meta_params = jax.eval_shape(parts.optimizer.init, key)
        state = jax.eval_shape(parts.estimator.init, key, meta_params)
        jax.eval_shape(parts.estimator.estimate, meta_params, state, key)
        jax.eval_shape(parts.validation.score, meta_params)
        jax.eval_shape(parts.meta_optimizer.init, meta_params)
    except (ValueError, TypeError, OSError):
        before = fingerprint(folder)
        with contextlib.suppress(ValueError, TypeError, OSError):
            experiment.run(config, folder / "run", command="python", progress=False)
        if fingerprint(folder) != before:
            raise RuntimeError("a refused configuration left files behind") from None
        raise
    return "works"


def is_small(config: dict[str, Any]) -> bool:
    """Whether a run of a good configuration takes seconds: the convnet's compilation alone takes
    longer, and so do others at larger sizes."""
    config = completed(config)  # mutations leave fields out
    sizes = (config["num_meta_updates"], config["num_tasks"], config["validation"]["num_tasks"])
    largest = max(*sizes, config["episode_length"], len(str(config["optimizer"])) // 20)
    return (
        largest < 10 and config["task"]["name"] != "convnet" and config["task"].get("dim", 1) < 99
    )


def fuzz_configs(tally: Tally, draw: random.Random, number: int, runs: int, folder: Path) -> None:
    """`number` of them; the first `runs` that are good and small are run, files and all."""
    configs, good = small_configs(), []
    for name, config in configs.items():
        tally("configs/, small", name, lambda config=config: try_config(config, folder), [])
    for _ in range(number):
        name = draw.choice(sorted(configs))
        config, changes, culprits = mutate(configs[name], draw)
        description = f"{name} with {'; '.join(changes)}"
        outcome = tally(
            "configurations", description, lambda c=config: try_config(c, folder), culprits
        )
        if outcome == "works" and is_small(config):
            good.append((description, config))
    for index, (description, config) in enumerate(good[:runs]):
        workdir = folder / f"run-{index}"
        tally(
            "of these, run",
            description,
            lambda c=config, w=workdir: (
                "works" if experiment.run(c, w, command="python", progress=False) else ""
            ),
            [],
        )


def damage_file(tally: Tally, draw: random.Random, what: str, path: Path, case: Case) -> None:
    """Damages `path`, tries `case`, and sees that the file is as the damage left it."""
    how = draw.choice(["flip", "flip", "flip", "cut", "overwrite"])
    before = path.read_bytes()
    DAMAGES[how](path, draw)
    damaged = path.read_bytes()
    changed = [i for i, (a, b) in enumerate(zip(before, damaged, strict=False)) if a != b]
    at = f"{how} of {path.name} at byte {changed[0] if changed else len(damaged)}"
    tally(what, at, case, [path.name])
    if path.exists() and path.read_bytes() != damaged:
        tally.unexplained.append(f"{what}, {at}: the file was changed")
    path.write_bytes(before)


def same(a: Any, b: Any) -> bool:
    """The same arrays to the last bit."""

    def data(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return [*map(data, jax.tree.leaves(a))] == [*map(data, jax.tree.leaves(b))]


def fuzz_weights(tally: Tally, draw: random.Random, number: int, folder: Path) -> None:
    """Damaged bundled weights; and ones whose metadata name other optimizers."""
    for index in range(number):
        original = draw.choice(sorted(WEIGHTS.glob("*.safetensors")))
        path = folder / original.name
        shutil.copy(original, path)
        _, meta_params, metadata = load_optimizer(original)

        def load(path=path, meta_params=meta_params, metadata=metadata):
            _, found, told = load_optimizer(path)
            if not same(found, meta_params) or any(told[n] != metadata[n] for n in metadata):
                raise RuntimeError("the damage was not noticed")
            return "works"

        damage_file(tally, draw, "weights, damaged", path, load)
        if index % 2 == 0:
            tensors = safetensors.numpy.load_file(original)
            specification, changes, _ = mutate(metadata["optimizer"], draw)
            try:
                texts = {"optimizer": json.dumps(specification)}
            except (TypeError, ValueError, RecursionError):
                continue  # no JSON: such a file cannot be
            safetensors.numpy.save_file(tensors, path, metadata=texts)
            tally(
                "weights, metadata",
                "; ".join(changes),
                lambda path=path: "works" if load_optimizer(path) else "",
                [path.name],
            )


def fuzz_workdirs(tally: Tally, draw: random.Random, number: int, folder: Path) -> None:
    """Damaged checkpoints and plain files of a real run."""
    config = small_configs()["demo"] | {"num_tasks": 8}
    config["optimizer"]["hidden_sizes"] = [8]  # arrays of several sizes
    run = folder / "original"
    experiment.run(config, run, command="python", progress=False)
    parts = experiment.build(config)
    meta_params = parts.optimizer.init(jax.random.key(0))
    like = init_state(parts.estimator, parts.meta_optimizer, meta_params, jax.random.key(0))

    def restore(workdir):
        found = checkpoint.load(workdir / "checkpoints", repair=True)
        return checkpoint.place(found, like), found.extra

    newest = restore(run)
    shutil.copytree(run, folder / "older")
    (folder / "older" / f"checkpoints/{config['num_meta_updates']}.safetensors").unlink()
    before = restore(folder / "older")
    files = [Path("checkpoints/4.safetensors")]
    for index in range(number):
        workdir = folder / f"{index}"
        shutil.copytree(run, workdir)

        def resume(workdir=workdir):
            state, extra = restore(workdir)
            if same(state, newest[0]) and extra == newest[1]:
                return "works"
            if same(state, before[0]) and extra == before[1]:
                return "went back"
            raise RuntimeError("the damage was not noticed")

        path, how = workdir / draw.choice(files), draw.choice(sorted(DAMAGES))
        DAMAGES[how](path, draw)
        tally("checkpoints", f"{how} of {path.relative_to(workdir)}", resume, ["Checkpoint"])
        shutil.rmtree(workdir)
    for index in range(number):
        if index % 2:
            damage_file(
                tally, draw, "config.json", run / "config.json",
                lambda: claim(run, config) or "works",
            )  # fmt: skip
        else:
            damage_file(
                tally, draw, "metrics.jsonl", run / "metrics.jsonl",
                lambda: "works" if MetricsLog(run / "metrics.jsonl", 4, write=False) else "",
            )  # fmt: skip


def fuzz(seed: int, configs: int, runs: int, files: int, folder: Path) -> Tally:
    """All of it, from one seed."""
    tally = Tally()
    fuzz_configs(tally, random.Random(seed), configs, runs, folder)
    fuzz_weights(tally, random.Random(seed + 1), files, folder)
    fuzz_workdirs(tally, random.Random(seed + 2), files, folder)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", type=int, default=250)
    parser.add_argument("--runs", type=int, default=6, help="of good configurations")
    parser.add_argument("--files", type=int, default=220, help="of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = fuzz(options.seed, options.configs, options.runs, options.files, Path(folder))
    print(tally.table())
    for case in tally.unexplained:
        print(f"UNEXPLAINED {case:.600}")
    print(f"{len(tally.unexplained)} unexplained.")
    return 1 if tally.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
