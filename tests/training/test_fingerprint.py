"""What a workdir says of its run: names of code in files, wherever Python was started."""

from pathlib import Path

import pytest

from l2ljax.training.fingerprint import check_same_run


def saying(name):
    return {
        "versions": ["1"],
        "programs": {"the meta-gradient": "sha256 1"},
        "estimator": {"optimizer": {"name": name, "width": 2}, "labels": [name]},
        "max_consecutive_skips": 10,
        "max_restores": 3,
    }


@pytest.mark.parametrize("now", ["mine.py:rule", "/home/ada/mine.py:rule", "../a b/mine.py:rule"])
def test_the_same_file_by_another_path_is_the_same_run(now):
    for there, here in (("sub/mine.py:rule", now), (now, "sub/mine.py:rule")):
        check_same_run(Path("run"), saying(there), saying(here))


@pytest.mark.parametrize("now", ["sub/other.py:rule", "sub/mine.py:rules", "mine:rule"])
def test_other_code_is_another_run(now):
    with pytest.raises(ValueError, match="run holds another run: estimator"):
        check_same_run(Path("run"), saying("sub/mine.py:rule"), saying(now))


def test_the_same_names_with_another_program_are_another_run():
    here = saying("mine.py:rule") | {"programs": {"the meta-gradient": "sha256 2"}}
    with pytest.raises(ValueError, match="the meta-gradient differs"):
        check_same_run(Path("run"), saying("sub/mine.py:rule"), here)
