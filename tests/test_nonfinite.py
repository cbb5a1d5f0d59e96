"""Meta-training among meta-gradients that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp

from l2ljax.base import GradientEstimator
from l2ljax.estimators import truncated_bptt
from l2ljax.experiments import experiment
from l2ljax.optimizers import lstm
from l2ljax.optimizers.preprocess import identity
from l2ljax.tasks import quadratic
from l2ljax.training.loop import meta_train
from l2ljax.training.validation import Validation

NUM_META_UPDATES = 400


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Faulty(GradientEstimator):
    """Another estimator, a share of whose meta-gradients is NaN."""

    estimator: GradientEstimator
    share: float = dataclasses.field(metadata={"static": True})

    def init(self, key, meta_params):
        return self.estimator.init(key, meta_params)

    def estimate(self, meta_params, state, key):
        loss, grads, state, metrics = self.estimator.estimate(meta_params, state, key)
        faulty = jax.random.bernoulli(jax.random.fold_in(key, 1), self.share)
        grads = jax.tree.map(lambda g: jnp.where(faulty, jnp.nan, g), grads)
        return loss, grads, state, metrics | {"faulty": faulty}


def test_nan_meta_gradients_are_skipped():
    """With 5 % of them NaN, training ends within 10 % of the validation loss without."""
    task, optimizer = quadratic(4), lstm((8,), preprocess=identity())
    estimator = truncated_bptt(task, optimizer, num_tasks=32, episode_length=20, unroll_length=20)
    validation = Validation(
        task=task, optimizer=optimizer, key=jax.random.key(9), num_tasks=128, num_steps=20
    )
    scores = []
    for share in (0.0, 0.05):
        result = meta_train(
            Faulty(estimator, share),
            experiment.adam(NUM_META_UPDATES, 1e-2, clip_norm=1.0),
            optimizer.init(jax.random.key(0)),
            jax.random.key(1),
            num_meta_updates=NUM_META_UPDATES,
            validation=validation,
            validate_every=50,
            log_every=1,
        )
        faulty = sum(record.get("faulty", False) for record in result.history)
        assert result.num_skipped == faulty
        print(f"{faulty} of {NUM_META_UPDATES} skipped: validation loss {result.best_score:.4f}")
        # 20 expected, within four standard deviations of the binomial
        assert faulty == 0 if share == 0 else 3 <= faulty <= 37
        scores.append(result.best_score)
        start = next(r["meta_loss"] for r in result.history) / 20
        assert result.best_score < 0.5 * start  # it learns
    assert abs(scores[1] / scores[0] - 1) < 0.1
