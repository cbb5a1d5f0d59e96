"""The transformer of docs/examples/use_with_nnx.py beyond its 200 steps, and Adam at three rates.

    python benchmarks/quality/longer.py --steps=1500 --seeds=3

Tells the mean loss of the 50 steps before a fifth, a half and all of them, for each seed.
"""

from pathlib import Path

import numpy as np
import optax
from absl import app, flags

import l2ljax

STEPS = flags.DEFINE_integer("steps", 1500, "Of each training.", lower_bound=100)
SEEDS = flags.DEFINE_integer("seeds", 3, "Of initial parameters and minibatches.", lower_bound=1)

FILE = Path(__file__).parents[2] / "docs" / "examples" / "use_with_nnx.py"
OPTIMIZERS = {
    "pretrained()": l2ljax.pretrained,
    "nominal-suite": lambda: l2ljax.pretrained("nominal-suite"),
    "pretrained(guard=True)": lambda: l2ljax.pretrained(guard=True),
    "nominal-suite, guarded": lambda: l2ljax.pretrained("nominal-suite", guard=True),
    "adam(1e-3)": lambda: optax.adam(1e-3),
    "adam(3e-3)": lambda: optax.adam(3e-3),
    "adam(1e-2)": lambda: optax.adam(1e-2),
}


def make_train(steps: int, seed: int):
    """The file's `train`, for other steps and another draw of everything."""
    code, found, _ = FILE.read_text().partition("losses = {")
    assert found
    for old, new in {
        "= 200": f"= {steps}",
        "nnx.Rngs(0)": f"nnx.Rngs({seed})",
        "key(1)": f"key({seed + 1})",
    }.items():
        assert old in code
        code = code.replace(old, new, 1)
    names: dict = {}
    exec(compile(code, FILE.name, "exec"), names)
    return names["train"]


def main(argv: list[str]) -> None:
    del argv
    at = [STEPS.value // 5, STEPS.value // 2, STEPS.value]
    trains = [make_train(STEPS.value, seed) for seed in range(SEEDS.value)]
    for name, make in OPTIMIZERS.items():
        runs = np.array([train(make()) for train in trains])
        told = [[f"{run[t - 50 : t].mean():.3f}" for run in runs] for t in at]
        parts = [f"{t} steps {', '.join(each)}" for t, each in zip(at, told, strict=True)]
        print(f"{name}: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    app.run(main)
