"""A long meta-training run watched from outside: does its memory or the time of an update grow?

    python benchmarks/robustness/soak.py --updates=5000 --out=docs/results/robustness

Runs scripts/meta_train.py on quadratics, with checkpoints, validation and its history on, and reads
the process's resident memory and processor time whenever the history has grown. Growth is the slope
of a line through means of blocks of updates after a warm-up; exits 1 if memory or processor time
grows by more than `--allowed` over the run, with 95 % confidence.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from growth import blocks, growth, watch
from rich.progress import Progress

UPDATES = flags.DEFINE_integer("updates", 5000, "Meta-updates.", lower_bound=100)
WARM_UP = flags.DEFINE_integer("warm_up", 500, "Meta-updates left out of the slopes.")
EVERY = flags.DEFINE_integer("checkpoint_every", 500, "Meta-updates between checkpoints.")
ALLOWED = flags.DEFINE_float("allowed", 0.02, "Growth over the run, as a share of the mean.")
OUT = flags.DEFINE_string("out", "benchmarks/results", "Folder for soak.json and soak.png.")

ROOT = Path(__file__).parents[2]
BLOCKS = 20
MEASURES = {
    "memory_mib": "resident memory [MiB]",
    "cpu_ms": "processor time an update [ms]",
    "wall_ms": "wall time an update [ms]",
}


def command(workdir: Path) -> list[str]:
    return [
        *(sys.executable, "scripts/meta_train.py", "--config=configs/quadratic.py"),
        *(f"--workdir={workdir}", f"--config.num_meta_updates={UPDATES.value}"),
        *("--config.num_tasks=8", "--config.validation.num_tasks=16"),
        *("--config.validation.every=50", f"--config.checkpoint_every={EVERY.value}"),
    ]


def draw(samples: Sequence[dict[str, float]], report: dict[str, Any], path: Path) -> None:
    """Memory, and times of an update, over the run; the fitted lines with their intervals."""
    from l2ljax.evaluation.report import new_figure, save_figure

    means, first = report["blocks"], report["warm_up"]
    figure, panels = new_figure(2, 1, size=(7.0, 6.0), sharex=True)
    memory, times = panels[:, 0]
    memory.plot(
        [s["update"] for s in samples], [s["memory_mib"] for s in samples], color="0.6", lw=0.8
    )
    for axes, name in ((memory, "memory_mib"), (times, "cpu_ms")):
        fit = report["growth"][name]
        low, high = (100 * end for end in fit["growth_ci95"])
        label = f"{MEASURES[name].split(' [')[0]}: growth {low:+.2g} ... {high:+.2g} %"
        axes.plot(means["update"], means[name], "o", color="#b2182b", markersize=4, label=label)
        line = fit["mean"] + fit["slope"] / 1e3 * (means["update"] - np.mean(means["update"]))
        axes.plot(means["update"], line, color="#b2182b", linewidth=1.4)
    label = "wall time (as other work on the machine allows)"
    times.plot(means["update"], means["wall_ms"], "s", color="0.55", markersize=4, label=label)
    for axes, label in ((memory, "resident memory [MiB]"), (times, "time of an update [ms]")):
        axes.set_ylabel(label)
        axes.axvspan(0, first, color="0.92")
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False, loc="upper right")
    memory.set_ylim(0, 1.25 * memory.get_ylim()[1])
    times.set_yscale("log")
    bottom, top = times.get_ylim()
    times.set_ylim(bottom / 2, 5 * top)
    times.yaxis.set_major_formatter("{x:g}")
    memory.annotate("warm-up", (first / 2, 0.04), xycoords=("data", "axes fraction"), ha="center")
    times.set_xlim(0, samples[-1]["update"])
    times.set_xlabel("meta-updates")
    figure.suptitle(f"{samples[-1]['update']:,} meta-updates; growth over the run, 95 % intervals")
    save_figure(figure, path)


def main(argv: list[str]) -> None:
    del argv
    samples = []
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        line = bar.add_task("meta-updates", total=UPDATES.value)
        process = subprocess.Popen(
            command(Path(folder) / "run"), cwd=ROOT, stdout=subprocess.DEVNULL,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        for sample in watch(process, Path(folder) / "run" / "metrics.jsonl"):
            samples.append(sample)
            bar.update(line, completed=sample["update"])
        if process.returncode:
            raise RuntimeError(f"Meta-training ended with code {process.returncode}.")
    means = blocks(samples, WARM_UP.value, BLOCKS)
    fits = {name: growth(means["update"], means[name]) for name in MEASURES}
    report = {
        "updates": samples[-1]["update"],
        "checkpoint_every": EVERY.value,
        "warm_up": WARM_UP.value,
        "hardware": f"{os.cpu_count()} cores",
        "growth": fits,
        "blocks": {name: values.round(4).tolist() for name, values in means.items()},
        "samples": samples,
    }
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.json").write_text(json.dumps(report) + "\n")
    draw(samples, {**report, "blocks": means}, out / "soak.png")
    for name, fit in fits.items():
        low, high = (100 * end for end in fit["growth_ci95"])
        print(f"{MEASURES[name]}: mean {fit['mean']:.4g}, growth {low:+.2f} ... {high:+.2f} %")
    if any(fits[name]["growth_ci95"][0] > ALLOWED.value for name in ("memory_mib", "cpu_ms")):
        sys.exit("Memory or processor time grows.")


if __name__ == "__main__":
    app.run(main)
