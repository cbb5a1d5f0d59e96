"""Makes the paper's figures from the bundled weights, and one HTML report of them all.

    python scripts/reproduce.py --figure=mnist-40-units
    python scripts/reproduce.py --all
    python scripts/reproduce.py --all --quick    # a smoke run, at sizes that mean nothing
    python scripts/reproduce.py --all --redraw   # pictures and report from the numbers there are

It is `l2ljax reproduce`: `--help` tells its options. Each figure's numbers and picture go to
OUTPUT/FIGURE/, the report to OUTPUT/report.html. To train the weights anew: scripts/meta_train.py
with the configuration that l2ljax/paper/figure_list.py names, and scripts/bundle.py.
"""

from l2ljax.command import run_script

if __name__ == "__main__":
    run_script("reproduce")
