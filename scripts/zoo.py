"""Writes docs/zoo.md, the page of the bundled optimizers, from their files.

python scripts/zoo.py
"""

from pathlib import Path

import l2ljax
from l2ljax.bundled import weights_path

PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"

SCALES = {
    "lstm-cifar10-single": "1, `max_update=0.03`",
    "lstm-mnist": "1, `max_update=0.2`",
    "lstm-neural-art": "1, `max_update=0.3`; gradients x 4 at 128 x 128",
    "lstm-quadratic": "1, `max_update=1.0`",
    "lstm-quadratic-all": "1, `max_update=0.8`",
    "lstm-quadratic-last": "1, `max_update=0.06`",
}
"""What docs/robustness.md and docs/results.md measured; elsewhere what it was trained with, 1."""

TOP = """# The zoo

**`l2ljax.pretrained()` is `enduring-suite`; for large matrices on a CPU, where it is dear, there is
`nominal-suite`. Those with "suite" in their names were trained on tasks of many
kinds; the others are of the paper's experiments: good at what they were trained on, for as long as
they were trained.** Which one: [choose.md](choose.md).
This page is written by `python scripts/zoo.py` from the files themselves.

| name | trained on | steps | numbers | state B/param | `learning_rate` | where it fails |
| --- | --- | --- | --- | --- | --- | --- |
"""

END = """
`max_update` bounds a coordinate's update by the largest that was seen in training; with
`nonfinite="skip"` it is what [robustness.md](robustness.md#long-runs-of-a-learned-optimizer)
recommends for long runs of LSTMs. An update of a matrix of a million numbers takes 3.8 ms with
`nominal-suite` and 236 ms with `enduring-suite` on two CPU cores (Adam 1.2, Optax's Muon 160), and
240 ms with an LSTM (Adam then 0.5).

## Cards

Each file has what it was made from: configuration, command, seconds, hardware, and an evaluation
beside tuned baselines. `l2ljax inspect NAME` prints it all.

"""


def card(name: str) -> str:
    """How one was trained, and what its own evaluation says, in a few lines."""
    known = l2ljax.pretrained_metadata(name)
    lines = [f"### {name}", ""]
    if "command" in known:
        lines += [f"Trained by `{known['command']}`.", ""]
    found = known.get("evaluation", {})
    ends = {
        other: numbers["final_loss"]["mean"]
        for other, numbers in found.get("optimizers", {}).items()
        if numbers.get("final_loss", {}).get("mean") is not None
    }
    if ends:
        told = ", ".join(f"{other} {loss:.3g}" for other, loss in ends.items())
        sizes = f"{found['num_tasks']} fresh optimizees of {found['num_steps']} steps"
        lines += [f"Mean final loss over {sizes} of {found['task']}: {told}.", ""]
    lines += [f"`{weights_path(name).name}`, {weights_path(name).stat().st_size:,} bytes.", ""]
    return "\n".join(lines)


def page() -> str:
    """The page as it has to be."""
    rows = [
        f"| `{row['name']}` | {row['trained_on']} | {row['steps']} | {row['weights']:,} | "
        f"{row['state_bytes']} | {SCALES.get(row['name'], '1')} | {row['fails']} |"
        for row in l2ljax.pretrained_table().rows
    ]
    cards = "\n".join(card(name) for name in l2ljax.pretrained_names())
    return f"{TOP}{chr(10).join(rows)}\n{END}{cards}"


if __name__ == "__main__":
    PAGE.write_text(page())
