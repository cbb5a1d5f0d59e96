r"""Meta-trains `nominal` on the suite for some minutes, each task's program compiled beside others.

    python benchmarks/quality/train_nominal.py --minutes=8 --out=runs/nominal-suite

The recipe is that of configs/nominal.py: members of `suite_mixture` in turn, Adam behind clipping,
a cosine, here over the minutes. One program a task instead of one for all spares an accelerator
minutes of compiling. Weights that are trained already are pulled away by the few that compile
first (docs/experiments.md): --ready=17 waits for all. With --horizons or --tells the optimizer is
told the number of steps; weights of one that is not told may be its start. Writes log.csv and,
every eighth of the time, `meta_params.safetensors`, `average.safetensors` (a running average of
them), and `mean.safetensors` (of them and what they started from).
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from l2ljax import load_optimizer, save_optimizer
from l2ljax.estimators import mixture
from l2ljax.experiments.mixtures import suite_mixture
from l2ljax.optimizers import nominal

MINUTES = flags.DEFINE_float("minutes", 8.0, "Of training, once --ready members are compiled.")
READY = flags.DEFINE_integer("ready", 3, "Members to be compiled before it begins.")
OUT = flags.DEFINE_string("out", "runs/nominal-suite", "Folder.")
INITIAL = flags.DEFINE_string("initial", None, "Weights to start from.")
TASKS = flags.DEFINE_list("tasks", None, "Training tasks of the suite; default: all.")
NUM_TASKS = flags.DEFINE_integer("num_tasks", 8, "Optimizees of a task side by side.")
PAIRS = flags.DEFINE_integer("num_perturbations", 64, "Antithetic pairs of each.")
SIGMA = flags.DEFINE_float("sigma", 0.02, "Standard deviation of the perturbations.")
RATE = flags.DEFINE_float("learning_rate", 5e-3, "Of the meta-optimizer, at the start.")
SHORTEST = flags.DEFINE_integer("shortest", 100, "Shortest episode.")
LONGEST = flags.DEFINE_integer("longest", 3000, "Longest episode.")
SCALE = flags.DEFINE_float("scale", 10.0, "Largest unit of the parameters.")
REST = flags.DEFINE_integer("rest_after", None, "See l2ljax.optimizers.nominal.")
HORIZONS = flags.DEFINE_list("horizons", None, "Lengths of episodes that the optimizer is told.")
TELLS = flags.DEFINE_bool("tells", False, "Tell it each episode's length, drawn as ever.")
LATE = flags.DEFINE_float("late", 0.0, "See l2ljax.experiments.mixtures.suite_mixture.")
DIRECTIONS = flags.DEFINE_list("directions", [], "See l2ljax.optimizers.nominal.")
HIDDEN = flags.DEFINE_integer("hidden", 16, "Units of the network's one layer.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything.")

UNROLL, WARM_UP, AVERAGED = 50, 100, 0.002


class Turns:
    """The members of the mixture, each with its own program as soon as that is compiled."""

    def __init__(self, mixed: Any, meta_optimizer: Any, meta_params: Any):
        self.members = {name: mixture({name: each}) for name, each in mixed.members.items()}
        self.meta_optimizer = meta_optimizer
        self.states: dict[str, Any] = {}
        self.programs: dict[str, Any] = {}
        step = jax.jit(self._step)
        opt_state = meta_optimizer.init(meta_params)

        def compile_one(name: str, key: jax.Array) -> None:
            member = self.members[name]
            state = jax.jit(member.init)(key, meta_params)
            arguments = member, meta_params, opt_state, state, key, jnp.float32(0)
            self.programs[name] = step.lower(*arguments).compile()
            self.states[name] = state

        keys = jax.random.split(jax.random.key(SEED.value + 1), len(self.members))
        self.pool = ThreadPoolExecutor(16)
        self.waiting = [
            self.pool.submit(compile_one, name, key)
            for name, key in zip(self.members, keys, strict=True)
        ]

    def _step(self, member, meta_params, opt_state, state, key, rate):
        loss, grads, state, _ = member.estimate(meta_params, state, key)
        updates, after = self.meta_optimizer.update(grads, opt_state, meta_params)
        fine = jnp.isfinite(optax.tree.norm(grads))
        moved = optax.tree.add_scale(meta_params, -rate, updates)
        kept = jax.tree.map(
            lambda new, old: jnp.where(fine, new, old), (moved, after), (meta_params, opt_state)
        )
        return *kept, state, loss

    def ready(self) -> list[str]:
        """Names of what is compiled; raises what compiling raised."""
        for future in self.waiting:
            if future.done():
                future.result()
        return [name for name in self.members if name in self.states]

    def turn(self, name, meta_params, opt_state, key, rate):
        """One meta-update by the member `name`."""
        meta_params, opt_state, self.states[name], loss = self.programs[name](
            self.members[name], meta_params, opt_state, self.states[name], key, jnp.float32(rate)
        )
        return meta_params, opt_state, loss


def widened(found: Any, like: Any) -> Any:
    """Weights for more features, which have no effect at first, and more units or outputs.

    Example:
        >>> widened({"kernel": jnp.ones((1, 1))}, {"kernel": jnp.full((2, 2), 5.0)})["kernel"]
        Array([[1., 5.],
               [0., 5.]], dtype=float32)
    """

    def one(x, y):
        if x.ndim > 1:
            x = jnp.pad(x, [(0, y.shape[0] - x.shape[0]), (0, 0)])
        return jnp.concatenate([x, y[..., x.shape[-1] :]], axis=-1)

    return jax.tree.map(one, found, like)


def main(argv: list[str]) -> None:
    del argv
    folder, horizons = Path(str(OUT.value)), [int(steps) for steps in HORIZONS.value or ()]
    told = horizons[0] if horizons else LONGEST.value if TELLS.value else None
    optimizer = nominal((HIDDEN.value,), told, REST.value, directions=tuple(DIRECTIONS.value))
    folder.mkdir(parents=True, exist_ok=True)
    mixed = suite_mixture(
        optimizer,
        num_tasks=NUM_TASKS.value,
        unroll_length=UNROLL,
        shortest=SHORTEST.value,
        longest=LONGEST.value,
        num_perturbations=PAIRS.value,
        sigma=SIGMA.value,
        scale=SCALE.value,
        tasks=TASKS.value,
        horizons=horizons,
        tells=TELLS.value,
        late=LATE.value,
    )
    meta_params = optimizer.init(jax.random.key(SEED.value))
    if INITIAL.value:
        meta_params = widened(load_optimizer(INITIAL.value)[1], meta_params)
    meta_optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.95))
    turns = Turns(mixed, meta_optimizer, meta_params)
    while len(turns.ready()) < min(READY.value, len(turns.members)):
        time.sleep(0.5)
    opt_state, key = meta_optimizer.init(meta_params), jax.random.key(SEED.value + 2)
    first, average = meta_params, meta_params
    blend = jax.jit(
        lambda tree, other, share: jax.tree.map(lambda a, b: a + share * (b - a), tree, other)
    )

    def save():
        found = {
            "meta_params": meta_params,
            "average": average,
            "mean": blend(first, meta_params, 0.5),
        }
        for name, tree in found.items():
            save_optimizer(folder / f"{name}.safetensors", optimizer, tree)

    began, saved, number, seen = time.time(), 0.0, 0, {}
    while (share := (time.time() - began) / (60 * MINUTES.value)) < 1:
        for name in turns.ready():
            rate = RATE.value * 0.5 * (1 + np.cos(np.pi * share)) * min(1, (number + 1) / WARM_UP)
            meta_params, opt_state, seen[name] = turns.turn(
                name, meta_params, opt_state, jax.random.fold_in(key, number), rate
            )
            average = blend(average, meta_params, AVERAGED)
            number += 1
        losses = {name: round(float(loss), 4) for name, loss in seen.items()}
        with (folder / "log.csv").open("a") as log:
            log.write(json.dumps({"updates": number, "share": round(share, 4), **losses}) + "\n")
        if share - saved > 1 / 8:
            save()
            saved = share
    save()
    print(f"{number} meta-updates on {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    app.run(main)
