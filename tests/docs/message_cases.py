"""What provokes each message of docs/messages.md, in the page's order.

Each runs in an empty directory of its own.
"""

import contextlib
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import l2ljax
from l2ljax.command import main

KEY = jax.random.key(0)
MATRIX = {"w": jnp.ones((3, 2))}
BOWL = l2ljax.Task(init=lambda _, key: jnp.ones(2), loss=lambda p, _: (p**2).sum())


def command(*words):
    """What a command that fails says on standard error, but for the hint at the end."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert main(words) == 2
    raise SystemExit(told.getvalue().splitlines()[0])


def estimator(**changes):
    sizes = {"num_tasks": 2, "episode_length": 10, "unroll_length": 5}
    return l2ljax.truncated_bptt(BOWL, l2ljax.lstm((2,)), **(sizes | changes))


def evaluate(task=BOWL, tx=None, key=KEY):
    return l2ljax.evaluate(task, tx or optax.sgd(0.1), key, num_tasks=1, num_steps=1)


def update(tx, gradients, *params):
    return tx.update(gradients, tx.init(MATRIX), *params)


def damaged_weights():
    optimizer = l2ljax.lstm((2,))
    l2ljax.save_optimizer("a.safetensors", optimizer, optimizer.init(KEY))
    content = bytearray(Path("a.safetensors").read_bytes())
    content[-2] ^= 1
    Path("a.safetensors").write_bytes(content)
    l2ljax.load_optimizer("a.safetensors")


def optimizer_of_lambdas():
    optimizer = l2ljax.LearnedOptimizer(
        init=lambda key: jnp.zeros(()),
        transform=lambda rate: optax.with_extra_args_support(optax.sgd(rate)),
    )
    l2ljax.save_optimizer("mine.safetensors", optimizer, jnp.zeros(()))


def other_configuration():
    l2ljax.workdir.claim(Path("runs/a"), {"seed": 0})
    l2ljax.workdir.claim(Path("runs/a"), {"seed": 1})


def two_processes():
    with l2ljax.workdir.exclusive(Path("runs/a")), l2ljax.workdir.exclusive(Path("runs/a")):
        pass


def celo_without_the_loss():
    optimizer = l2ljax.celo(num_steps=10)
    jax.eval_shape(
        lambda key: update(optimizer.transform(optimizer.init(key)), MATRIX, MATRIX), KEY
    )


def other_meta_params():
    l2ljax.lstm((3,)).transform(l2ljax.lstm((2,)).init(KEY)).init(MATRIX)


CASES = (
    # Using one
    lambda: l2ljax.pretrained("lstm-mnits"),
    lambda: update(l2ljax.pretrained(), MATRIX),
    celo_without_the_loss,
    lambda: l2ljax.pretrained().init({"w": jnp.ones(3), "step": jnp.zeros((), int)}),
    lambda: l2ljax.pretrained().init({"w": jnp.ones(3, complex)}),
    lambda: update(l2ljax.pretrained("lstm-mnist"), {"w": jnp.ones((2, 2))}),
    lambda: l2ljax.pretrained(state_dtype="bfloat16"),
    lambda: l2ljax.pretrained("lstm-mnist", labels="conv_fc"),
    lambda: l2ljax.load_optimizer("gone.safetensors"),
    damaged_weights,
    # Training and measuring
    lambda: evaluate(key=0),
    lambda: evaluate(l2ljax.Task(init=BOWL.init, loss=lambda p, _: p**2)),
    lambda: evaluate(l2ljax.Task(init=lambda _, key: jnp.ones(2, int), loss=BOWL.loss)),
    lambda: estimator(unroll_length=3),
    lambda: estimator(second_derivatives=True, backward="recorded"),
    other_meta_params,
    optimizer_of_lambdas,
    # Runs and commands
    other_configuration,
    two_processes,
    lambda: command("evaluate", "--workdir=x"),
    lambda: command("train", "dmeo", "--workdir=x"),
    lambda: command("train", "demo", "--workdir=x", "--config.num_tusks=3"),
    lambda: l2ljax.task_mesh(3, 8),
)
