"""The loggers of docs/watching.md, as printed, with stand-ins for the libraries."""

import re
import sys
from pathlib import Path
from unittest.mock import MagicMock, call

import pytest

from l2ljax.training import TensorBoardLogger

PAGE = Path(__file__).parents[2] / "docs" / "watching.md"


@pytest.mark.parametrize(
    ("library", "name", "logged", "closed"),
    [
        ("wandb", "WandbLogger", call.init().log({"a": 1.0}, step=3), call.init().finish()),
        ("mlflow", "MlflowLogger", call.log_metrics({"a": 1.0}, step=3), call.end_run()),
        ("aim", "AimLogger", call.Run().track(1.0, name="a", step=3), call.Run().close()),
    ],
)
def test_a_logger_of_the_page(monkeypatch, library, name, logged, closed):
    stand_in = MagicMock()
    monkeypatch.setitem(sys.modules, library, stand_in)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope = {}
    exec(next(block for block in blocks if name in block), scope)
    logger = scope[name]()
    logger.log(3, {"a": 1.0})
    logger.close()
    assert stand_in.mock_calls[-2:] == [logged, closed]


def test_tensorboard_gets_scalars(monkeypatch, tmp_path):
    stand_in = MagicMock()
    monkeypatch.setitem(sys.modules, "tensorboardX", stand_in)
    logger = TensorBoardLogger(tmp_path)
    logger.log(3, {"a": 1.0})
    logger.close()
    writer = call.SummaryWriter()
    assert stand_in.mock_calls[1:] == [writer.add_scalar("a", 1.0, 3), writer.close()]


def test_without_tensorboardx_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"l2ljax\[logging\]"):
        TensorBoardLogger(tmp_path)
