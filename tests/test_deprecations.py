"""Nothing that JAX, Optax or Flax deprecates is used: the suite fails where something is.

Most of it by the filters in pyproject.toml, which make their warnings errors in every test.
"""

import ast
import functools
import importlib
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WATCHED = ("jax", "optax", "flax", "chex")
FILES = sorted(
    path for folder in ("l2ljax", "scripts", "configs", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip


def names_used(source):
    """Dotted names of the watched libraries that a source has, `jnp.x` as `jax.numpy.x`.

    Only the longest: of `optax.tree.norm`, not `optax.tree` besides.
    """
    tree, aliases, found = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                aliases[name.asname or name.name.split(".")[0]] = (
                    name.name if name.asname else name.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
                found.add(f"{node.module}.{name.name}")

    def dotted(node):
        if isinstance(node, ast.Name):
            return aliases.get(node.id)
        if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
            return f"{base}.{node.attr}"
        return None

    found |= {name for node in ast.walk(tree) if (name := dotted(node))}
    watched = {name for name in found if name.split(".")[0] in WATCHED}
    return {n for n in watched if not any(other.startswith(f"{n}.") for other in watched)}


def resolve(name):
    """What a dotted name stands for; modules on the way are imported."""
    found = None
    parts = name.split(".")
    for end, part in enumerate(parts, 1):
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
        else:
            found = importlib.import_module(".".join(parts[:end]))
    return found


@functools.cache
def all_names():
    return sorted({name for path in FILES for name in names_used(path.read_text())})


def test_names_are_found():
    """By alias, by `from` import, and the longest only."""
    source = """
import jax
import jax.numpy as jnp
from flax import linen as nn
import optax.tree_utils
def f(x):
    return jax.lax.scan(jnp.linalg.norm(x).item(), nn.Dense(3), optax.tree.norm(x.y))
"""
    assert names_used(source) == {
        "jax.lax.scan",
        "jax.numpy.linalg.norm",
        "flax.linen.Dense",
        "optax.tree.norm",
    }
    assert {"jax.lax.scan", "optax.apply_updates", "flax.linen.Module"} <= set(all_names())


def test_no_name_is_deprecated():
    """Every name resolves without a warning, and its docstring does not call it deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in all_names():
            text = getattr(resolve(name), "__doc__", None) or ""
            opening = text.strip().split("\n\n")[:2]  # arguments may be deprecated further down
            assert not any("deprecated" in part.lower() for part in opening), name


@pytest.mark.parametrize(
    "module",
    [
        "jax._src.tree_util",
        "optax._src.transform",
        "optax.tree_utils",
        "flax.core.scope",
        "l2ljax.unrolling",
        "test_unroll",
    ],
)
@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, PendingDeprecationWarning])
def test_warnings_of_deprecation_are_errors(module, category):
    """Wherever the warning says that it comes from: the library, its caller, or a test."""
    with pytest.raises(category):
        warnings.warn_explicit("x is deprecated", category, "x.py", 1, module=module)


def test_other_libraries_warnings_are_not():
    """TFDS or Orbax may warn of what they do themselves."""
    with pytest.warns(DeprecationWarning, match="x"):
        warnings.warn_explicit(
            "x", DeprecationWarning, "x.py", 1, module="tensorflow_datasets.core"
        )
