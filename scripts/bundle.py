"""Puts a finished and evaluated run's weights among the optimizers that the package ships.

    python scripts/bundle.py --workdir=runs/mnist --name=lstm-mnist

The summary.json of the evaluation goes into the file's metadata.
"""

import json
import re
from pathlib import Path

from _common import one_sentence_errors, run, set_up
from absl import flags

from l2ljax.bundled import WEIGHTS, load_optimizer, save_optimizer

WORKDIR = flags.DEFINE_string("workdir", None, "A finished, evaluated run.", required=True)
EVALUATION = flags.DEFINE_string("evaluation", None, "Directory; default: WORKDIR/evaluation.")
NAME = flags.DEFINE_string("name", None, "<optimizer>-<task>.", required=True)


def main(argv: list[str]) -> None:
    del argv
    set_up()
    workdir, path = Path(str(WORKDIR.value)), WEIGHTS / f"{NAME.value}.safetensors"
    with one_sentence_errors():
        _, meta_params, metadata = load_optimizer(workdir / "meta_params.safetensors")
        evaluation = Path(EVALUATION.value or workdir / "evaluation")
        metadata["evaluation"] = json.loads((evaluation / "summary.json").read_text())
        # Where this machine keeps its runs is nobody else's business.
        here = f"--workdir=runs/{workdir.name}"
        metadata["command"] = re.sub(r"--workdir[= ]\S+", here, metadata["command"])
        save_optimizer(path, metadata["optimizer"], meta_params, metadata)
    print(f"Wrote {path} ({path.stat().st_size / 1024:.0f} KiB)")


if __name__ == "__main__":
    run(main)
