"""Judges other implementations' LSTMs as `time_to_useful.py` does ours, on the same optimizees.

    python benchmarks/quality/useful_peers.py --work=mnist --export=mnist.npz
    python benchmarks/quality/useful_peers.py --work=mnist FILE.npz ...

The first line writes the images for `useful_peer.py`, which trains; the second judges the files
that it made, beside the baselines of `time_to_useful.py --stages=baselines`. Their weights are
those of our `lstm` in another order: gates lie otherwise, torch has two biases and adds no constant
to the forget gate.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import useful
from absl import app, flags

HIDDEN = 20
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "mnist": {"preprocess": {"name": "log_sign", "p": 10.0}, "output_scale": 0.1},
    "quadratics": {"preprocess": {"name": "identity"}, "output_scale": 1.0},
}
"""Work -> of our `lstm`, what the peers' scripts have."""


def from_torch(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """Meta-parameters of our `lstm` from two `torch.nn.LSTMCell` and a `torch.nn.Linear`.

    Gates lie in our order (i, f, g, o); its two biases are one of ours, without the 1 that ours
    adds to the forget gate.
    """
    found = {}
    for layer, name in enumerate(("recurs", "recurs2")):
        inner, recurrent = weights[f"{name}.weight_ih"], weights[f"{name}.weight_hh"]
        bias = weights[f"{name}.bias_ih"] + weights[f"{name}.bias_hh"]
        size = recurrent.shape[1]
        bias[size : 2 * size] -= 1.0
        found |= {f"kernel_{layer}": np.concatenate([inner, recurrent], axis=1)}
        found |= {f"bias_{layer}": bias}
    found["readout"] = weights["output.weight"][0]
    found["readout_bias"] = weights["output.bias"][0]
    return {"params": jax.tree.map(jnp.asarray, found)}


def from_haiku(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """Meta-parameters of our `lstm` from two `haiku.LSTM` and a `haiku.Linear`.

    Its matrices are `[inputs, outputs]`, its gates i, g, f, o; it adds 1 to the forget gate too.
    """

    def reordered(gates: np.ndarray) -> np.ndarray:
        i, g, f, o = np.split(gates, 4)
        return np.concatenate([i, f, g, o])

    found = {}
    for layer, name in enumerate(("lstm/linear", "lstm_1/linear")):
        found[f"kernel_{layer}"] = reordered(weights[f"{name}/w"].T)
        found[f"bias_{layer}"] = reordered(weights[f"{name}/b"])
    found["readout"] = weights["linear/w"][:, 0]
    found["readout_bias"] = weights["linear/b"][0]
    return {"params": jax.tree.map(jnp.asarray, found)}


def load(path: Path) -> tuple[dict[str, Any], list[useful.Snapshot]]:
    """What `useful_peer.py` was asked for, and what it kept; scores are its own meta-losses."""
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        convert = from_torch if "torch" in about["script"] else from_haiku
        found = []
        for number, kept in enumerate(about["kept"]):
            prefix = f"{number}/"
            own = {k.removeprefix(prefix): arrays[k] for k in arrays if k.startswith(prefix)}
            found.append(
                useful.Snapshot(kept["seconds"], kept["updates"], kept["meta_loss"], convert(own))
            )
    return about, found


def judge(path: Path, work: str, beside: dict[str, Any], data_dir: str | None) -> dict[str, Any]:
    """Of each moment kept, how it does on the judge's optimizees."""
    about, found = load(path)
    config = useful.config_of(work, next(iter(useful.RECIPES[work])), 0)
    config["optimizer"] = {"name": "lstm", **OPTIMIZERS[work]}
    return {"about": about, "curve": useful.judged(config, found, beside, data_dir)}


COLUMNS = (
    "implementation",
    "s",
    "meta-updates",
    "its meta-loss",
    "mean loss",
    "final loss",
    "NAG's is above by",
    "Adam's is above by",
)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Of what `judge` returned, a row for each moment."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * (len(COLUMNS) - 1)]
    for name, one in found.items():
        for point in one["curve"]:
            nag, adam = (
                "not finite" if low is None else f"{low:.4f} to {high:.4f}"
                for low, high in (point["above"]["nag"], point["above"]["adam"])
            )
            lines.append(
                f"| {name} | {point['seconds']:.0f} | {point['update']} | "
                f"{point['validation']:.4g} | {point['mean']:.4g} | {point['final']:.4g} | "
                f"{nag} | {adam} |"
            )
    return "\n".join(lines)


def define_flags() -> None:
    """When it is run, and not where it is imported beside a script with flags of these names."""
    flags.DEFINE_enum("work", "mnist", ["quadratics", "mnist"], "Name in useful.RECIPES.")
    flags.DEFINE_string("out", "benchmarks/results/useful", "Folder of what is found.")
    flags.DEFINE_string("export", None, "Write MNIST's training images here, and end.")
    flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")


def main(argv: list[str]) -> None:
    if flags.FLAGS.export:
        from l2ljax.tasks.data import load_dataset

        images, labels = load_dataset("mnist", split="train", data_dir=flags.FLAGS.data_dir)
        np.savez(flags.FLAGS.export, images=np.asarray(images), labels=np.asarray(labels))
        return
    out, found = Path(flags.FLAGS.out), {}
    beside = json.loads((out / "baselines" / f"{flags.FLAGS.work}.json").read_text())
    for path in map(Path, argv[1:]):
        found[path.stem] = judge(path, flags.FLAGS.work, beside, flags.FLAGS.data_dir)
        (out / "peers").mkdir(parents=True, exist_ok=True)
        (out / "peers" / f"{path.stem}.json").write_text(json.dumps(found[path.stem]) + "\n")
    print(table(found))


if __name__ == "__main__":
    define_flags()
    app.run(main)
