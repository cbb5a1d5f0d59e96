"""The whole bench on one GPU or TPU, in one process and one command: a table for docs/gpu.md.

    python benchmarks/speed/accelerator.py --out=benchmarks/results/gpu

Programs are compiled side by side, then all take turns, round after round. What fails is a row that
says so, and so is what there was no time for. No data set is needed.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
import accelerator_works  # noqa: E402
import bound  # noqa: E402
from turns import Measured, make_all, markdown, say, sentence  # noqa: E402

OUT = flags.DEFINE_string("out", "benchmarks/results/gpu", "Folder for results.json and table.md.")
WORKS = flags.DEFINE_list("works", None, "Works to run (by prefix); default: all.")
BUDGET = flags.DEFINE_float("budget", 180.0, "Seconds after which nothing new is begun.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each variant takes.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 0.1, "Time of a turn.")
THREADS = flags.DEFINE_integer("threads", min(16, os.cpu_count() or 1), "That compile.")
COMMIT = flags.DEFINE_string("commit", None, "Where there is no git to ask.")
COORDINATES = flags.DEFINE_list("coordinates", ["15910", "1000000"], "Of layers alone.")


def machine() -> dict[str, Any]:
    """What the figures are of: device, its rates measured here, versions, commit."""
    device = jax.devices()[0]
    found: dict[str, Any] = {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": COMMIT.value or _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    try:
        number = 2**20 if device.platform != "cpu" else 2**12
        flops, tanhs = bound.measure_rates(number, repeats=20)
        found |= {"tflop_per_s": flops / 1e12, "gtanh_per_s": tanhs / 1e9}
        found["gbyte_per_s"] = copy_rate(16 * number) / 1e9
    except Exception as error:
        found["rates"] = sentence(error)
    return found


def copy_rate(size: int, repeats: int = 20) -> float:
    """Bytes read and written a second, of a loop over a large array."""
    x = jnp.zeros(size * 4, jnp.float32)
    program = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jax.block_until_ready(program(x))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            x = program(x)
        jax.block_until_ready(x)
        times.append(time.perf_counter() - start)
    return 2 * x.nbytes * repeats / statistics.median(times)


def _commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # no git
        return "unknown"
    return asked.stdout.strip() or "unknown"


def write(report: dict[str, Any], folder: Path) -> None:
    """`results.json` and `table.md`, of what there is so far."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    about = report["machine"]
    head = ", ".join(f"{key} {about[key]}" for key in ("device", "jax", "commit", "date"))
    (folder / "table.md").write_text(f"{head}\n\n{markdown(report['rows'])}")


def main(argv: list[str]) -> None:
    del argv
    start, folder = time.perf_counter(), Path(OUT.value)
    kernel = "interpreted" if jax.devices()[0].platform == "cpu" else "pallas"
    coordinates = tuple(map(int, COORDINATES.value))
    jobs = accelerator_works.jobs(kernel, list(accelerator_works.TILINGS), coordinates)
    jobs = [job for job in jobs if WORKS.value is None or job.work.startswith(tuple(WORKS.value))]
    report: dict[str, Any] = {"machine": machine()}
    say(json.dumps(report["machine"]))
    measured = Measured()
    # What is plain first, and written: a compiler that aborts on a kernel takes nothing with it.
    for uses_kernel, made_by, begun_by in ((False, 0.5, 0.5), (True, 0.85, 1.0)):
        if uses_kernel:
            try:
                report["deviations"] = accelerator_works.deviations(kernel)
            except Exception as error:
                report["deviations"] = {"error": sentence(error)}
            say(json.dumps(report["deviations"], indent=1))
        part = [job for job in jobs if job.uses_kernel == uses_kernel]
        made = make_all(part, THREADS.value, start + made_by * BUDGET.value)
        measured.add(part, made, SECONDS.value)
        for number in range(ROUNDS.value if uses_kernel else 1):
            measured.round(start + begun_by * BUDGET.value)
            report["rows"] = measured.rows()
            report["seconds"] = round(time.perf_counter() - start, 1)
            write(report, folder)
            say(f"{report['seconds']:6.1f} s: round {number + 1} is written")
    say((folder / "table.md").read_text())
    sys.stdout.flush()
    os._exit(0)  # a program that is still being compiled holds nobody up


if __name__ == "__main__":
    app.run(main)
