"""Meta-trains a learned optimizer in a directory; started again on the same one, it resumes.

    python scripts/meta_train.py --config=configs/quadratic.py --workdir=runs/quadratic

`--config.num_tasks=64` overrides any field. Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C
or SIGTERM after a checkpoint.
"""

import shlex
import sys

from _common import one_sentence_errors, run, set_up
from absl import flags
from ml_collections import config_flags

from l2ljax import experiment

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    set_up()
    with one_sentence_errors():
        result = experiment.run(
            CONFIG.value.to_dict(),
            WORKDIR.value,
            command=shlex.join(["python", *sys.argv]),
            data_dir=DATA_DIR.value,
        )
    evaluate = f"python scripts/evaluate.py --workdir={WORKDIR.value}"
    if result is None:
        print(f"The run in {WORKDIR.value} is done; nothing to do. Evaluate it: {evaluate}")
    elif result.interrupted:
        print(f"Stopped after {result.num_meta_updates} meta-updates; the same command resumes.")
        sys.exit(130)
    else:
        print(
            f"Done in {result.seconds:.0f} s. Best validation loss {result.best_score:.4g} after "
            f"{result.best_update} meta-updates. Next: {evaluate}"
        )


if __name__ == "__main__":
    run(main)
