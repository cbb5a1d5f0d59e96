r"""Every optimizer on every task of the suite, resumable; then its tables and pictures.

    python scripts/board.py --quick                        # minutes: small tasks, 100 steps
    python scripts/board.py --steps=1000 --out=docs/results/board --data_dir=../shared/tfds

It is `l2ljax board`: `--help` tells its options.
"""

from l2ljax.command import run_script

if __name__ == "__main__":
    run_script("board")
