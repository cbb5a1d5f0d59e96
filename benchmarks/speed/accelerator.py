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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
import accelerator_works  # noqa: E402
import bound  # noqa: E402
from accelerator_works import Job  # noqa: E402

OUT = flags.DEFINE_string("out", "benchmarks/results/gpu", "Folder for results.json and table.md.")
WORKS = flags.DEFINE_list("works", None, "Works to run (by prefix); default: all.")
BUDGET = flags.DEFINE_float("budget", 180.0, "Seconds after which nothing new is begun.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each variant takes.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 0.1, "Time of a turn.")
THREADS = flags.DEFINE_integer("threads", min(16, os.cpu_count() or 1), "That compile.")
COMMIT = flags.DEFINE_string("commit", None, "Where there is no git to ask.")
COORDINATES = flags.DEFINE_list("coordinates", ["15910", "1000000"], "Of layers alone.")

Made = tuple[Any, Any, dict[str, float]]


def make_all(jobs: Sequence[Job], threads: int, until: float) -> list[Made | str]:
    """Each job compiled, or the sentence that says why not."""
    pool = ThreadPoolExecutor(threads)
    start = time.perf_counter()

    def make(job: Job) -> Made | str:
        if time.perf_counter() > until:
            return "no time was left"
        before = time.perf_counter()
        try:
            made = job.make()
        except Exception as error:  # any one's failure is its own
            return sentence(error)
        now = time.perf_counter()
        say(f"{now - start:6.1f} s: {job.work}: {job.variant} made in {now - before:.1f} s")
        return made

    futures = [pool.submit(make, job) for job in jobs]
    made = [_result(future, until) for future in futures]
    pool.shutdown(wait=False, cancel_futures=True)
    return made


def _result(future: "Future[Made | str]", until: float) -> Made | str:
    try:
        return future.result(max(0.1, until - time.perf_counter()))
    except TookTooLong:
        return "it was not compiled in time"


def sentence(error: BaseException) -> str:
    """An error in one line that a table's cell holds."""
    lines = " ".join(str(error).split())
    return f"{type(error).__name__}: {lines}"[:300].replace("|", "/")


class Timer:
    """Steps of one job: as many in a row as fill a turn, of which the mean is one sample."""

    def __init__(self, made: Made):
        self.step, self.state, self.report = made
        self.samples: list[float] = []
        self.count = 1

    def warm_up(self, seconds: float) -> None:
        """Two steps, and a third that says how many fill a turn."""
        for _ in range(2):
            self._run(1)
        self.count = max(1, min(1000, int(seconds / self._run(1))))

    def turn(self) -> None:
        """One more sample [s per step]."""
        self.samples.append(self._run(self.count) / self.count)

    def _run(self, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            self.state = self.step(self.state)
        # What a step of a layer alone computes is in no state: programs run in order, so a last one
        # that is awaited ends after all of them.
        output = getattr(self.step, "output", None)
        jax.block_until_ready(self.state if output is None else output(self.state))
        extra = 0 if output is None else 1
        return (time.perf_counter() - start) * count / (count + extra)


class Measured:
    """Jobs that were made, and what they took so far."""

    def __init__(self):
        self.jobs: list[Job] = []
        self.timers: dict[Job, Timer] = {}
        self.failures: dict[Job, str] = {}

    def add(self, jobs: Sequence[Job], made: Sequence[Made | str], seconds: float) -> None:
        """Warms up what could be made."""
        self.jobs += jobs
        for job, found in zip(jobs, made, strict=True):
            if isinstance(found, str):
                self.failures[job] = found
                continue
            self.timers[job] = Timer(found)
            self._guarded(job, lambda job=job: self.timers[job].warm_up(seconds))

    def round(self, until: float) -> None:
        """All take their turn; until then each gets a first one."""
        for job, timer in self.timers.items():
            if job not in self.failures and (not timer.samples or time.perf_counter() < until):
                self._guarded(job, timer.turn)

    def rows(self) -> list[dict[str, Any]]:
        """One a job, a work's rows in the order of its jobs."""
        return [row(job, self.timers.get(job), self.failures.get(job)) for job in self.jobs]

    def _guarded(self, job: Job, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:  # any one's failure is its own
            self.failures[job] = sentence(error)


def row(job: Job, timer: Timer | None, failure: str | None) -> dict[str, Any]:
    """The median of a job's samples, their spread, and what XLA reported; or its failure."""
    found: dict[str, Any] = {"work": job.work, "variant": job.variant}
    if failure is not None or timer is None:
        return found | {"error": failure}
    samples = timer.samples
    if not (samples := timer.samples):
        return found | {"error": "no time was left"}
    return found | {
        "seconds": statistics.median(samples),
        "least": min(samples),
        "most": max(samples),
        "rounds": len(samples),
        "steps_a_round": timer.count,
        **timer.report,
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each work; `x first` is the time beside the first variant's."""
    lines = []
    for work in dict.fromkeys(found["work"] for found in rows):
        lines += [
            f"### {work}",
            "",
            "| | median ms | least | most | x first | temp MiB | compile s |",
        ]
        lines += ["| --- " * 7 + "|"]
        here = [found for found in rows if found["work"] == work]
        first = next((found["seconds"] for found in here if "seconds" in found), None)
        for found in here:
            if "error" in found:
                lines.append(f"| {found['variant']} | {found['error']} | | | | | |")
                continue
            times = " | ".join(f"{1e3 * found[key]:.3f}" for key in ("seconds", "least", "most"))
            ratio = "-" if first is None else f"{found['seconds'] / first:.2f}"
            compiling = found.get("trace_s", 0) + found.get("compile_s", 0)
            memory = found.get("temporary_mib", 0)
            lines.append(
                f"| {found['variant']} | {times} | {ratio} | {memory:.1f} | {compiling:.1f} |"
            )
        lines.append("")
    return "\n".join(lines)


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
    asked = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return asked.stdout.strip() or "unknown"


def say(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


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
