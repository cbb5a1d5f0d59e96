"""A searched rule without a horizon -> one that is told the number of steps, by one number more.

    python benchmarks/quality/tell_rule.py --weights=averaged-suite --out=runs/told.safetensors

All else being as it was, its steps are ((1.02 - t / num_steps) / 0.45) ** (7/4 left) times as
long: 1.75 times at the start, as long after 57 % of the steps, a ninth at the end.
"""

from pathlib import Path

from absl import app, flags
from search_numbers import rule, told

from l2ljax import load_optimizer, save_optimizer
from l2ljax.bundled import weights_path

WEIGHTS = flags.DEFINE_string("weights", "averaged-suite", "A bundled name, or a file.")
OUT = flags.DEFINE_string("out", "runs/told.safetensors", "File to write.")
LEFT = flags.DEFINE_float("left", 0.4, "Coefficient of the size for what is left.")


def main(argv: list[str]) -> None:
    del argv
    _, meta_params, _ = load_optimizer(weights_path(str(WEIGHTS.value)))
    Path(str(OUT.value)).parent.mkdir(parents=True, exist_ok=True)
    save_optimizer(str(OUT.value), rule(1000), told(meta_params, {"size": LEFT.value}))


if __name__ == "__main__":
    app.run(main)
