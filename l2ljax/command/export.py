"""`l2ljax export`: trained weights as one file, to keep or to give away."""

from collections.abc import Sequence
from pathlib import Path

from l2ljax.base.words import hint
from l2ljax.bundled import pretrained_names, read_sealed, save_optimizer, weights_path
from l2ljax.command.arguments import Parser, add_quiet, sayer
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import finished_weights, read_config, write_atomically
from l2ljax.training.result import load_run

HELP = """\
Writes trained weights to a file of your own, which l2ljax.pretrained(FILE) takes.

From a bundled optimizer, a weights file, or the directory of a run or an adaptation. A run that is
not finished gives its best weights so far. The file is whole or not there; one that exists is kept
without --force.

exit codes:
  0 done   2 bad input

examples:
  l2ljax export lstm-mnist mine.safetensors
  l2ljax export runs/demo demo.safetensors
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax export`."""
    made = Parser("l2ljax export", HELP)
    made.add_argument(
        "source", metavar="NAME_OR_WORKDIR", help="a bundled name, a weights file or a run"
    )
    made.add_argument("file", metavar="FILE", help="a .safetensors file")
    made.add_argument("--force", action="store_true", help="replace FILE if there is one")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    arguments = parser().read(words)
    path = Path(arguments.file)
    if path.suffix != ".safetensors":
        raise ValueError(f"FILE must end in .safetensors, got {arguments.file!r}.")
    if path.exists() and not arguments.force:
        raise ValueError(f"There is a file {path} already; give --force to replace it.")
    note = export(arguments.source, path)
    sayer(arguments.quiet)(f"Wrote {path} ({path.stat().st_size:,} bytes){note}")
    return 0


def export(source: str, path: Path) -> str:
    """Writes the weights of a name, a file or a run; returns what else there is to say.

    Raises:
        FileNotFoundError, ValueError: if there are none such, or they are damaged.
    """
    workdir = Path(source)
    if source in pretrained_names() or source.endswith(".safetensors"):
        weights = weights_path(source)
    elif workdir.is_dir():
        weights = finished_weights(workdir)
        if weights is None:
            return _newest_checkpoint(workdir, path)
    else:
        names = pretrained_names()
        raise ValueError(
            f"There is no bundled optimizer and no directory {source!r}{hint(source, names)}; "
            f"bundled are {', '.join(names)}."
        )
    read_sealed(weights)
    write_atomically(path, weights.read_bytes())
    return ""


def _newest_checkpoint(workdir: Path, path: Path) -> str:
    if not checkpoint.steps(workdir / "checkpoints"):
        raise ValueError(f"{workdir} holds no trained weights and no checkpoint.")
    found = load_run(workdir)
    if found.optimizer is None:
        raise ValueError(
            f"{workdir} does not say which optimizer was trained; in code, load_run(workdir, "
            "optimizer) and save_optimizer."
        )
    has_config = (workdir / "config.json").exists()
    known = {"best_update": found.best_update, "validation_loss": found.best_score}
    config = {"config": read_config(workdir)} if has_config else {}
    save_optimizer(path, found.optimizer, found.meta_params, {**config, **known})
    unfinished = " of a run that is not finished" if found.interrupted else ""
    return f", as of meta-update {found.num_meta_updates}{unfinished}"
