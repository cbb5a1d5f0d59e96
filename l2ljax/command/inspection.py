"""`l2ljax inspect`: what a weights file holds, without running any code that it names."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors

from l2ljax.bundled import read_sealed, weights_path
from l2ljax.bundled.files import SEAL
from l2ljax.bundled.ready import WHERE_THEY_FAIL, trained_on
from l2ljax.checks import shorten
from l2ljax.command.arguments import Parser, add_json

HELP = """\
Tells what a weights file holds: its card, its sizes, its checksum.

WEIGHTS is a bundled optimizer (`l2ljax list optimizers`) or a .safetensors file. A file whose
optimizer is somebody's own is described, and none of its code is run.

exit codes:
  0 whole   2 damaged, or not there

examples:
  l2ljax inspect lstm-mnist
  l2ljax inspect runs/demo/meta_params.safetensors
  l2ljax inspect lstm-mnist --json
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax inspect`."""
    made = Parser("l2ljax inspect", HELP)
    made.add_argument("weights", metavar="WEIGHTS", help="a bundled name, or a file")
    add_json(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    arguments = parser().read(words)
    found = card(arguments.weights)
    print(json.dumps(found) if arguments.json else _text(found))
    return 0


def card(weights: str) -> dict[str, Any]:
    """What is known of weights, as JSON values.

    Args:
        weights: a name in `pretrained_names()`, or a `.safetensors` file.

    Returns:
        `file`, `bytes`, `file_sha256` (what `sha256sum` says), `checksum` (the one inside, which
        covers weights and metadata; `None` in older files), `rule`, `code` (of one's own that it
        needs: names), `trained_on`, `numbers` and `tensors` (name -> dtype and shape), `fails`,
        and `metadata`: everything else that the file says.

    Raises:
        FileNotFoundError, ValueError: if there is none such, or it is damaged.

    Example:
        >>> found = card("lstm-mnist")
        >>> found["rule"], found["trained_on"], found["numbers"]
        ('lstm', 'mlp of mnist', 5141)
    """
    path = weights_path(weights)
    metadata, tensors = read_sealed(path)
    content = path.read_bytes()
    with safetensors.safe_open(path, framework="numpy") as file:
        seal = (file.metadata() or {}).get(SEAL)
    optimizer, name = metadata.get("optimizer"), Path(weights).name
    known = "trained_on" in metadata or "config" in metadata
    return {
        "file": str(path),
        "bytes": len(content),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "checksum": None if seal is None else json.loads(seal),
        "rule": optimizer.get("name") if isinstance(optimizer, Mapping) else None,
        "code": sorted(_own_code(optimizer)),
        "trained_on": _or_none(lambda: trained_on(metadata)) if known else None,
        "numbers": int(sum(tensor.size for tensor in tensors.values())),
        "tensors": {
            name: {"dtype": str(tensor.dtype), "shape": list(tensor.shape)}
            for name, tensor in sorted(tensors.items())
        },
        "fails": metadata.get("fails", WHERE_THEY_FAIL.get(name)),
        "metadata": metadata,
    }


def _own_code(specification: Any) -> set[str]:
    """Names such as "own.py:rule" in a specification."""
    if isinstance(specification, Mapping):
        own = {
            specification[key]
            for key in ("name", "function", "labels")
            if isinstance(specification.get(key), str) and ":" in specification[key]
        }
        return own.union(*map(_own_code, specification.values()))
    if isinstance(specification, list):
        return set().union(*map(_own_code, specification))
    return set()


def _text(found: Mapping[str, Any]) -> str:
    metadata, checksum = found["metadata"], found["checksum"]
    lines = {
        "file": f"{found['file']} ({found['bytes']:,} bytes)",
        "checksum": "none inside (an older file)" if checksum is None else f"{checksum} (right)",
        "sha256sum": found["file_sha256"],
        "rule": found["rule"],
        "needs code": ", ".join(found["code"]) or None,
        "optimizer": json.dumps(metadata.get("optimizer")),
        "trained on": found["trained_on"],
        "config": shorten(json.dumps(metadata["config"]), 300) if "config" in metadata else None,
        "command": metadata.get("command"),
        "took": _or_none(lambda: f"{metadata['seconds']:,.0f} s"),
        "hardware": metadata.get("hardware"),
        "validation": _or_none(lambda: _validation(metadata)),
        "evaluation": _or_none(lambda: _evaluation(metadata["evaluation"])),
        "fails": found["fails"],
        "numbers": f"{found['numbers']:,} in {len(found['tensors'])} tensors:",
    }
    width = max(map(len, lines))
    told = {name: _printable(value) for name, value in lines.items() if value is not None}
    text = [f"{name:<{width}}  {value}" for name, value in told.items()]
    notes = _notes(metadata, told)
    text[-1:-1] = [f"{'' if n else 'notes':<{width}}  {note}" for n, note in enumerate(notes)]
    for name, tensor in found["tensors"].items():
        text.append(f"{'':<{width}}  {name}: {tensor['dtype']}{tensor['shape']}")
    return "\n".join(text)


TOLD = {
    "optimizer": "optimizer",
    "trained_on": "trained on",
    "config": "config",
    "command": "command",
    "seconds": "took",
    "hardware": "hardware",
    "validation_loss": "validation",
    "best_update": "validation",
    "evaluation": "evaluation",
    "fails": "fails",
}
"""Field of the metadata -> the line that tells it."""

LONGEST_NOTE = 300
"""Characters; `--json` has all."""


def _notes(metadata: Mapping[str, Any], shown: Collection[str]) -> list[str]:
    """Whatever else the metadata say: fields of somebody's own, and what no line could tell.

    Example:
        >>> _notes({"fails": "on Mondays", "author": "Ada", "seeds": [1, 2]}, {"fails"})
        ['author: Ada', 'seeds: [1, 2]']
    """
    return [
        f"{_printable(name)}: {shorten(_printable(value), LONGEST_NOTE)}"
        for name, value in metadata.items()
        if TOLD.get(name) not in shown
    ]


def _printable(value: Any) -> str:
    """Text as it is, unless it would move a terminal's cursor; the rest as JSON."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _or_none(text: Callable[[], str]) -> str | None:
    """Metadata may be anybody's: what they lack, or hold in another form, is not shown."""
    try:
        return text()
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _validation(metadata: Mapping[str, Any]) -> str:
    return f"loss {metadata['validation_loss']:.4g} after {metadata['best_update']} meta-updates"


def _evaluation(summary: Mapping[str, Any]) -> str:
    """Mean final losses, best first."""
    means = {name: one["final_loss"]["mean"] for name, one in summary["optimizers"].items()}
    best = sorted(means.items(), key=lambda pair: (pair[1] is None, pair[1] or 0.0))
    losses = ", ".join(f"{name} {'-' if mean is None else f'{mean:.4g}'}" for name, mean in best)
    return f"final loss after {summary['num_steps']} steps: {losses}"
