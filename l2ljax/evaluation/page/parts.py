"""Parts of a page that needs no other file and no network: its frame, tables, lists, code."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any


def asset(name: str) -> str:
    """The text of a file beside this one: a style or a script of the page."""
    return (files("l2ljax.evaluation.page") / name).read_text(encoding="utf-8")


def frame(title: str, body: Iterable[str], scripts: Iterable[str] = ()) -> str:
    """A whole page, light or dark as the reader's system is, with a button for the other.

    Args:
        title: of the page, and its heading; plain text.
        body: HTML below the heading.
        scripts: JavaScript, run after the body is there.

    Returns:
        HTML that needs no other file.

    Example:
        >>> page = frame("A < B", ["<p>Hello</p>"])
        >>> "<h1>A &lt; B</h1>" in page, "<p>Hello</p>" in page
        (True, True)
    """
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title><style>{asset('style.css')}</style></head><body>",
        f"<header><h1>{escape(title)}</h1>",
        '<button id="theme" type="button" hidden>Dark colours</button></header>',
        "<main>",
        *body,
        "</main>",
        *(f"<script>{script}</script>" for script in (*scripts, asset("theme.js"))),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def table(
    heading: Sequence[str], rows: Iterable[Sequence[str]], kind: str, label: str = "table"
) -> str:
    """A table of plain texts that is moved sideways where it is too wide.

    Args:
        heading: one text a column.
        rows: as many texts each.
        kind: "numbers", "cards" (one above the other on a phone), or "".
        label: what it holds, for people who do not see it.

    Example:
        >>> "<td data-of=" in table(["name"], [["a & b"]], "numbers")
        True
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    lines = [
        "".join(
            f'<td data-of="{escape(of)}">{whole_flags(cell)}</td>'
            for of, cell in zip(heading, row, strict=True)
        )
        for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, both HTML."""
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{text}</dd>' for name, text in entries)}</dl>"


def code(text: str) -> str:
    """A piece of code within a line."""
    return f"<code>{whole_flags(text)}</code>"


def block(text: str, label: str = "code") -> str:
    """Lines of code, as they are."""
    return (
        f'<pre tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<code>{escape(text)}</code></pre>"
    )


def details(summary: str, content: str) -> str:
    """What is shown only where somebody asks for it; `content` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def whole_flags(text: str) -> str:
    """Escaped, with flags that lines are not broken in where there is room for them.

    Example:
        >>> whole_flags("python mine.py --name=a&b")
        'python mine.py <span class="word">--name=a&amp;b</span>'
    """
    parts = [escape(part) for part in re.split(r"(\(?--[^\s);]+)", text)]
    parts[1::2] = [f'<span class="word">{flag}</span>' for flag in parts[1::2]]
    return "".join(parts)


def number(value: Any, digits: int = 4) -> str:
    """A number as a table shows it; what is not finite is told.

    Example:
        >>> number(0.123456), number(None), number(12345678.0), number(7)
        ('0.1235', 'not finite', '1.235e+07', '7')
    """
    if value is None or not math.isfinite(value):
        return "not finite"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def data(value: Any, name: str) -> str:
    """JSON for a script of the page, in an element that is not shown.

    Numbers that are not finite become null, and `</` cannot end the element.

    Example:
        >>> print(data({"x": [1.0, float("nan")], "of": "</p>"}, "a"))
        <script type="application/json" id="a">{"x":[1.0,null],"of":"<\\/p>"}</script>
    """
    text = json.dumps(_finite(value), separators=(",", ":")).replace("</", "<\\/")
    text = text.replace("<!--", "<\\u0021--")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
