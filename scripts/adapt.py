r"""Adapts a bundled optimizer, or one in a file, to a task of your own, and says if it is worth it.

    python scripts/adapt.py --weights=lstm-mnist --task=docs/examples/teacher.py --minutes=5 \
        --workdir=runs/teacher

It is `l2ljax adapt`: `--help` tells its options.
"""

from l2ljax.command import run_script

if __name__ == "__main__":
    run_script("adapt")
