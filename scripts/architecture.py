r"""Draws the package's wings and their imports, from the code itself.

python scripts/architecture.py            # writes docs/architecture.svg
python scripts/architecture.py --check    # exits 1 if that picture is no longer true
"""

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "l2ljax"
PICTURE = ROOT / "docs" / "architecture.svg"
DOORS = ("__init__.py", "__main__.py")
SVG = "http://www.w3.org/2000/svg"
BOX, GAP, HEIGHT, ROW = 176, 18, 46, 88


def rooms() -> dict[str, str]:
    """Top-level modules and wings, each with the first sentence of its docstring."""
    found = {}
    for path in sorted(PACKAGE.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.exists() and path.name not in DOORS:
            text = ast.get_docstring(ast.parse(file.read_text())) or ""
            found[path.stem] = text.split("\n")[0].split(":")[0].rstrip(".")
    return found


def imports() -> dict[str, set[str]]:
    """Room -> the other rooms that its files import."""
    names = rooms()
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own not in found:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("l2ljax"):
                inner = "." in (node.module or "")
                modules = [node.module] if inner else [f"l2ljax.{a.name}" for a in node.names]
                found[own] |= {str(m).split(".")[1] for m in modules} & set(names)
    return {name: others - {name} for name, others in found.items()}


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """How high each room lies: one above the highest that it imports."""
    height: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((of(other) for other in graph[name]), default=-1)
        return height[name]

    for name in graph:
        of(name)
    return height


def needed(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that are not implied by others, so that the picture stays readable."""

    def reach(name: str) -> set[str]:
        return graph[name].union(*(reach(other) for other in graph[name]))

    return [
        (name, other)
        for name in sorted(graph)
        for other in sorted(graph[name])
        if not any(other in reach(third) for third in graph[name] - {other})
    ]


def picture() -> str:
    """The drawing as SVG: importers above, what they import below."""
    graph, texts = imports(), rooms()
    height = floors(graph)
    rows = [sorted(n for n in graph if height[n] == f) for f in range(max(height.values()) + 1)]
    width = max(map(len, rows)) * (BOX + GAP) + GAP
    total = len(rows) * ROW + 10
    place = {}
    for floor, names in enumerate(rows):
        left = (width - len(names) * (BOX + GAP) + GAP) / 2
        for i, name in enumerate(names):
            place[name] = (left + i * (BOX + GAP), total - (floor + 1) * ROW + ROW - HEIGHT - 10)
    label = "Wings of l2ljax and their imports"
    head = f'<svg xmlns="{SVG}" viewBox="0 0 {width:g} {total:g}" role="img" aria-label="{label}">'
    lines = [head, f'<rect width="{width:g}" height="{total:g}" fill="#ffffff"/>']
    lines += [_arrow(place[name], place[other]) for name, other in needed(graph)]
    lines += [_box(name, texts[name], *place[name]) for name in place]
    return "\n".join([*lines, "</svg>", ""])


def _arrow(above: tuple[float, float], below: tuple[float, float]) -> str:
    x1, y1, x2, y2 = above[0] + BOX / 2, above[1] + HEIGHT, below[0] + BOX / 2, below[1]
    bend = (y2 - y1) / 2
    path = f"M{x1:g},{y1:g} C{x1:g},{y1 + bend:g} {x2:g},{y2 - bend:g} {x2:g},{y2:g}"
    return f'<path d="{path}" fill="none" stroke="#8aa0b8"/>'


def _box(name: str, text: str, x: float, y: float) -> str:
    wing = (PACKAGE / name).is_dir()
    shape = f'x="{x:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="6"'
    fill = "#dcebfa" if wing else "#f3f3ee"
    short = text if len(text) <= 30 else text[:28].rstrip() + "…"
    return "\n".join(
        [
            f'<rect {shape} fill="{fill}" stroke="#5b6b7b"/>',
            _text(x, y + 19, 14, "#12202e", name + "/" * wing),
            _text(x, y + 36, 10.5, "#3c4a57", short),
        ]
    )


def _text(x: float, y: float, size: float, colour: str, text: str) -> str:
    where = f'x="{x + BOX / 2:g}" y="{y:g}" font-size="{size:g}" font-family="sans-serif"'
    return f'<text {where} text-anchor="middle" fill="{colour}">{escape(text)}</text>'


def main() -> None:
    """Writes the picture, or with `--check` compares it."""
    drawn = picture()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(drawn)
    elif not PICTURE.exists() or PICTURE.read_text() != drawn:
        sys.exit(f"{PICTURE.name} is out of date; run python scripts/architecture.py")


if __name__ == "__main__":
    main()
