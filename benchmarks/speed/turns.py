"""Jobs compiled side by side, then timed in turns; what fails is a row that says so."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any

import jax
from accelerator_works import Job

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


def say(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)
