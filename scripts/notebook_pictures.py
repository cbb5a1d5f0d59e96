"""Draws what the pages of docs/notebooks show: executes them, keeps their figures as PNG.

    python scripts/notebook_pictures.py            # some minutes on a CPU
    python scripts/notebook_pictures.py learn      # one page

The sources of the notebooks hold no outputs. Where the documentation is built without executing
them, docs/conf.py shows these pictures below the cells that draw them.
"""

import argparse
import base64
import tempfile
from pathlib import Path

import jupytext
import nbclient

DOCS = Path(__file__).resolve().parents[1] / "docs"


def pictures(page: Path) -> list[bytes]:
    """The figures of a notebook that is executed in a new folder, in order.

    Args:
        page: its source.

    Returns:
        PNG files.
    """
    notebook = jupytext.read(page)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=1800, resources=resources).execute()
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    found = (output.get("data", {}).get("image/png") for output in outputs)
    return [base64.b64decode(picture) for picture in found if picture is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [page.stem for page in sorted(DOCS.glob("notebooks/*.md"))]
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"default: {' '.join(names)}")
    folder = DOCS / "images" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().pages or names:
        drawn = pictures(DOCS / "notebooks" / f"{name}.md")
        for number, picture in enumerate(drawn, 1):
            (folder / f"{name}-{number}.png").write_bytes(picture)
        print(f"{name}: {len(drawn)} pictures in {folder}")


if __name__ == "__main__":
    main()
