"""The recipe of the LSTM that lasts, shortened to some three minutes of one core."""

import jax
import optax
import pytest

import l2ljax
from l2ljax.command import bundled_config
from l2ljax.experiments import experiment
from l2ljax.tasks import suite

TASK = "digits-relu-32"


@pytest.mark.slow
def test_a_shortened_run_is_useful_on_a_training_task(tmp_path):
    """100 of 10,000 meta-updates, two tasks of ten: below Adam at 1e-3 after 1,000 steps."""
    config = bundled_config("lasting").to_dict()
    config["num_meta_updates"], config["validation"]["every"] = 100, 50
    config["meta_optimizer"]["learning_rate"] = 5e-3
    config["estimator"]["tasks"] = (TASK, "teacher-8")
    result = experiment.run(config, tmp_path, command="python", progress=False)
    parts = experiment.build(config, None)
    fresh = parts.optimizer.init(jax.random.key(0))
    assert result.best_score < 0.5 * float(parts.validation.score(fresh))

    learned = parts.optimizer.transform(result.meta_params)
    learned_loss, adam_loss = (
        l2ljax.evaluate(
            suite.tasks("train")[TASK], tx, jax.random.key(1), num_tasks=4, num_steps=1000
        )
        for tx in (learned, optax.adam(1e-3))
    )
    assert learned_loss[:, -50:].mean() < adam_loss[:, -50:].mean()
