"""Meta-trains another implementation's LSTM by the clock, and keeps its weights at given moments.

    PEERS_SRC=CLONES VENV/bin/python benchmarks/quality/useful_peer.py --work=mnist --at=21,210 \
        --script=PEERS/learned_optimization_jax.py --data=mnist.npz --out=FILE.npz

Runs in that implementation's environment, where this project is not. The script is one of the
peers', which trains without end or data of its own: its `_common` is replaced by the one here, with
real minibatches, a clock that keeps the weights, and no warm-up. The clock begins when everything
is built and before the first meta-update is compiled. The optimizees start as `l2ljax.tasks` has
them, for which the PyTorch notebook is edited on its way. `--unit=updates` keeps the weights after
so many meta-updates instead, where the machine has other work. `useful_peers.py` judges the file.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

STEPS, UNROLL, BATCH, BATCHES = 100, 20, 128, 468
EDITS = {
    "adrienle_torch.py": [("torch.zeros(functions * 10)", "torch.randn(functions * 10)")],
    "learned_optimization_jax.py": [],
}
"""Script -> what is replaced in it: theta_0 of the quadratics is normal."""

NOTEBOOK = ("learning_by_grad_by_grad_repro", "Grad^2.ipynb")
NOTEBOOK_EDITS = [
    (f"torch.randn(inp_size, {size}) * 0.001", f"torch.randn(inp_size, {size}) / inp_size**0.5")
    for size in ("layer_size", "10")
]
"""Its MLP's weights start with standard deviation 1 / sqrt(fan_in)."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--script", required=True, help="one of EDITS, in the peers' folder")
    parser.add_argument("--work", choices=["quadratics", "mnist"], required=True)
    parser.add_argument("--at", required=True, help="moments, ascending, with commas")
    parser.add_argument("--unit", choices=["seconds", "updates"], default="seconds")
    parser.add_argument("--meta_lr", type=float, default=0.01)
    parser.add_argument("--data", help="file of MNIST's training images and labels")
    parser.add_argument("--out", required=True, help="file of the weights")
    return parser.parse_args()


def replaced(text: str, edits: list[tuple[str, str]]) -> str:
    """`text` with each of `edits`, whose old text must be there once.

    Example:
        >>> replaced("a * 0.1", [("0.1", "2")])
        'a * 2'
    """
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"Expected {old!r} once in the script, found it {text.count(old)}x.")
        text = text.replace(old, new)
    return text


def minibatches(path: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An epoch of MNIST: `[468, 128, 784]` float32 in [0, 1] and `[468, 128]` int64."""
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    rows = np.random.default_rng(seed).permutation(len(labels))[: BATCHES * BATCH]
    chosen = images[rows].reshape(BATCHES, BATCH, -1).astype(np.float32) / 255
    return chosen, labels[rows].reshape(BATCHES, BATCH).astype(np.int64)


def weights(trained: dict[str, Any]) -> dict[str, np.ndarray]:
    """Those of the script's network, by the names that its library gives them."""
    if "net" in trained:
        return {k: v.detach().numpy().copy() for k, v in trained["net"].state_dict().items()}
    params = trained["learner"].get_meta_params(trained["state"])
    return {f"{m}/{n}": np.array(v) for m, own in params.items() for n, v in own.items()}


def window_loss(trained: dict[str, Any]) -> float:
    """Of the last window of the episode that has just ended, the mean loss of its steps.

    learned_optimization spends a step on each reset, so its windows drift through the episodes.
    """
    if "losses" in trained:
        return float(np.mean(trained["losses"][-UNROLL:]))
    return float(trained["loss"])


class Clock:
    """Ticks after each episode; ends the script when it has kept all moments."""

    def __init__(self, options: argparse.Namespace, trained: dict[str, Any]):
        self.options, self.trained = options, trained
        self.moments = [float(moment) for moment in options.at.split(",")]
        self.updates, self.kept, self.arrays = 0, [], {}
        self.losses = collections.deque(maxlen=10)
        self.start = time.perf_counter()

    def tick(self) -> None:
        loss = window_loss(self.trained)  # waits for what has been computed
        seconds = time.perf_counter() - self.start
        self.updates += STEPS // UNROLL
        self.losses.append(loss)
        now = {"seconds": seconds, "updates": self.updates}
        while (
            len(self.kept) < len(self.moments)
            and now[self.options.unit] >= self.moments[len(self.kept)]
        ):
            for name, value in weights(self.trained).items():
                self.arrays[f"{len(self.kept)}/{name}"] = value
            self.kept.append(now | {"meta_loss": float(np.mean(self.losses))})
            self.save()
        if len(self.kept) == len(self.moments):
            raise SystemExit

    def save(self) -> None:
        about = vars(self.options) | {"kept": self.kept}
        np.savez(self.options.out, about=np.array(json.dumps(about)), **self.arrays)
        print(json.dumps({"script": Path(self.options.script).name, **self.kept[-1]}), flush=True)


def common(options: argparse.Namespace, trained: dict[str, Any], clones: str) -> types.ModuleType:
    """What the script imports as `_common`."""
    module: Any = types.ModuleType("_common")
    module.STEPS, module.UNROLL, module.UPDATES_PER_EPISODE = STEPS, UNROLL, STEPS // UNROLL
    module.META_LR = options.meta_lr
    asked = {"work": {"quadratics": "Q", "mnist": "M"}[options.work], "warmup": 0, "threads": 2}
    asked |= {"episodes": 10**9, "functions": 128 if options.work == "quadratics" else None}
    asked |= {"variant": "inner_grad_only", "lopt": "lstm", "steps_per_jit": "20"}
    module.parse = lambda doc, **choices: argparse.Namespace(**asked)
    module.peers_src = lambda name: os.path.join(clones, name)
    module.mnist_like = lambda: minibatches(options.data)
    module.Clock = lambda warmup: Clock(options, trained)
    return module


def main() -> None:
    options, clones = parse(), os.environ["PEERS_SRC"]
    script = Path(options.script)
    text = replaced(script.read_text(), EDITS[script.name])
    with tempfile.TemporaryDirectory() as edited:
        if script.name.startswith("adrienle"):
            notebook = json.loads(Path(clones, *NOTEBOOK).read_text())
            cell = next(c for c in notebook["cells"] if "class MNISTNet" in "".join(c["source"]))
            cell["source"] = [replaced("".join(cell["source"]), NOTEBOOK_EDITS)]
            clones = edited
            Path(clones, NOTEBOOK[0]).mkdir()
            Path(clones, *NOTEBOOK).write_text(json.dumps(notebook))
        trained: dict[str, Any] = {"__name__": "__main__", "__doc__": ""}
        sys.modules["_common"] = common(options, trained, clones)
        exec(compile(text, str(script), "exec"), trained)


if __name__ == "__main__":
    main()
