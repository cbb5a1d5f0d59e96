"""A quick adaptation: a learned learning rate on bowls."""

import jax
import optax

import l2ljax

RULE = l2ljax.hyperparameters(optax.sgd, {"learning_rate": l2ljax.log(0.01)})
QUICK = {"num_steps": 4, "num_eval_tasks": 5, "num_validation_tasks": 3, "num_tasks": 4}
BOWL = l2ljax.Task(
    init=lambda instance, key: jax.random.normal(key, (2,)),
    loss=lambda params, batch: (params**2).sum(),
)
BASELINES = {"sgd": optax.sgd}
META_OPTIMIZER = optax.adam(0.3)  # one object, compiled once
START = (RULE, RULE.init(jax.random.key(0)))


def adapt(weights=START, task=BOWL, **changes):
    known = {"minutes": 9.0, "baselines": BASELINES, "num_meta_updates": 3, **QUICK}
    known |= {"meta_optimizer": META_OPTIMIZER, "estimator": {"name": "truncated_bptt"}}
    return l2ljax.adapt(weights, task, **known | changes)
