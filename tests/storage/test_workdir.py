"""Who comes first to a new workdir, of several that start at once."""

import errno
import os
import threading
from pathlib import Path

import pytest

from l2ljax.storage.workdir import claim, read_config


def no_links(*arguments):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture
def late(monkeypatch, tmp_path):
    """One of seed 0 has come to the workdir while another saw nothing there yet, once."""
    claim(tmp_path, {"seed": 0})
    exists, seen = Path.exists, []

    def not_yet(path, **options):
        if path.name == "config.json" and not seen:
            seen.append(path)
            return False
        return exists(path, **options)

    monkeypatch.setattr(Path, "exists", not_yet)
    return tmp_path


@pytest.mark.parametrize("links", [True, False])
def test_the_configuration_that_came_first_stays(late, monkeypatch, links):
    """The later one is refused as if it had come a day later; nothing is left of it."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(ValueError, match=r"another configuration .*: seed is 0 there, 1 here"):
        claim(late, {"seed": 1})
    assert read_config(late) == {"seed": 0}
    assert [path.name for path in late.iterdir()] == ["config.json"]


def test_an_equal_configuration_may_come_at_the_same_time(late):
    claim(late, {"seed": 0})
    assert read_config(late) == {"seed": 0}


def test_one_of_many_that_come_at_once_succeeds(tmp_path):
    """The others are told so, and the file is whole."""
    together, refused = threading.Barrier(8), []

    def come(seed):
        together.wait()
        try:
            claim(tmp_path / "run", {"seed": seed})
        except ValueError:
            refused.append(seed)

    threads = [threading.Thread(target=come, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    assert {read_config(tmp_path / "run")["seed"]} == set(range(8)) - set(refused)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


@pytest.mark.parametrize("links", ["refused", "unknown"])
def test_where_there_are_no_links_a_workdir_is_made_all_the_same(tmp_path, monkeypatch, links):
    if links == "refused":
        monkeypatch.setattr(os, "link", no_links)
    else:
        monkeypatch.delattr(os, "link")
    claim(tmp_path, {"seed": 3})
    assert read_config(tmp_path) == {"seed": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
