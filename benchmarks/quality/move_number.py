"""A searched rule with one of its numbers moved by hand.

    python benchmarks/quality/move_number.py --weights=averaged-suite --output=drift \
        --statistic="agreement with m 0.99" --by=0.8 --out=runs/moved.safetensors

In the unit that `search_numbers` has for that number; all else stays as it is.
"""

from pathlib import Path

import numpy as np
from absl import app, flags
from search_numbers import EARLY, NUMBERS, TOLD, is_told, moved

from l2ljax import load_optimizer, save_optimizer
from l2ljax.bundled import weights_path

WEIGHTS = flags.DEFINE_string("weights", "averaged-suite", "A bundled name, or a file.")
OUTPUT = flags.DEFINE_string("output", "drift", "Of the rule.")
STATISTIC = flags.DEFINE_string("statistic", None, "That the output heeds; default: its bias.")
BY = flags.DEFINE_float("by", 0.0, "Units of the number.")
OUT = flags.DEFINE_string("out", "runs/moved.safetensors", "File to write.")


def main(argv: list[str]) -> None:
    del argv
    optimizer, meta_params, _ = load_optimizer(weights_path(str(WEIGHTS.value)))
    by = np.zeros(len(NUMBERS) + len(TOLD) * is_told(meta_params) + len(EARLY))
    names = [(number.output, number.statistic) for number in NUMBERS]
    if (OUTPUT.value, STATISTIC.value) not in names:
        raise ValueError(f"No number is {OUTPUT.value}, {STATISTIC.value}; there are {names}.")
    by[names.index((OUTPUT.value, STATISTIC.value))] = BY.value
    Path(str(OUT.value)).parent.mkdir(parents=True, exist_ok=True)
    save_optimizer(str(OUT.value), optimizer, moved(meta_params, by))


if __name__ == "__main__":
    app.run(main)
