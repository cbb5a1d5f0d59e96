"""One page of all figures and deviations, which needs nothing from elsewhere."""

import html.parser
import json
import re
from pathlib import Path

import pytest

from l2ljax.paper import deviation_list, figure_list, web
from l2ljax.paper.deviations import NOT_MEASURED, fill, save_deviations

ROOT = Path(__file__).parents[2]


class Page(html.parser.HTMLParser):
    """What a page loads and shows: sources and links, ids, and the texts of table cells."""

    def __init__(self, page):
        super().__init__()
        self.sources, self.links, self.pictures, self.cells = [], [], {}, []
        self._section, self._in_cell = None, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found[name] for name in ("src", "srcset", "data") if name in found]
        if tag in ("iframe", "object", "embed") or (tag == "link" and found["href"] != "data:,"):
            self.sources.append(tag)  # a script that loads something has a src
        if tag == "a":
            self.links.append(found["href"])
        if tag == "h2":
            self._section = found["id"]
        if tag == "img":
            self.pictures.setdefault(self._section, []).append(found["src"])
        if tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("measured")

    def row(mean):
        interval = [mean - 0.1, mean + 0.1]
        final = {"mean": mean, "ci95": interval, "median": mean}
        return {"final_loss": final, "mean_loss": mean, "mean_loss_ci95": interval}

    run = {"title": "a run", "command": "python train.py --x=1", "seconds": 60.0}
    failed = row(1.0) | {
        "final_loss": {"mean": None, "ci95": [None, None]}, "mean_loss": None,
        "mean_loss_ci95": [None, None],
    }  # fmt: skip
    few = row(0.6) | {"final_loss": {"mean": 0.6, "ci95": [None, None]}}
    few["mean_loss_ci95"] = [None, None]
    found = {
        "about": "About.", "num_tasks": 2, "num_steps": 4, "seed": 0, "hardware": "a machine",
        "optimizers": {"adam": row(0.5)},
        "runs": {
            "reference": run | {"optimizers": {"lstm": row(0.25)}},
            "init": run | {"optimizers": {"lstm": row(0.75), "adam": failed, "nag": few}},
        },
    }  # fmt: skip
    (directory / "deviations.json").write_text(json.dumps(found))
    save_deviations(directory / "deviations.json")
    return directory


def test_deviations_are_told_by_their_numbers(measured):
    """Each run's by its name, baselines by theirs; what is not there was not measured."""
    found = json.loads((measured / "deviations.json").read_text())
    rows = [["a", "{reference} and {adam}", "{init}, {init/adam}", "{mnist/adam}"]]
    summaries = {"mnist": {"optimizers": {"adam": found["optimizers"]["adam"]}}}
    adam = "0.500 [0.400, 0.600]"
    expected = ["a", f"0.250 [0.150, 0.350] and {adam}", "0.750 [0.650, 0.850], not finite", adam]
    assert fill(rows, found, summaries) == [expected]
    assert fill([["{windows} after all"]], found, {}) == [["(not measured yet) after all"]]


def test_the_page_stands_alone(figures, made, measured):
    """Pictures inside it, each figure's numbers and command, and nothing from elsewhere."""
    rows = [["a scale", "1", "2", "3", "{init}"]]
    page = web.report(figures | {"later": {"title": "Later"}}, rows, made, measured)
    found = Page(page)
    assert {name: len(of) for name, of in found.pictures.items()} == {
        "curves": 2, "networks": 1, "updates": 2, "features": 1, "panels": 1, "deviations": 1
    }  # fmt: skip
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert set(found.links) == {f"#{name}" for name in found.pictures}
    assert "Not made yet: later" in page
    summary = json.loads((made / "curves" / "summary.json").read_text())
    assert f"{summary['optimizers']['nag']['final_loss']['mean']:#.3g}<" in page  # few: no interval
    assert "over 2 more minibatches" in page
    assert f"{summary['above']['losses']['nag']['expected_loss']['mean']:#.3g}<" in page
    assert "python train.py" in page
    assert found.cells[-5:] == ["a scale", "1", "2", "3", "0.750 [0.650, 0.850]"]


def test_the_report_of_the_repository_is_whole():
    """Every figure and every deviation is there, inside the page."""
    figures, rows = figure_list.FIGURES, deviation_list.DEVIATIONS
    results = ROOT / "docs" / "results"
    page = web.report(figures, rows, results, results / "deviations")
    found = Page(page)
    assert set(found.pictures) - {"deviations"} == set(figures)
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not re.findall(r"url\(|@import", page)
    assert {row[0] for row in rows} <= set(found.cells)
    assert not any("{" in cell for cell in found.cells)
    for name in figures:
        assert f"--figure={name}</span></code>" in page


def test_every_deviation_was_measured():
    """benchmarks/quality/deviations.py was run to its end, and the table names no other run."""
    results = ROOT / "docs" / "results"
    found = json.loads((results / "deviations" / "deviations.json").read_text())
    summaries = {p.parent.name: json.loads(p.read_text()) for p in results.glob("*/summary.json")}
    rows = fill(deviation_list.DEVIATIONS, found, summaries)
    assert not [row for row in rows if NOT_MEASURED in row[-1]]
