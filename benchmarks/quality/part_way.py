"""Two searched rules -> the one that stands a share of the way from the first to the second.

    python benchmarks/quality/part_way.py --weights=desk-suite,runs/broad/averaged.safetensors \
        --share=0.7 --out=runs/between.safetensors

A search's mean strays about what it looks for by more than it learns in its last generations; the
mean of where it began and where it ended strays less (Polyak & Juditsky 1992; stochastic weight
averaging, Izmailov et al. 2018).
"""

from pathlib import Path

import optax
from absl import app, flags
from search_numbers import is_told, rule

from l2ljax import load_optimizer, save_optimizer
from l2ljax.bundled import weights_path

WEIGHTS = flags.DEFINE_list("weights", None, "Two: bundled names, or files.", required=True)
SHARE = flags.DEFINE_float("share", 0.7, "0 is the first, 1 the second.")
REST = flags.DEFINE_integer(
    "rest_after", None, "Steps beyond which sizes fall as 1 / t; default: as `search_numbers.rule`."
)
OUT = flags.DEFINE_string("out", "runs/between.safetensors", "File to write.")


def main(argv: list[str]) -> None:
    del argv
    if len(WEIGHTS.value) != 2:
        raise ValueError(f"--weights takes two rules, got {len(WEIGHTS.value)}: {WEIGHTS.value}.")
    first, second = (load_optimizer(weights_path(name))[1] for name in WEIGHTS.value)
    if is_told(first) != is_told(second):
        raise ValueError(
            f"One of {WEIGHTS.value} is told the number of steps and the other is not: give two "
            "of a kind; tell_rule.py tells one."
        )
    Path(str(OUT.value)).parent.mkdir(parents=True, exist_ok=True)
    made = optax.incremental_update(second, first, SHARE.value)
    made_by = rule(1000 if is_told(first) else None, REST.value)
    save_optimizer(str(OUT.value), made_by, made)


if __name__ == "__main__":
    app.run(main)
