"""`make desk`, `make default` and `make timed`: their flags are flags, their files are made before.

A recipe runs for hours, so that a slip in a later command would be found out late.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("search_rule", "part_way", "tell_rule")
READ = ("initial", "early", "axes", "whole", "weights")
"""Flags that name weights: bundled ones, or a file."""


def commands():
    """(script, words) of the Makefile's recipes, in order; without those of other targets."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    lines = re.findall(r"^\t\$\(RUN\) benchmarks/quality/(\w+)\.py (.*)$", text, re.MULTILINE)
    return [(name, shlex.split(words)) for name, words in lines if name in SCRIPTS]


def given(words):
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


def test_each_recipe_has_commands():
    assert len(commands()) == 11
    assert {name for name, _ in commands()} == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_are_those_of_the_script(script):
    """Parsed in one process each, as `absl.app` parses them, with the check of required ones."""
    lines = [words for name, words in commands() if name == script]
    program = (
        "import json, sys; from absl import flags; import " + script + "\n"
        "for words in json.load(sys.stdin):\n"
        "    flags.FLAGS.unparse_flags(); assert flags.FLAGS(['x', *words]) == ['x'], words\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks" / "quality")])
    found = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(lines),
        env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-500:]


def test_files_that_are_read_were_made_before():
    """`--out` is a folder of `averaged.safetensors`, or the file."""
    made = set()
    for _, words in commands():
        flags = given(words)
        for name in READ:
            for file in filter(None, flags.get(name, "").split(",")):
                assert file in made, (file, words)
        out = flags["out"]
        made.add(out if out.endswith(".safetensors") else f"{out}/averaged.safetensors")
    assert {"runs/default/averaged.safetensors", "runs/timed/averaged.safetensors"} <= made


def test_a_search_settles_before_it_ends():
    for name, words in commands():
        if "settle" in (flags := given(words)):
            assert name == "search_rule"
            assert int(flags["settle"]) < int(flags["generations"]), words
