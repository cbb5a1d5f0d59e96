"""Meta-trains a learned optimizer in a directory; started again on the same one, it resumes.

    python scripts/meta_train.py --config=configs/quadratic.py --workdir=runs/quadratic

It is `l2ljax train`: `--help` tells its options, its exit codes and how to use several devices.
"""

from l2ljax.command import run_script

if __name__ == "__main__":
    run_script("train")
