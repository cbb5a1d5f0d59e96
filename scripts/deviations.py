"""Writes docs/deviations.md, what differs from the paper and its code, from what was measured.

python scripts/deviations.py
"""

import json
from pathlib import Path

from l2ljax.paper.deviation_list import DEVIATIONS
from l2ljax.paper.deviations import fill

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"

TOP = """# Deviations from the paper

**Where the paper, DeepMind's released code and this project differ, how to switch, and what the
switch does.** Numbers are mean final losses with their 95 % intervals; "reference" is this
project's settings at the same short budget. Most effects are no larger than that of another seed:
[what stands out](results.md#deviations-from-paper-and-released-code). Flags are those of
`l2ljax train mnist`. Written by `python scripts/deviations.py` from the measurements in
`docs/results`.
"""


def page() -> str:
    """The page as it has to be."""
    found = json.loads((RESULTS / "deviations" / "deviations.json").read_text())
    summaries = {p.parent.name: json.loads(p.read_text()) for p in RESULTS.glob("*/summary.json")}
    parts = [TOP]
    for setting, paper, code, here, effect in fill(DEVIATIONS, found, summaries):
        lines = [f"## {setting[0].upper()}{setting[1:]}", ""]
        lines += [f"- Paper: {paper}"] if paper else []
        lines += [f"- Released code: {code}"] if code else []
        parts.append("\n".join([*lines, f"- Here: {here}", f"- What a switch does: {effect}", ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "deviations.md").write_text(page())
