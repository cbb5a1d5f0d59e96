"""Ten Adam configurations that were searched for once and need no tuning (Metz et al. 2020).

"Using a thousand optimization tasks to learn hyperparameter search strategies", arXiv:2002.11887,
sorts a thousand NAdamW configurations so that each helps most where those before it fail. The first
is the strongest rule known that a user need not tune, if the number of steps is known:

    theta <- theta - lr_t (d_t / (sqrt(v_t) + eps) + wd theta)
    lr_t = lr(t) sqrt(1 - b2^t) / (1 - b1^t),   d_t = m_t, or b1 m_t + (1 - b1) g_t with Nesterov

as google/learned_optimization computes it, whose numbers these are (Apache-2.0): epsilon meets the
uncorrected root, and the bias correction scales the decay of weights too.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import PyTree
from l2ljax.checks import check_positive_int


class Configuration(NamedTuple):
    """One NAdamW: rates and decays, and a schedule in shares of the number of steps."""

    learning_rate: float
    b1: float
    b2: float
    epsilon: float
    nesterov: bool = False
    weight_decay: float = 0.0
    l2: float = 0.0
    warmup_fraction: float = 0.0
    least_rate: float = 0.0
    constant_fraction: float = 1.0


OPTLIST = (
    Configuration(
        0.0011948336,
        0.93600435,
        0.99894974,
        5.8758144e-06,
        False,
        0.010141964,
        0.0,
        0.0,
        0.0,
        0.74730405,
    ),
    Configuration(
        0.40601098,
        0.9972408,
        0.98680273,
        107.85862,
        True,
        0.01562024,
        0.0,
        2.2891614e-05,
        0.0,
        0.32414858,
    ),
    Configuration(
        0.00021185274,
        0.62296508,
        0.97278005,
        1.5402358e-07,
        False,
        0.053607562,
        0.0,
        1.139506e-05,
        0.0013864545,
        0.20993103,
    ),
    Configuration(
        0.0075314825,
        0.69191559,
        0.98434298,
        3.592713e-08,
        False,
        0.00030596745,
        0.0,
        0.0,
        0.00095543872,
        0.42248923,
    ),
    Configuration(
        0.055697003,
        0.97421647,
        0.99998095,
        4.2139277,
        False,
        0.00022331133,
        0.0,
        0.0,
        0.0,
        0.52099103,
    ),
    Configuration(
        0.0069549924,
        0.9941178,
        0.99304553,
        4.3517154e-07,
        False,
        3.1423326e-05,
        0.0,
        0.0,
        0.0,
        0.013619134,
    ),
    Configuration(
        0.020526066,
        0.35730519,
        0.86043032,
        8.8735482e-05,
        True,
        0.072171676,
        0.0,
        0.0,
        1.5666692e-05,
        0.88516791,
    ),
    Configuration(
        0.00059508674,
        0.8912957,
        0.99983169,
        1.4834761e-07,
        True,
        0.040870209,
        0.0,
        0.0082126831,
        0.0,
        0.37760078,
    ),
    Configuration(
        0.0053286873,
        0.96047446,
        0.99922478,
        8.665059e-08,
        True,
        0.005563237,
        0.0,
        0.0,
        0.0,
        0.17233141,
    ),
    Configuration(
        0.0012415879,
        0.94665693,
        0.94066638,
        8.1136308e-08,
        False,
        7.2577296e-05,
        0.0,
        0.0,
        0.0010075666,
        0.47695142,
    ),
)
"""The first ten of the list, best first."""


class NAdamWState(NamedTuple):
    """`count` int32, and two float32 trees like the parameters."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: PyTree
    square: PyTree


def optlist(entry: int, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """Entry number `entry` of the list, for a training of `num_steps`; complete and additive.

    Args:
        entry: 0 to 9.
        num_steps: length of the training.

    Raises:
        ValueError: for an entry that is not there, or a length that is none.

    Example:
        >>> tx = optlist(0, num_steps=1000)
        >>> updates, _ = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)), jnp.zeros(2))
        >>> bool((updates < 0).all())
        True
    """
    check_positive_int("entry", entry, minimum=0, maximum=len(OPTLIST) - 1)
    return nadamw(OPTLIST[entry], num_steps)


def nadamw(configuration: Configuration, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """The rule above; a warm-up lasts for the larger of its own and the constant fraction.

    (That is what the released code does; an earlier one takes the smaller. Entries without a
    warm-up, the first among them, are the same in both.)
    """
    check_positive_int("num_steps", num_steps)
    c = configuration

    def init(params: PyTree) -> NAdamWState:
        def zeros() -> PyTree:
            return optax.tree.zeros_like(params, dtype=jnp.float32)

        return NAdamWState(jnp.zeros([], jnp.int32), zeros(), zeros())

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, NAdamWState]:
        del extra_args
        if params is None:
            raise ValueError("nadamw decays weights: call update(gradients, state, params).")
        # The sign of the L2 term is that of the released list: weights grow.
        gradients = jax.tree.map(lambda g, p: g - c.l2 * p, updates, params)
        mean = optax.tree.update_moment(gradients, state.mean, c.b1, 1)
        square = optax.tree.update_moment(gradients, state.square, c.b2, 2)
        t = (state.count + 1).astype(jnp.float32)
        rate = _rate(c, state.count, num_steps) * jnp.sqrt(1 - c.b2**t) / (1 - c.b1**t)
        ahead = optax.tree.update_moment(gradients, mean, c.b1, 1) if c.nesterov else mean

        def step(g, p, d, v):
            moved = d / (jnp.sqrt(v) + c.epsilon) + c.weight_decay * p
            return (-rate * moved).astype(jnp.result_type(g))

        count = jnp.asarray(optax.safe_increment(state.count))
        steps = jax.tree.map(step, updates, params, ahead, square)
        return steps, NAdamWState(count, mean, square)

    return optax.GradientTransformationExtraArgs(init, update)


def _rate(c: Configuration, count: jax.Array, num_steps: int) -> jax.Array:
    step = jnp.minimum(count, num_steps).astype(jnp.float32)
    constant = c.constant_fraction * num_steps
    done = (jnp.maximum(step, constant) - constant) / max(num_steps - constant, 1e-9)
    cosine = 0.5 + 0.5 * jnp.cos(jnp.pi * done)
    rate = c.learning_rate * ((1 - c.least_rate) * cosine + c.least_rate)
    if c.warmup_fraction == 0:
        return rate
    warmup = max(c.warmup_fraction, c.constant_fraction) * num_steps
    return jnp.where(step < warmup, c.learning_rate * step / warmup, rate)
