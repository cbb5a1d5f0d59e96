"""Evaluates a finished run beside tuned baselines: a table, a figure and the numbers.

    python scripts/evaluate.py --workdir=runs/quadratic

It is `l2ljax evaluate`: `--help` tells its options.
"""

from l2ljax.command import run_script

if __name__ == "__main__":
    run_script("evaluate")
