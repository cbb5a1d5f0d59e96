"""Every public name says what it takes, gives and refuses, and shows its use.

Public is what a wing's `__all__` lists and what the reference in docs/api shows. How the sections
are written is said in CONTRIBUTING.md.
"""

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import jax
import pytest

import l2ljax

WINGS = (
    "", "bundled", "estimators", "evaluation", "experiments", "optimizers", "tasks",
    "tasks.suite", "tasks.transforms", "training", "unrolling",
)  # fmt: skip
PAGES = Path(__file__).parents[2] / "docs" / "api"
INNER = ("l2ljax.parallel", "l2ljax.specification")
"""What the library's own builders and estimators are made of."""

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")
WORDS = "scalar tree pytree params key state transformation"
SHAPE = rf"`[^`\s]*\[|\b({WORDS.replace(' ', '|')})s?\b|_params\b"
"""A shape such as `[num_tasks, num_steps]`; or one of these, whose shape is known or as it may."""

EXCEPTIONS = {
    ("l2ljax.CoordinatewiseLSTM", "Args names name"): "flax's, of every module",
    ("l2ljax.CoordinatewiseLSTM", "Args names parent"): "flax's, of every module",
    ("l2ljax.command.run_script", "an Example that runs"): "ends the process",
    ("l2ljax.experiments.evaluate_run", "an Example that runs"): "needs a run of minutes",
    ("l2ljax.experiments.evaluate_weights", "an Example that runs"): "takes minutes",
    ("l2ljax.experiments.run", "an Example that runs"): "takes minutes",
    ("l2ljax.load_published", "an Example that runs"): "needs a file that others publish",
    ("l2ljax.training.TensorBoardLogger", "an Example that runs"): "needs an extra",
}
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
        ['Args names thing', 'Returns']
    """
    text = inspect.cleandoc(thing.__doc__ or "")  # its own: inspect.getdoc would take a base's
    if not re.search(r"[.:](\s|$)", text.split("\n\n")[0]):
        return ["a first sentence"]
    parts, function = sections(text), _function(thing)
    example = doctest.DocTestParser().get_examples(parts.get("Example", ""))
    lacks = [] if example else ["an Example with >>>"]
    if any(one.options.get(doctest.SKIP) for one in example):
        lacks.append("an Example that runs")
    lacks += _arguments(thing, function, parts)
    gives_none = inspect.isclass(thing) or (
        inspect.signature(thing).return_annotation in (None, "None")
    )
    given = parts.get("Returns") or parts.get("Yields")
    if not gives_none and not given:
        lacks.append("Returns")
    elif given and _holds_arrays(function and function.returns) and not re.search(SHAPE, given):
        lacks.append("a shape of what it returns")
    code = "" if function is None else _without_docstrings(function)
    if re.search(r"\braise\b|\bcheck_\w+\(", code) and "Raises" not in parts:
        lacks.append("Raises")
    return lacks


def _arguments(thing, function: ast.FunctionDef | None, parts: dict[str, str]) -> list[str]:
    """What is missing of the sections Args and Attributes."""
    there = _entries(parts.get("Args", "")) | _entries(parts.get("Attributes", ""))
    wanted = _parameters(thing, function)
    lacks = [f"Args names {name}" for name in wanted if not there.get(name)]
    for name, annotation in wanted.items():
        said = f"{name} {there.get(name)}"
        if _holds_arrays(annotation) and name in there and not re.search(SHAPE, said):
            lacks.append(f"a shape of {name}")
    strange = set(_entries(parts.get("Args", ""))) - set(wanted)
    return lacks + [f"an argument {name}, which Args has" for name in sorted(strange)]


def _holds_arrays(annotation: ast.expr | str | None) -> bool:
    text = ast.unparse(annotation) if isinstance(annotation, ast.expr) else annotation or ""
    return re.search(r"jax\.Array|PyTree|np\.ndarray", text) is not None


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
    for entry in filter(None, re.split(r"^(?=\S)", section, flags=re.M)):
        names, _, said = entry.partition(":")
        found |= {name.strip(" *"): " ".join(said.split()) for name in names.split(",")}
    return found


def _function(thing) -> ast.FunctionDef | None:
    """The source of a function, or of what makes an object of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]
    if isinstance(tree, ast.ClassDef):
        makers = ("__init__", "__post_init__", "__new__")
        found = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in makers)
        return next(found, None)
    return tree if isinstance(tree, ast.FunctionDef) else None


def _without_docstrings(function: ast.FunctionDef) -> str:
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(function)


def _parameters(thing, function: ast.FunctionDef | None) -> dict[str, str]:
    """Name -> annotation; of a NamedTuple or dataclass its fields."""
    fields = getattr(thing, "_fields", None) or getattr(thing, "__dataclass_fields__", ())
    if inspect.isclass(thing) and fields:
        return {
            name: _written(note) for name, note in _annotations(thing).items() if name in fields
        }
    if function is None:
        return {}
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {
        one.arg: ast.unparse(one.annotation) if one.annotation else ""
        for one in every
        if one is not None and one.arg != "self"
    }


def _annotations(kind: type) -> dict[str, object]:
    """Of a class and its bases: `LearnedOptimizer` has its fields from one."""
    found = {}
    for base in reversed(kind.__mro__):
        found |= vars(base).get("__annotations__", {})
    return found


def _written(annotation: object) -> str:
    """An annotation as it stands in the source, near enough."""
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return re.sub(r"jax\S*\.Array\b|ndarray", "jax.Array", text)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_name_says_what_it_takes_gives_and_refuses(path):
    lacks = [what for what in missing(PUBLIC[path]) if (path, what) not in EXCEPTIONS]
    assert not lacks, f"the docstring of {path} lacks: {'; '.join(lacks)}"


def test_no_exception_is_left_over():
    """Each is still needed."""
    for path, what in EXCEPTIONS:
        assert what in missing(PUBLIC[path]), (path, what)


def halved(x: jax.Array, times: int = 1) -> jax.Array:
    """Half of it, again and again.

    Args:
        x: float `[n]`.
        times: at least 0.

    Returns:
        float `[n]`.

    Raises:
        ValueError: for a number below 0.

    Example:
        >>> halved(4.0, times=2)
        1.0
    """
    if times < 0:
        raise ValueError(f"times must be at least 0, got {times}.")
    return x / 2**times


@pytest.mark.parametrize(
    ("there", "instead", "lacks"),
    [
        ("Half of it", "Half of it", []),
        ("again and again.", "again and again", ["a first sentence"]),
        ("times: at least 0.", "", ["Args names times"]),
        ("times: at least 0.", "times:", ["Args names times"]),
        ("times: at", "n: at", ["Args names times", "an argument n, which Args has"]),
        ("x: float `[n]`.", "x: what to halve.", ["a shape of x"]),
        ("Returns:", "Gives:", ["Returns"]),
        ("    float `[n]`.\n", "    what is left.\n", ["a shape of what it returns"]),
        ("Raises:", "Refuses:", ["Raises"]),
        (">>> ", "", ["an Example with >>>"]),
        ("times=2)", "times=2)  # doctest: +SKIP", ["an Example that runs"]),
    ],
)
def test_what_is_missing_is_found(monkeypatch, there, instead, lacks):
    monkeypatch.setattr(halved, "__doc__", halved.__doc__.replace(there, instead))
    assert missing(halved) == lacks
