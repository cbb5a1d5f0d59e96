"""docs/cost.md from what `run.py --works=use --out=docs/results/cost` left there.

python benchmarks/speed/cost_page.py
"""

import json
from pathlib import Path

from table import markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "cost" / "results.json"
HEAD = """# What an update costs

One `tx.update` and `optax.apply_updates`, parameters and state donated, float32, on CPU.
Meta-parameters are fresh. Made by

```
make bench BENCH="--works=use --rounds=3 --seconds=0.3 --out=docs/results/cost"
python benchmarks/speed/cost_page.py
```

on one matrix of 1 or 10 million numbers, and on the 109 tensors of a small transformer, 10 million
too; the 10 million as one matrix without the optimizers that its table lacks.

Each optimizer runs in a process of its own and all take turns; absolute times drift from day to
day, ratios within a table much less. (The rows "guarded" are of a run hours later, those of Celo2
and Celo-Adam at 10 million in one matrix of a day before: 13.1 times the Adam of that run, 7.9 ms.)

- `celo2` is without Newton-Schulz, `small_fc` of width 4. Both go through a tensor four times: for
  the moments, for rows and columns, for the mean squares of their features, and for the network. A
  network of that size is written out as sums of products of whole planes, which XLA makes one loop
  of: three times as fast as matrix products over blocks of features. The mean squares are two
  reductions of up to twelve sums each, which read what features are made of and hold none of them.
  Temporaries are one plane. A wider network (above 512 multiplications) is made of matrix products.
- `nominal` is without `directions` and `averaged`, as `nominal-suite` is. The default has both: 20
  bytes a parameter, and of a matrix somewhat more than Muon's time (236 ms a million, Muon 160 in
  the same run, two cores).
- The price is compile time, about a third of a second for each large tensor.
- Derivatives are those of the matrix products, so meta-training costs what it did.
- "guarded" is under [`guard`](guard.md) with Adam as the fallback. Its tests need all of both
  updates before anything can be written, so both wait in memory; on a CPU the system hands out that
  memory anew at each step, page by page, once it is more than some 32 MB: most of the time at 10
  million, and none of it on a GPU.
- `celo` and `velo` make the features of a whole tensor at once: temporaries of sixty times the
  parameters. `muon` is Optax's; on a square matrix its orthogonalisation takes most of the time.
"""


def page(report: dict) -> str:
    """The page, with one table for each work in the report."""
    tables = [f"## {name}\n\n{markdown(found['summary'])}" for name, found in report.items()]
    device = next(iter(next(iter(report.values()))["records"].values()))[0]
    machine = f"Measured on {device['cores']} cores ({device['device']}).\n"
    return "\n".join([HEAD, machine, *tables])


if __name__ == "__main__":
    (ROOT / "docs" / "cost.md").write_text(page(json.loads(RESULTS.read_text())))
