"""How a command ends: its exit codes, and errors as one sentence."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

BAD_INPUT, GAVE_UP, STOPPED = 2, 3, 130
"""Exit codes beside 0: what was given is at fault; meta-gradients stayed not finite; Ctrl-C."""


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Bad input ends the process with its sentence and exit code 2, without a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get("L2LJAX_TRACEBACK"):
            raise
        _stop(f"{type(error).__name__}: {error}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        is_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if not is_memory or os.environ.get("L2LJAX_TRACEBACK"):
            raise
        _stop(
            "There is not enough memory; lower num_tasks, at_once, batch_size or a network's size."
        )


def _stop(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    print("(L2LJAX_TRACEBACK=1 shows where.)", file=sys.stderr)
    sys.exit(BAD_INPUT)
