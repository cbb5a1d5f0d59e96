"""google/learned_optimization's own TruncatedPES on the work "pes", as a JSON line.

    PEERS_SRC=FOLDER_WITH_ITS_CLONE python benchmarks/speed/peers/learned_optimization_pes.py

Its estimator, its truncated step, its MLP task, its learned optimizer (AdafacMLPLOpt, or
LearnableAdam) and its trainer, imported from a clone. TensorFlow, which only its data sets and logs
use, is a stub. Minibatches lie in memory already: each update is given the same ones, so that no
time goes into drawing them (`--host_data`: they are stacked on the host, as it does by itself).
"""

# ruff: noqa: E402, F401
import argparse
import itertools
import json
import logging
import os
import resource
import statistics
import sys
import time
import types
import warnings

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--optimizer", choices=["small_fc", "adam"], default="small_fc")
parser.add_argument("--seconds", type=float, default=4.0)
parser.add_argument("--steps_per_jit", type=int, default=50)
parser.add_argument("--stack", action="store_true", help="both members of a pair in one program")
parser.add_argument("--host_data", action="store_true")
options = parser.parse_args()
sys.argv = sys.argv[:1]  # the library parses absl flags on import
sys.path.insert(0, os.path.join(os.environ["PEERS_SRC"], "learned_optimization"))
warnings.filterwarnings("ignore")
logging.disable(logging.ERROR)

import flax.training.checkpoints  # before the stubs: flax asks whether TensorFlow is there

for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v2", "tensorflow_datasets"):
    stub = sys.modules[name] = types.ModuleType(name)
    stub.enable_v2_behavior = lambda: None
    stub.Tensor = stub.data = stub.Dataset = None
sys.modules["tensorflow"].compat = sys.modules["tensorflow.compat"]
sys.modules["tensorflow.compat"].v2 = sys.modules["tensorflow.compat.v2"]

import jax
import numpy as np
from learned_optimization.learned_optimizers import adafac_mlp_lopt
from learned_optimization.learned_optimizers import base as lopt_base
from learned_optimization.optimizers import optax_opts
from learned_optimization.outer_trainers import (
    gradient_learner,
    lopt_truncated_step,
    truncated_pes,
    truncation_schedule,
)
from learned_optimization.tasks import base as tasks_base
from learned_optimization.tasks.datasets import base as datasets_base
from learned_optimization.tasks.fixed import image_mlp

PAIRS, STEPS, BATCH, COORDINATES = 32, 50, 128, 64 * 32 + 32 + 32 * 10 + 10


def mlp_task() -> tasks_base.TaskFamily:
    rng = np.random.default_rng(0)
    images = rng.random((100, BATCH, 8, 8, 1), dtype=np.float32)
    labels = rng.integers(0, 10, (100, BATCH)).astype(np.int32)
    batches = ({"image": images[i], "label": labels[i]} for i in itertools.cycle(range(100)))
    iterator = datasets_base.ThreadSafeIterator(batches)
    shape = {
        "image": jax.ShapeDtypeStruct(images.shape[1:], images.dtype),
        "label": jax.ShapeDtypeStruct(labels.shape[1:], labels.dtype),
    }
    data = datasets_base.Datasets(
        *[iterator] * 4, extra_info={"num_classes": 10}, abstract_batch=shape
    )
    return tasks_base.single_task_to_family(image_mlp._MLPImageTask(data, [32]))


class Step(lopt_truncated_step.VectorizedLOptTruncatedStep):
    """Its truncated step, with minibatches at hand."""

    kept = None

    def get_batch(self, steps=None):
        if options.host_data:
            return super().get_batch(steps)
        if self.kept is None:
            self.kept = jax.device_put(super().get_batch(steps))
        return self.kept


def main() -> None:
    if options.optimizer == "adam":
        optimizer = lopt_base.LearnableAdam(use_summary=False)
    else:
        optimizer = adafac_mlp_lopt.AdafacMLPLOpt(hidden_size=4, hidden_layers=2)
    step = Step(
        mlp_task(),
        optimizer,
        truncation_schedule.ConstantTruncationSchedule(1000),
        num_tasks=PAIRS,
        random_initial_iteration_offset=1000,
    )
    estimator = truncated_pes.TruncatedPES(
        step,
        trunc_length=STEPS,
        steps_per_jit=options.steps_per_jit,
        stack_antithetic_samples=options.stack,
    )
    learner = gradient_learner.SingleMachineGradientLearner(
        optimizer, [estimator], optax_opts.Adam(1e-3)
    )
    key = jax.random.PRNGKey(0)
    state, times, loss = learner.init(key), [], 0.0
    while len(times) < 7 or sum(times[2:]) < options.seconds:
        key, update_key = jax.random.split(key)
        begin = time.perf_counter()
        state, loss, _ = learner.update(state, update_key)
        jax.block_until_ready((state, loss))
        times.append(time.perf_counter() - begin)
    seconds = statistics.median(times[2:])
    steps = 2 * PAIRS * STEPS
    print(
        json.dumps(
            {
                "peer": "learned_optimization_pes",
                "work": "pes",
                "seconds_per_update": seconds,
                "inner_steps_per_s": steps / seconds,
                "coord_steps_per_s": COORDINATES * steps / seconds,
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                "finite": bool(np.isfinite(loss)),
                "steps_timed": len(times) - 2,
                "warmup_s": sum(times[:2]),
                "jax": jax.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
