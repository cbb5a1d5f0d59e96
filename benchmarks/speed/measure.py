"""Measures one variant of one work in a process of its own, and prints one JSON line.

python benchmarks/speed/measure.py --work=mnist --variant=recorded
"""

import json
import os
import re
import resource
import statistics
import sys
import time
from pathlib import Path

from absl import app, flags

WORK = flags.DEFINE_string("work", "mnist", "A name in works.WORKS.")
VARIANT = flags.DEFINE_string("variant", "recorded", "One of the work's variants.")
SECONDS = flags.DEFINE_float("seconds", 4.0, "Time to measure for, after compiling.")
CACHE = flags.DEFINE_string("cache", None, "A compilation cache to use; default: none.")


def main(argv: list[str]) -> None:
    del argv
    import jax

    if devices := re.search(r"(\d+) devices", VARIANT.value):
        jax.config.update("jax_num_cpu_devices", int(devices[1]))
    if CACHE.value:
        jax.config.update("jax_compilation_cache_dir", CACHE.value)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    sys.path.insert(0, str(Path(__file__).parent))
    import bound
    import works

    work = works.WORKS[WORK.value][VARIANT.value]()
    step, state, report = work.make()
    for _ in range(2):
        state = jax.block_until_ready(step(state))
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < SECONDS.value or len(times) < 5:
        before = time.perf_counter()
        state = jax.block_until_ready(step(state))
        times.append(time.perf_counter() - before)
    seconds = statistics.median(times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    finite = all(
        bool(jax.numpy.isfinite(leaf).all())
        for leaf in jax.tree.leaves(state)
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) and leaf.size > 1
    )
    is_lstm = not WORK.value.startswith(("use-", "pes")) or VARIANT.value == "lstm"
    rates = bound.measure_rates()
    record = {
        "peer": f"l2ljax, {VARIANT.value}",
        "work": WORK.value,
        "seconds_per_update": seconds,
        "coord_steps_per_s": work.coordinates * work.inner_steps / seconds,
        "inner_steps_per_s": work.runs * work.inner_steps / seconds if work.runs > 1 else None,
        "steps_timed": len(times),
        "peak_rss_mb": round(peak, 1),
        "finite": finite,
        **report,
        "gflop_per_s": round(rates[0] / 1e9, 1),
        "gtanh_per_s": round(rates[1] / 1e9, 2),
        "share_of_bound": bound.least_seconds(work, rates) / seconds if is_lstm else None,
        "cores": os.cpu_count(),
        "device": f"{jax.devices()[0].device_kind} x {jax.device_count()}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    app.run(main)
