"""Every public name says what it takes, gives and refuses, and shows its use.

Public is what a wing's `__all__` lists and what the reference in docs/api shows. How the sections
are written is said in CONTRIBUTING.md.
"""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import l2ljax

WINGS = (
    "", "bundled", "estimators", "evaluation", "experiments", "optimizers", "tasks",
    "tasks.suite", "tasks.transforms", "training", "unrolling",
)  # fmt: skip
PAGES = Path(__file__).parents[2] / "docs" / "api"
INNER = ("l2ljax.parallel", "l2ljax.specification", "l2ljax.command")
"""What the library's own builders and its command line are made of."""

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")
WORDS = r"scalar|tree|pytree|params|key|state|transformation"
"""Instead of a shape: what these are called has none, or one that its own page tells."""

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(name, what is missing) -> why it may be."""


def _find(path: str):
    """The object of a dotted path, whatever part of it is a module."""
    found = l2ljax
    for part in path.split(".")[1:]:
        if inspect.ismodule(found) and not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


def _public() -> dict[str, object]:
    """Dotted path -> each function and class once."""
    paths = []
    for wing in WINGS:
        module = importlib.import_module(f"l2ljax.{wing}".rstrip("."))
        paths += [f"{module.__name__}.{name}" for name in getattr(module, "__all__", ())]
    for page in sorted(PAGES.glob("*.md")):
        directive = r"^\.\. auto(?:function|class|exception):: (l2ljax\.\S+)"
        paths += re.findall(directive, page.read_text(), re.M)
    found = {}
    for path in paths:
        thing = _find(path)
        if callable(thing) and not path.startswith(INNER):
            found.setdefault(id(thing), (path, thing))
    return dict(found.values())


PUBLIC = _public()


def missing(thing) -> list[str]:
    """What the docstring of a function or class lacks, each in a few words.

    Example:
        >>> missing(missing)
        ['Args names thing']
    """
    text = inspect.cleandoc(thing.__doc__ or "")  # its own: inspect.getdoc would take a base's
    if not re.search(r"[.:](\s|$)", text.split("\n\n")[0]):
        return ["a first sentence"]
    parts = sections(text)
    lacks = [] if ">>> " in parts.get("Example", "") else ["an Example with >>>"]
    source = _source(thing)
    entries = _entries(parts.get("Args", "")) | _entries(parts.get("Attributes", ""))
    for name, annotation in _parameters(thing, source).items():
        if name not in entries:
            lacks.append(f"Args names {name}")
        elif re.search(r"jax\.Array|PyTree|np\.ndarray", annotation) and not re.search(
            rf"`\[|\b({WORDS})s?\b|_params\b", f"{name} {entries[name]}"
        ):
            lacks.append(f"a shape of {name}")
    if not inspect.isclass(thing):
        none = inspect.signature(thing).return_annotation in (None, "None")
        if not none and not {"Returns", "Yields"} & set(parts):
            lacks.append("Returns")
    if re.search(r"\braise\b|\bcheck_\w+\(", source.code) and "Raises" not in parts:
        lacks.append("Raises")
    return lacks


def sections(text: str) -> dict[str, str]:
    """Heading -> text of a docstring's sections.

    Example:
        >>> sections("Adds.\\n\\nArgs:\\n    a: one.\\n\\nReturns:\\n    the sum.")
        {'Args': 'a: one.', 'Returns': 'the sum.'}
    """
    pieces = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.M)[1:]
    return {
        heading: textwrap.dedent(re.split(r"^(?=\S)", body, flags=re.M)[0]).strip("\n")
        for heading, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


def _entries(section: str) -> dict[str, str]:
    """Parameter -> what is said of it; `a, b: both` counts for each."""
    found = {}
    for entry in re.split(r"^(?=\S)", section, flags=re.M)[1:] or [section]:
        names, _, body = entry.partition(":")
        found |= {name.strip(" *"): " ".join(body.split()) for name in names.split(",")}
    return found


class _Code:
    """The source of a function, or of what makes an object of a class, without docstrings."""

    def __init__(self, tree: ast.AST | None):
        self.function = tree
        self.code = "" if tree is None else _without_docstrings(tree)


def _source(thing) -> _Code:
    inner = inspect.unwrap(thing)
    tree = ast.parse(textwrap.dedent(_text(inspect.getsourcefile(inner), inner))).body[0]
    if not isinstance(tree, ast.ClassDef):
        return _Code(tree)
    made_by = ("__init__", "__post_init__", "__new__")
    methods = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in made_by]
    return _Code(methods[0] if methods else None)


@functools.lru_cache(maxsize=None)
def _text(path: str, thing) -> str:
    return inspect.getsource(thing)


def _without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _parameters(thing, source: _Code) -> dict[str, str]:
    """Name -> annotation as it is written."""
    if inspect.isclass(thing):
        own = vars(thing).get("__annotations__") or {}
        fields = getattr(thing, "_fields", None) or getattr(thing, "__dataclass_fields__", {})
        if fields:
            return {name: str(own.get(name, "")) for name in fields if name in own}
    function = source.function
    if not isinstance(function, ast.FunctionDef):
        return {}
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {
        one.arg: ast.unparse(one.annotation) if one.annotation else ""
        for one in every
        if one is not None and one.arg != "self"
    }


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_name_says_what_it_takes_gives_and_refuses(path):
    lacks = [what for what in missing(PUBLIC[path]) if (path, what) not in EXCEPTIONS]
    assert not lacks, f"the docstring of {path} lacks: {'; '.join(lacks)}"
