"""What tests of the command line share."""

import pytest

from l2ljax.command import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command line in an empty folder; its exit code, and what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
