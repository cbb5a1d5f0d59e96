"""The notebooks run from an empty folder, and their sources hold no outputs."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob("docs/notebooks/*.md"))

SMALLER = {
    "num_meta_updates=300": "num_meta_updates=2",
    "num_meta_updates=60": "num_meta_updates=2",
    "num_tasks=128": "num_tasks=6",
    "num_tasks=32": "num_tasks=6",
    "num_eval_tasks=32": "num_eval_tasks=6",
    "num_tuning_tasks=8": "num_tuning_tasks=2",
    "num_tuning_tasks=16": "num_tuning_tasks=2",
    "num_tasks=64": "num_tasks=4",
    "range(200)": "range(10)",
}


def test_what_is_made_smaller_is_there():
    """So that a change of the notebooks does not silently make this test a long one."""
    text = "".join(file.read_text() for file in FILES)
    assert [many for many in SMALLER if many not in text] == []


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)  # tests/durations.py
def test_a_notebook_runs(file, tmp_path, monkeypatch):
    """In a kernel of its own, as a reader would, with compilation as in all tests."""
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    notebook = jupytext.read(file)
    assert len(notebook.cells) > 8
    for cell in notebook.cells:  # as few as show that all runs
        for many, few in SMALLER.items():
            cell.source = cell.source.replace(many, few)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources=resources
    ).execute()
    kinds = [set(o.get("data", {})) for c in notebook.cells for o in c.get("outputs", ())]
    assert any("image/png" in kind for kind in kinds)
    shown = [o for c in notebook.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"]
    assert not shown, shown


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_page_has_a_picture_below_each_cell_that_draws(file):
    """As many as cells draw, each a small PNG with the page's own words; `plain` has none."""
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    folder = ROOT / "docs" / "images" / "notebooks"
    text = file.read_text()
    page = conf["with_pictures"](text, file.stem, folder)
    cells = re.findall(r"(?:plt\.show|\.plot)\(\)\n```\n(.*)\n(.*)\n", page)
    assert len(cells) == text.count("\nWhat to see:") == len(list(folder.glob(f"{file.stem}-*")))
    for number, (blank, image) in enumerate(cells, 1):
        told, path = re.fullmatch(r"!\[What the cell above draws: (.+)\]\((.*)\)", image).groups()
        assert blank == ""
        assert " ".join(text.split()).replace("`", " ").count(told) == 1
        picture = (file.parent / path).resolve()
        assert picture == folder / f"{file.stem}-{number}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 100_000
    assert conf["with_pictures"](text, "plain", folder) == text


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_sources_are_text(file):
    """No output is in git, and every figure is followed by what to see in it."""
    text = file.read_text()
    assert "format_name: myst" in text
    assert "image/png" not in text
    assert "WHAT" not in text
    assert text.count("plt.show()") + text.count(".plot()") == text.count("\nWhat to see:")
