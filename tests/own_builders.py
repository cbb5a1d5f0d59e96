"""Builders of one's own, as a file has them; and what an optimizer does with a gradient."""

import jax.numpy as jnp

OWN = """
import jax, jax.numpy as jnp, optax, l2ljax
from l2ljax import LearnedOptimizer, specified

@specified()
def scaled(factor=1.0, inner=None, squash=None, dtype=jnp.float32):
    squash = squash or (lambda x: x)
    def transform(phi):
        first = optax.identity() if inner is None else inner.transform(phi["inner"])
        step = lambda updates, params=None: jax.tree.map(lambda u: squash(u) * phi["by"], updates)
        return optax.with_extra_args_support(optax.chain(first, optax.stateless(step)))
    def init(key):
        return {"by": jnp.asarray(factor, dtype)} | ({"inner": inner.init(key)} if inner else {})
    return LearnedOptimizer(init, transform)

def undecorated(factor=1.0):
    return scaled(factor)._replace(specification=None)

def twice(x):
    return 2 * x

def by_name(params):
    return {name: "a" if name == "w" else "b" for name in params}

if __name__ == "__main__":
    import sys
    optimizer = scaled(0.5, inner=l2ljax.lstm((2,)), squash=twice)
    l2ljax.save_optimizer(sys.argv[1], optimizer, optimizer.init(jax.random.key(0)))
    print(optimizer.specification["name"])
"""


def updates(optimizer, meta_params, gradient=None):
    gradient = jnp.array([1.0, -3.0]) if gradient is None else gradient
    tx = optimizer.transform(meta_params)
    return tx.update(gradient, tx.init(gradient), gradient)[0]
