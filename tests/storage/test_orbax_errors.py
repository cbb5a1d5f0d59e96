"""What Orbax's abandoned writes print late stays hidden, and nothing else of asyncio does."""

import asyncio
import gc
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from l2ljax.storage.orbax_errors import quiet_orbax, writing

TENSORSTORE = "Failed to write 18731 bytes to file 7: No space left on device [os_error_code='28']"


def fails_in(path):
    """A coroutine function of a file at `path`."""
    names = {}
    exec(compile("async def fail():\n    raise OSError('full')", path, "exec"), names)
    return names["fail"]


def abandon(fail):
    """Ends a loop with a task that has failed and that nobody asked for its error."""

    async def main():
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])

    asyncio.run(main())
    gc.collect(0)  # what is young: all of it takes a second


async def abandoned_future():
    """As TensorStore leaves it: a future with its error and no frame."""
    asyncio.get_running_loop().create_future().set_exception(ValueError(TENSORSTORE))


@pytest.fixture(scope="module")
def hooked():
    """Where a write failed and its error was raised; what the hook before ours is told."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", seen.append)
        with pytest.raises(OSError, match="No space left"), quiet_orbax(), writing(Path("there")):
            raise ValueError(TENSORSTORE)
        yield seen


@pytest.fixture
def after_quiet(hooked):
    """The same, once more."""
    hooked.clear()
    return hooked


@pytest.mark.usefixtures("after_quiet")
@pytest.mark.parametrize(
    ("path", "shown"), [("/lib/orbax/checkpoint/write.py", False), ("/home/me/mine.py", True)]
)
def test_tasks_that_failed_late(caplog, path, shown):
    """By the file that a task's coroutine is of."""
    abandon(fails_in(path))
    assert ("Task exception was never retrieved" in caplog.text) is shown


@pytest.mark.usefixtures("after_quiet")
def test_futures_of_tensorstore(caplog):
    """They have no frames: by what TensorStore says."""
    asyncio.run(abandoned_future())
    gc.collect(0)
    assert not caplog.text
    logging.getLogger("asyncio").error("another message")
    assert "another message" in caplog.text


def test_callbacks_of_a_closed_loop(after_quiet):
    """Called by no Python code, which TensorStore's threads are not; any other is told."""
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="loop is closed") as raised:
        loop.call_soon_threadsafe(print)
    own: Any = types.SimpleNamespace(exc_value=raised.value, object=None)
    sys.unraisablehook(own)
    assert after_quiet == [own]
    raised.value.__traceback__ = raised.tb.tb_next  # without this test's frame
    sys.unraisablehook(own)
    assert after_quiet == [own]


@pytest.mark.filterwarnings("error:coroutine")
@pytest.mark.parametrize(
    ("path", "count"), [("/lib/orbax/checkpoint/write.py", 0), ("/home/me/mine.py", 1)]
)
def test_coroutines_that_never_ran(after_quiet, path, count):
    """By the file they are of."""
    fails_in(path)()
    gc.collect(0)
    assert len(after_quiet) == count
