"""Seconds of meta-training until the optimizer is of use: below every tuned baseline.

    python benchmarks/quality/time_to_useful.py --works=quadratics --seeds=3
    make bench BENCH="--works=useful-quadratics"

Three stages, each of which leaves what is there already as it is: baselines are tuned and run
(`baselines/`), every recipe is meta-trained once a seed in a process of its own (`runs/`), and what
validation had chosen so far, at each time that it chose anew, is judged on the baselines' fresh
optimizees, none of which training, validation or tuning have seen (`judged/`). Useful is an
optimizer whose paired difference of final losses to each baseline has a 95 % interval below 0; the
time told is that after which all that was chosen is. It begins before the task is built, so that it
has the compilation in it, and no compiled program is taken from a cache. `--stages=train` alone, on
a machine that does nothing else, is what is to be timed.

With `--cosine` the baselines are NAG and Adam whose rate falls to 0 along a cosine, tuned over the
same grid; what is found is kept apart.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import useful
from absl import app, flags
from useful_figure import draw

STAGES = ("baselines", "train", "judge", "report")
WORKS = flags.DEFINE_list("works", list(useful.RECIPES), "Works: names in useful.RECIPES.")
RECIPES = flags.DEFINE_list("recipes", None, "Names of recipes; default: all of the work's.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of each recipe, with seeds 0, 1, ...", lower_bound=1)
STAGE = flags.DEFINE_list("stages", list(STAGES), "Of baselines, train, judge and report.")
OUT = flags.DEFINE_string("out", "benchmarks/results/useful", "Folder of what is found.")
RUNS = flags.DEFINE_string("runs", "runs/useful", "Folder of the trained meta-parameters.")
COSINE = flags.DEFINE_bool("cosine", False, "Beside NAG and Adam with a cosine schedule instead.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
ONE = flags.DEFINE_string("one", None, "Train this one, WORK/RECIPE/SEED, and end.")


def chosen(work: str) -> list[str]:
    """The recipes of a work that are asked for."""
    return [r for r in useful.RECIPES[work] if RECIPES.value is None or r in RECIPES.value]


def run_path(work: str, recipe: str, seed: int) -> Path:
    return Path(RUNS.value) / work / f"{useful.slug(recipe)}-{seed}.npz"


def folder(kind: str) -> Path:
    """Of baselines or of what was judged beside them."""
    return Path(OUT.value) / (f"{kind}_cosine" if COSINE.value else kind)


def found_path(kind: str, work: str, *rest: str) -> Path:
    return folder(kind) / f"{'-'.join([work, *map(useful.slug, rest)])}.json"


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n")


def train(work: str, recipe: str, seed: int) -> None:
    """In a process of its own, so that it compiles all by itself."""
    path = run_path(work, recipe, seed)
    if path.exists():
        return
    command = [sys.executable, __file__, f"--one={work}/{recipe}/{seed}", f"--runs={RUNS.value}"]
    command += [f"--data_dir={DATA_DIR.value}"] if DATA_DIR.value else []
    no_cache = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run(command, check=True, env={**os.environ, **no_cache})


def train_one(name: str) -> None:
    work, recipe, seed = name.split("/")
    config = useful.config_of(work, recipe, int(seed))
    path, found = run_path(work, recipe, int(seed)), []
    unfinished = path.with_suffix(".unfinished.npz")
    for snapshot in useful.snapshots(config, DATA_DIR.value):
        found.append(snapshot)
        useful.save_snapshots(unfinished, config, found)
        print(f"{name}: {snapshot.update} meta-updates in {snapshot.seconds:.1f} s", flush=True)
    unfinished.rename(path)


def judge(work: str, recipe: str, seed: int, baselines: dict) -> None:
    path = found_path("judged", work, recipe, str(seed))
    if path.exists() or not run_path(work, recipe, seed).exists():
        return
    config, snapshots = useful.load_snapshots(run_path(work, recipe, seed))
    curve = useful.judged(config, snapshots, baselines, DATA_DIR.value)
    found = {"recipe": recipe, "seed": seed, "useful_at": useful.useful_at(curve), "curve": curve}
    write(path, found)
    print(f"{work}, {recipe}, seed {seed}: useful after {found['useful_at']} s", flush=True)


def report(work: str) -> str:
    """The work's table; draws its figure."""
    baselines = json.loads(found_path("baselines", work).read_text())
    runs: dict[str, list[dict]] = {}
    for path in sorted(folder("judged").glob(f"{work}-*.json")):
        found = json.loads(path.read_text())
        runs.setdefault(found["recipe"], []).append(found)
    order = [recipe for recipe in useful.RECIPES[work] if recipe in runs]
    picture = Path(OUT.value) / f"{work}{'-cosine' * COSINE.value}.png"
    draw(work, {r: runs[r] for r in order}, baselines, picture)
    lines = [
        "| recipe | runs | useful after, s | least | most | final loss | of the best | s in all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    best = min(np.mean(found["final"]) for found in baselines["optimizers"].values())
    for recipe in order:
        times = [found["useful_at"] for found in runs[recipe]]
        ends = [found["curve"][-1] for found in runs[recipe]]
        told = ["never"] * 3
        if None not in times:
            told = [f"{x:.0f}" for x in (np.median(times), min(times), max(times))]
        elif any(times):
            told = [f"{sum(t is not None for t in times)} of {len(times)} are", "-", "-"]
        final = np.median([end["final"] for end in ends])
        seconds = np.median([end["seconds"] for end in ends])
        lines.append(
            f"| {recipe} | {len(times)} | {' | '.join(told)} | {final:.4g} | {final / best:.3f} | "
            f"{seconds:.0f} |"
        )
    return "\n".join([*lines, "", *intervals(order, runs, baselines["optimizers"])]) + "\n"


def intervals(order: list[str], runs: dict[str, list[dict]], beside: dict) -> list[str]:
    """How far each baseline's final loss is above the last choice's, each run by itself.

    Example:
        >>> end = {"final": 0.3, "above": {"nag": [0.01, 0.03]}}
        >>> runs = {"fast": [{"seed": 2, "curve": [end]}]}
        >>> intervals(["fast"], runs, {"nag": {"final": [0.31, 0.33], "learning_rate": 0.1}})[-1]
        '| fast, seed 2 | 0.3000 | 0.0100 to 0.0300 |'
    """
    named = [
        f"{name} at {found['learning_rate']:g}, {np.mean(found['final']):.4f}"
        for name, found in beside.items()
    ]
    lines = [
        f"| run | final loss | {' | '.join(f'{name}, is above by' for name in named)} |",
        "| --- | --- |" + " --- |" * len(named),
    ]
    for recipe in order:
        for found in runs[recipe]:
            end = found["curve"][-1]
            told = [
                "not finite" if low is None else f"{low:.4f} to {high:.4f}"
                for low, high in (end["above"][name] for name in beside)
            ]
            own = f"| {recipe}, seed {found['seed']} | {end['final']:.4f} |"
            lines.append(f"{own} {' | '.join(told)} |")
    return lines


def main(argv: list[str]) -> None:
    del argv
    if ONE.value:
        train_one(ONE.value)
        return
    tables = []
    for work in WORKS.value:
        path = found_path("baselines", work)
        if "baselines" in STAGE.value and not path.exists():
            write(path, useful.baselines(work, DATA_DIR.value, COSINE.value))
        for recipe in chosen(work):
            for seed in range(SEEDS.value):
                if "train" in STAGE.value:
                    train(work, recipe, seed)
                if "judge" in STAGE.value:
                    judge(work, recipe, seed, json.loads(path.read_text()))
        if "report" in STAGE.value:
            tables.append(f"### {work}\n\n{report(work)}")
            print(tables[-1])
    if tables:
        (Path(OUT.value) / f"table{'-cosine' * COSINE.value}.md").write_text("\n".join(tables))


if __name__ == "__main__":
    app.run(main)
