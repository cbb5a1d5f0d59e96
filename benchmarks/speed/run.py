"""Runs the works in turn, several rounds over, beside other implementations; writes a table.

    python benchmarks/speed/run.py --works=mnist,quadratics --rounds=5 --out=benchmarks/results

Every variant runs in a process of its own, and round after round all take their turn: what the
machine does besides falls on all alike. Other implementations join where `--peers` names a folder
of scripts that print the same JSON line (and PEERS_SRC and PEERS_VENVS say where those find what
they need). Works called "useful" or useful-WORK measure how long meta-training takes until it is of
use, `benchmarks/quality/time_to_useful.py`, one seed a round; they are run where they are named.
"""

import json
import os
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from absl import app, flags
from table import markdown, summarise

HERE = Path(__file__).parent
USEFUL = HERE.parent / "quality" / "time_to_useful.py"
WORKS = flags.DEFINE_list("works", None, "Works to run; default: all.")
VARIANTS = flags.DEFINE_list("variants", None, "Variants to run (by prefix); default: all.")
SKIP = flags.DEFINE_list("skip", [], "Variants and other implementations to leave out (by prefix).")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each variant takes.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 4.0, "Time for each, after compiling.")
PEERS = flags.DEFINE_string("peers", None, "Folder of the other implementations' scripts.")
OUT = flags.DEFINE_string("out", None, "Folder for results.json and table.md.")

TORCH, AS_IT_IS = "venv-torch", "adrienle_torch.py"
MENDED = "adrienle_torch.py --variant inner_grad_only"
PEER_COMMANDS = {
    "quadratics": (
        "Q",
        [
            (TORCH, f"{AS_IT_IS} --updates 20 --functions 128"),
            (TORCH, f"{MENDED} --updates 50 --functions 128"),
            (TORCH, f"{MENDED} --updates 50 --functions 128 --threads 1"),
            ("venv-jax", "teddykoker_jax.py --updates 50"),
            ("venv-lopt", "learned_optimization_jax.py --updates 50"),
        ],
    ),
    "mnist": (
        "M",
        [
            (TORCH, f"{AS_IT_IS} --updates 5"),
            (TORCH, f"{MENDED} --updates 15"),
            (TORCH, f"{MENDED} --updates 15 --threads 1"),
            ("venv-jax", "teddykoker_jax.py --updates 15"),
            ("venv-lopt", "learned_optimization_jax.py --updates 15"),
        ],
    ),
    "pes": (
        None,
        [
            ("venv-lopt", "learned_optimization_pes.py"),
            ("venv-lopt", "learned_optimization_pes.py --steps_per_jit 10"),
        ],
    ),
    "pes-adam": (
        None,
        [
            ("venv-lopt", "learned_optimization_pes.py --optimizer adam"),
            ("venv-lopt", "learned_optimization_pes.py --optimizer adam --stack"),
        ],
    ),
}
"""Work here -> (its name there, [(environment, command)]). A script in `peers/` is our own."""


def commands(work: str, variants: list[str]) -> dict[str, list[str]]:
    """Label -> command line, of our variants and of the peers that are set up."""
    found = {
        f"l2ljax, {variant}": [
            *(sys.executable, str(HERE / "measure.py"), f"--work={work}"),
            *(f"--variant={variant}", f"--seconds={SECONDS.value}"),
        ]
        for variant in variants
        if VARIANTS.value is None or variant.startswith(tuple(VARIANTS.value))
        if not variant.startswith(tuple(SKIP.value))
    }
    if not PEERS.value or work not in PEER_COMMANDS:
        return found
    name, lines = PEER_COMMANDS[work]
    for environment, line in lines:
        if line.startswith(tuple(SKIP.value)):
            continue
        python = Path(os.environ.get("PEERS_VENVS", ".")) / environment / "bin" / "python"
        if python.exists():
            script, *options = shlex.split(line)
            label = line.removesuffix(".py").replace(".py --", " --")
            ours, theirs = HERE / "peers" / script, Path(PEERS.value).absolute() / script
            found[label] = [str(python), str(ours if ours.exists() else theirs), *options]
            found[label] += [] if name is None else ["--work", name]
        else:
            print(f"No {python}: {line} is left out.", file=sys.stderr)
    return found


def until_useful(asked: list[str]) -> None:
    """Runs those of the works that tell of seconds until an optimizer is of use."""
    command = [sys.executable, str(USEFUL), f"--seeds={ROUNDS.value}"]
    if "useful" not in asked:
        command += [f"--works={','.join(name.removeprefix('useful-') for name in asked)}"]
    if OUT.value:
        command += [f"--out={Path(OUT.value) / 'useful'}"]
    subprocess.run(command, check=True)


def chosen(asked: list[str] | None, there: list[str]) -> list[str]:
    """The works that `asked` names, each by its whole name or, "use", by how several begin."""
    if not asked:
        return there
    found = {
        name: [name] if name in there else [work for work in there if work.startswith(f"{name}-")]
        for name in asked
    }
    if unknown := [name for name, works in found.items() if not works]:
        raise app.UsageError(f"Unknown works {unknown}; there are {', '.join(there)}.")
    return [work for works in found.values() for work in works]


def measure(command: list[str]) -> dict | None:
    """The JSON line that `command` prints, or `None` (and a sentence) where it fails."""
    cwd = None if command[1].startswith(str(HERE)) else Path(command[1]).parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(f"FAILED {shlex.join(command)}\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    return json.loads(lines[-1])


def main(argv: list[str]) -> None:
    del argv
    sys.path.insert(0, str(HERE))
    import works

    asked = WORKS.value or []
    useful = [name for name in asked if name.split("-")[0] == "useful"]
    if useful:
        until_useful(useful)
        if len(useful) == len(asked):
            return
    names = chosen([name for name in asked if name not in useful], list(works.WORKS))
    kept = Path(OUT.value) / "results.json" if OUT.value else None
    report = json.loads(kept.read_text()) if kept and kept.exists() else {}  # of other works
    for name in names:
        todo, records = commands(name, list(works.WORKS[name])), defaultdict(list)
        for number in range(ROUNDS.value):
            for label, command in todo.items():
                print(f"{name}, round {number + 1} of {ROUNDS.value}: {label}", flush=True)
                if record := measure(command):
                    records[label].append(record)
        rows = summarise(records)
        report[name] = {"summary": rows, "records": records}
        print(f"### {name}\n\n{markdown(rows)}")
        if kept:  # after each work, so that a run that is cut short leaves what it has
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(report, indent=1) + "\n")
            tables = [f"### {n}\n\n{markdown(found['summary'])}" for n, found in report.items()]
            kept.with_name("table.md").write_text("\n".join(tables))


if __name__ == "__main__":
    app.run(main)
