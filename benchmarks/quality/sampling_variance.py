"""How much noise the sampling of coordinates adds to a meta-gradient.

    python benchmarks/quality/sampling_variance.py --data_dir=../shared/tfds

Prints the variance of one estimate at each share (summed over meta-parameters, over draws of
optimizee, minibatches and coordinates), relative to the exact meta-gradient's on the same draws.
"""

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.flatten_util import ravel_pytree

from l2ljax import estimators, tasks
from l2ljax.bundled import load_pretrained
from l2ljax.tasks.data import load_dataset

DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds MNIST.")
DRAWS = flags.DEFINE_integer("draws", 64, "Estimates at each share.", lower_bound=2)
SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)


def main(argv: list[str]) -> None:
    del argv
    task = tasks.mlp(load_dataset("mnist", split="train", data_dir=DATA_DIR.value))
    optimizer, meta_params = load_pretrained("lstm-mnist")
    exact = None
    print("| share | variance of one estimate | of it from sampling |\n| --- | --- | --- |")
    for share in SHARES:
        estimator = estimators.truncated_bptt(
            task, optimizer, num_tasks=1, episode_length=100, unroll_length=20,
            coordinate_share=share,
        )  # fmt: skip
        state = estimator.init(jax.random.key(0), meta_params)
        estimate = jax.jit(type(estimator).estimate)
        draws = [
            ravel_pytree(estimate(estimator, meta_params, state, jax.random.key(draw))[1])[0]
            for draw in range(DRAWS.value)
        ]
        draws = jnp.stack(draws)
        if exact is None:
            exact = draws
        total = draws.var(axis=0, ddof=1).sum() / exact.var(axis=0, ddof=1).sum()
        added = ((draws - exact) ** 2).mean(axis=0).sum() / exact.var(axis=0, ddof=1).sum()
        print(f"| {share:g} | {total:.2f} | {added:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
