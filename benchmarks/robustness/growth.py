"""Watching a meta-training process from outside, and whether what was seen grows."""

import itertools
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import scipy.stats


def watch(process: subprocess.Popen, history: Path) -> Iterator[dict[str, float]]:
    """A sample whenever the history has grown: update, seconds, processor seconds, memory."""
    seen, update, watched = 0, 0, psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(0.01)
        if not history.exists() or history.stat().st_size <= seen:
            continue
        with history.open("rb") as file:
            file.seek(seen)
            lines = file.read().rpartition(b"\n")[0].splitlines()
        if not lines or json.loads(lines[-1])["update"] == update:
            continue
        seen += sum(len(line) + 1 for line in lines)
        update = json.loads(lines[-1])["update"]
        try:
            cpu, memory = watched.cpu_times(), watched.memory_info().rss
        except psutil.NoSuchProcess:
            return
        yield {
            "update": update,
            "seconds": round(time.perf_counter(), 3),
            "cpu_seconds": round(cpu.user + cpu.system, 2),
            "memory_mib": round(memory / 2**20, 2),
        }


def blocks(samples: Sequence[dict[str, float]], first: int, num_blocks: int) -> dict[str, Any]:
    """Means over `num_blocks` stretches of updates after `first`.

    Returns:
        `update`, the middle of each, and each of `MEASURES`; all `[num_blocks]`.
    """
    update, seconds, cpu, memory = (
        np.array([sample[name] for sample in samples], np.float64)
        for name in ("update", "seconds", "cpu_seconds", "memory_mib")
    )
    edges = np.linspace(first, update[-1], num_blocks + 1)
    steps = np.diff(edges)
    within = [(update > a) & (update <= b) for a, b in itertools.pairwise(edges)]
    return {
        "update": (edges[:-1] + edges[1:]) / 2,
        "memory_mib": np.array([memory[chosen].mean() for chosen in within]),
        "cpu_ms": 1e3 * np.diff(np.interp(edges, update, cpu)) / steps,
        "wall_ms": 1e3 * np.diff(np.interp(edges, update, seconds)) / steps,
    }


def growth(update: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """The least-squares line's rise over the updates, with its 95 % interval (Student's t).

    Args:
        update: `[blocks]`.
        values: `[blocks]`, their means.

    Returns:
        `mean`, the `slope` per 1,000 updates with `slope_ci95`, and the rise from the first block
        to the last as a share of the mean, `growth` with `growth_ci95`.
    """
    fit: Any = scipy.stats.linregress(update, values)
    half = float(scipy.stats.t.ppf(0.975, len(update) - 2)) * fit.stderr
    mean, span = float(values.mean()), float(update[-1] - update[0])
    ends = np.array([fit.slope, fit.slope - half, fit.slope + half])
    slope, rise = ends * 1e3, ends * span / mean
    return {
        "mean": round(mean, 4),
        "slope": float(f"{slope[0]:.3g}"),
        "slope_ci95": [float(f"{x:.3g}") for x in slope[1:]],
        "growth": float(f"{rise[0]:.3g}"),
        "growth_ci95": [float(f"{x:.3g}") for x in rise[1:]],
    }
