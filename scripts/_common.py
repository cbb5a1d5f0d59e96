"""What the scripts share: errors as one sentence, quiet logs, a compilation cache."""

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterator

import jax
from absl import app, logging

from l2ljax.tasks.data import cache_directory

M_ARENA_MAX = -8
"""glibc's number for the parameter, see mallopt(3)."""


def run(
    main: Callable[[list[str]], None],
    take: Callable[[list[str]], list[str]] = lambda argv: argv,
) -> None:
    """`absl.app.run`, where bad flags end with one sentence too; `take` sees the flags first."""
    app.run(main, flags_parser=functools.partial(_parse_flags, take=take))


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Bad input ends the script with its sentence and exit code 2, without a traceback."""
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
    sys.exit(2)


def _parse_flags(
    argv: list[str], take: Callable[[list[str]], list[str]] = lambda argv: argv
) -> list[str]:
    given = sys.argv
    with one_sentence_errors():
        try:
            sys.argv = take(argv)  # where ml_collections looks for its flags, too
            return app.parse_flags_with_usage(sys.argv)
        except (AttributeError, KeyError) as error:  # ml_collections, for an unknown field
            hint = str(error.args[0]).replace("\\n", " ").replace("\\", "").replace("'", "")
            raise ValueError(
                f"A --config flag overrides a field that the configuration does not have: {hint}"
            ) from error
        finally:
            sys.argv = given


def set_up() -> None:
    """Quiet logs, compiled programs kept between runs, and memory that stays flat.

    JAX_COMPILATION_CACHE_DIR says where they are kept; default: `~/.cache/l2ljax/xla`;
    none for a user without a home directory.
    """
    logging.set_verbosity(logging.WARNING)
    caches = cache_directory()
    if caches is not None and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(caches / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if "MALLOC_ARENA_MAX" not in os.environ:
        # glibc would give the threads that write each checkpoint new heaps, and keep those:
        # memory then grows by 1 MiB a checkpoint (docs/robustness.md). Other C libraries have none.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
