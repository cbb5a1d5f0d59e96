"""`l2ljax train`: meta-trains what a configuration describes."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from l2ljax.command.arguments import Parser, add_quiet, integer, sayer
from l2ljax.command.configs import make_config
from l2ljax.command.ending import GAVE_UP, STOPPED
from l2ljax.command.overrides import split_overrides, with_overrides
from l2ljax.command.process import idle_cores, set_up, set_up_devices
from l2ljax.training.faults import DivergenceError
from l2ljax.training.result import MetaTrainResult

HELP = """\
Meta-trains a learned optimizer in a directory; started again on the same one, it resumes.

CONFIG is a bundled configuration (`l2ljax list configs`), a file.py with a get_config(), or
module:function. --config.FIELD=VALUE overrides any field, --config.task.dim=20 an inner one;
--config.initial=WEIGHTS starts from trained weights (a bundled name or a file),
--config.initial.LABEL=WEIGHTS a partition's member.

Several devices share the tasks of a meta-update, and the coordinates where there are fewer tasks
(--devices); on a CPU, each is one of its cores. On several hosts, start the same command on each
with --distributed (on a cluster that JAX knows, such as Slurm or Cloud TPU), or with
--coordinator=HOST:PORT --num_processes=N --process_id=I; the workdir must be one that all see.

exit codes:
  0 done   2 bad input   3 given up among meta-gradients that are not finite
  130 stopped by Ctrl-C or SIGTERM after a checkpoint

examples:
  l2ljax train demo --workdir=runs/demo
  l2ljax train quadratic --workdir=runs/wide --config.task.dim=20 --config.num_tasks=64
  l2ljax train mine.py --workdir=runs/mine --config.initial=lstm-mnist
  l2ljax train my_package.configs:small --workdir=runs/small --devices=2
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax train`, the configuration's fields apart."""
    made = Parser("l2ljax train", HELP)
    made.add_argument("config", nargs="?", metavar="CONFIG", help="a name, a file or a function")
    made.add_argument("--config", dest="config_flag", metavar="CONFIG", help="the same, as a flag")
    made.add_argument("--workdir", required=True, help="directory of the run")
    made.add_argument("--data_dir", help="where TFDS finds its data sets")
    made.add_argument(
        "--devices", type=integer(1), help="devices (or a CPU's cores) to spread a meta-update over"
    )
    made.add_argument(
        "--distributed", action="store_true", help="one of several processes of a cluster"
    )
    made.add_argument("--coordinator", help="HOST:PORT of process 0")
    made.add_argument("--num_processes", type=integer(1), help="processes in all")
    made.add_argument("--process_id", type=integer(0), help="this one's number, from 0")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command.

    Args:
        words: what stands behind its name.
        typed: the whole command line, which the weights keep.

    Returns:
        the exit code.
    """
    rest, fields = split_overrides(words)
    of = parser()
    arguments = of.read(rest)
    config = with_overrides(_with_fields(make_config(_source(of, arguments)), fields), fields)
    set_up()
    set_up_devices(
        arguments.devices,
        distributed=arguments.distributed,
        coordinator=arguments.coordinator,
        num_processes=arguments.num_processes,
        process_id=arguments.process_id,
    )
    from l2ljax.experiments.experiment import run as run_experiment

    def begin() -> None:
        if arguments.devices is None and (line := idle_cores()) is not None:
            sayer(arguments.quiet)(line)

    try:
        result = run_experiment(
            config,
            arguments.workdir,
            command=typed,
            data_dir=arguments.data_dir,
            num_devices=arguments.devices,
            progress=not arguments.quiet,
            begin=begin,
        )
    except DivergenceError as error:
        print(f"DivergenceError: {error}", file=sys.stderr)
        return GAVE_UP
    return _tell(result, arguments)


def _with_fields(config: Any, words: Sequence[str]) -> Any:
    """A `ConfigDict` with the fields that flags change and it leaves to their defaults.

    An evaluation that is left out is as long as the episode, and so reads its flag first.
    """
    from l2ljax.experiments.configuration import PARTS
    from l2ljax.experiments.fields import DEFAULTS, defaults_of

    paths = [word.partition("=")[0].lstrip("-").removeprefix("no").split(".")[1:] for word in words]
    if lengths := [
        word for word, path in zip(words, paths, strict=True) if path == ["episode_length"]
    ]:
        _fill(config, "episode_length", DEFAULTS)
        with_overrides(config, lengths)
    defaults = {**DEFAULTS, **defaults_of(config)}
    for name, *inner in paths:
        if name in defaults and name != "initial":
            _fill(config, name, defaults)
            if inner and name in PARTS:  # entries without a default have no value yet
                _fill(config[name], inner[0], dict.fromkeys(PARTS[name][0]) | defaults[name])
    return config


def _fill(config: Any, name: str, defaults: Mapping[str, Any]) -> None:
    """Gives a `ConfigDict` a field that it lacks, where there is a default."""
    if name in defaults and name not in config:
        with config.unlocked():
            config[name] = defaults[name]


def _source(of: Parser, arguments: argparse.Namespace) -> str:
    given = [c for c in (arguments.config, arguments.config_flag) if c]
    if len(given) != 1:
        of.error("it takes one CONFIG, such as demo" if not given else f"two CONFIGs, {given}")
    return given[0]


def _tell(result: MetaTrainResult | None, arguments: argparse.Namespace) -> int:
    """What has become of the run; the exit code."""
    say, workdir = sayer(arguments.quiet), arguments.workdir
    evaluate = f"l2ljax evaluate --workdir={workdir}"
    if result is None:
        say(f"The run in {workdir} is done; nothing to do. Evaluate it: {evaluate}")
    elif result.interrupted:
        say(f"Stopped after {result.num_meta_updates} meta-updates; the same command resumes.")
        return STOPPED
    else:
        say(
            f"Done in {result.seconds:.0f} s. Best validation loss {result.best_score:.4g} after "
            f"{result.best_update} meta-updates. Next: {evaluate}"
        )
        if result.num_skipped or result.num_diverged:
            say(
                f"Not finite: {result.num_skipped} meta-updates, which were skipped, and "
                f"{result.num_diverged} optimizees, which were started anew; training went back "
                f"{result.num_restores} times."
            )
    return 0
