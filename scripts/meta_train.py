"""Meta-trains a learned optimizer in a directory; started again on the same one, it resumes.

    python scripts/meta_train.py --config=configs/quadratic.py --workdir=runs/quadratic

`--config.num_tasks=64` overrides any field; `--config.initial=FILE` starts from trained weights,
`--config.initial.LABEL=FILE` a partition's member. Exit codes: 0 done, 2 bad input, 3 given up
among meta-gradients that are not finite, 130 stopped by Ctrl-C or SIGTERM after a checkpoint.

Several devices share the tasks of a meta-update, and the coordinates where there are fewer tasks
(`--devices`); on a CPU, each is one of its cores. On several hosts, start the same
command on each with `--distributed` (on a cluster that JAX knows, such as Slurm or Cloud TPU), or
with `--coordinator=HOST:PORT --num_processes=N --process_id=I`; the workdir must be one that all
hosts see.
"""

import shlex
import sys

import jax
from _common import one_sentence_errors, run, set_up
from _config import define_config, take_initial
from absl import flags

from l2ljax import DivergenceError
from l2ljax.experiments import run as run_experiment

CONFIG = define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
DEVICES = flags.DEFINE_integer(
    "devices", None, "Devices (or a CPU's cores) to spread a meta-update over.", lower_bound=1
)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes of a cluster.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes in all.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This one's number, from 0.", lower_bound=0)
flags.mark_flag_as_required("config")


def set_up_devices() -> None:
    """Connects this process to the others of its run, or makes a lone one's CPU several devices."""
    by_hand = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if any(value is not None for value in by_hand):
        if any(value is None for value in by_hand):
            raise ValueError("Give --coordinator, --num_processes and --process_id together.")
        jax.distributed.initialize(*by_hand)
    elif DISTRIBUTED.value:
        jax.distributed.initialize()
    elif DEVICES.value is not None:
        jax.config.update("jax_num_cpu_devices", DEVICES.value)  # an accelerator's are as they are


def main(argv: list[str]) -> None:
    del argv
    set_up()
    with one_sentence_errors():
        set_up_devices()
        try:
            result = run_experiment(
                CONFIG(),
                WORKDIR.value,
                command=shlex.join(["python", *sys.argv]),
                data_dir=DATA_DIR.value,
                num_devices=DEVICES.value,
            )
        except DivergenceError as error:
            print(f"DivergenceError: {error}", file=sys.stderr)
            sys.exit(3)
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
        if result.num_skipped or result.num_diverged:
            print(
                f"Not finite: {result.num_skipped} meta-updates, which were skipped, and "
                f"{result.num_diverged} optimizees, which were started anew; training went back "
                f"{result.num_restores} times."
            )


if __name__ == "__main__":
    run(main, take_initial)
