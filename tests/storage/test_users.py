"""Users that a container makes: without a home directory, and with files of nobody known."""

import os
import sys

import jax
import optax
import pytest

import l2ljax
from l2ljax.tasks.data import cache_directory

NOBODY = 54_321


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """As under `docker run --user 12345`: no HOME, and no entry among the users."""
    for name in ("HOME", "XDG_CACHE_HOME", "L2LJAX_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_home_nothing_is_cached_and_no_folder_is_called_a_tilde(homeless):
    assert cache_directory() is None
    assert l2ljax.load_dataset("digits", "train").images.shape[1:] == (8, 8, 1)
    assert list(homeless.iterdir()) == []


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away"
)
def test_a_run_whose_files_belong_to_nobody_known_goes_on(tmp_path):
    """To the same end as one that was never stopped."""
    optimizer = l2ljax.hyperparameters(optax.sgd, {"learning_rate": l2ljax.log(0.01)})
    estimator = l2ljax.truncated_bptt(
        l2ljax.tasks.quadratic(2), optimizer, num_tasks=2, episode_length=2, unroll_length=2
    )

    def run(updates, workdir):
        return l2ljax.meta_train(
            estimator, optax.sgd(0.1), optimizer.init(jax.random.key(0)), jax.random.key(1),
            num_meta_updates=updates, workdir=workdir,
        )  # fmt: skip

    run(1, tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    resumed, whole = run(2, tmp_path), run(2, None)
    assert resumed.num_meta_updates == 2
    assert jax.tree.map(float, resumed.meta_params) == jax.tree.map(float, whole.meta_params)
