"""The board: cells that resume, rates that are tuned, tables from known ratios."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import Task
from l2ljax.experiments import board, board_page, board_pictures
from l2ljax.experiments.contestants import HAND_MADE, Contestant
from l2ljax.tasks.suite import ENTRIES, Entry

PARABOLA = Task(
    init=lambda _, key: jax.random.normal(key, (3,)), loss=lambda theta, _: jnp.sum(theta**2)
)
ENTRY = Entry("held_out", lambda: PARABOLA)
SGD = Contestant("tuned", lambda rate, num_steps: optax.sgd(rate), (0.01, 0.5, 1.5))
CELL = board.Cell("parabola", "sgd", 10, num_tasks=3)


def test_a_cell_finds_the_rate_that_solves_a_parabola_in_one_step():
    """theta - 0.5 * 2 theta = 0; 0.01 leaves 0.98^20 after ten steps."""
    found = board.run_cell(CELL, PARABOLA, ENTRY, SGD)
    assert found["learning_rate"] == 0.5
    assert found["final_loss"] == [0.0] * 3
    assert (found["diverged"], found["rate_at_edge"]) == (0, False)
    slow = board.run_cell(CELL, PARABOLA, ENTRY, SGD, rates=(0.01,))
    np.testing.assert_allclose(slow["expected_loss"], np.array(slow["start"]) * 0.98**20, rtol=1e-4)


def test_what_ends_above_its_start_has_diverged():
    found = board.run_cell(CELL, PARABOLA, ENTRY, SGD, rates=(1.5,))
    assert found["diverged"] == 3


def test_all_optimizers_meet_the_same_optimizees():
    other = dataclasses.replace(CELL, optimizer="adam")
    starts = [
        board.run_cell(cell, PARABOLA, ENTRY, maker)["start"]
        for cell, maker in ((CELL, SGD), (other, HAND_MADE["adam-1e-3"]))
    ]
    assert starts[0] == starts[1]


def test_a_board_goes_on_where_it_was_cut(tmp_path):
    """A cell that is there is not run again, whatever it holds."""
    said = []
    run = lambda cells: board.run_board(  # noqa: E731
        cells, {"parabola": ENTRY}, {"sgd": SGD}, tmp_path, say=said.append
    )
    run([CELL])
    CELL.path(tmp_path).write_text(CELL.path(tmp_path).read_text().replace("0.5", "0.25"))
    run([CELL, dataclasses.replace(CELL, num_steps=20)])
    assert len(said) == 2
    cells = board_page.read_cells(tmp_path)
    assert cells[10, "parabola", "sgd"]["learning_rate"] == 0.25
    assert cells[20, "parabola", "sgd"]["learning_rate"] == 0.5
    for damage in ("", "[]", "{}", CELL.path(tmp_path).read_text()[:20]):
        CELL.path(tmp_path).write_text(damage)
        with pytest.raises(ValueError, match=r"sgd\.json is damaged .* remove it"):
            board_page.read_cells(tmp_path)


def test_cells_of_other_optimizees_are_not_taken_for_these(tmp_path):
    """They are refused before anything is run, and never compared; a folder of their own helps."""
    run = lambda cells, folder: board.run_board(  # noqa: E731
        cells, {"parabola": ENTRY}, {"sgd": SGD}, folder, say=said.append
    )
    said = []
    run([CELL], tmp_path / "three")
    for other in (dataclasses.replace(CELL, num_tasks=4), dataclasses.replace(CELL, seed=1)):
        fresh = dataclasses.replace(other, num_steps=5)
        with pytest.raises(
            ValueError, match=r"3 optimizees with seed 0, and .* folder of their own"
        ):
            run([fresh, other], tmp_path / "three")
        assert not fresh.path(tmp_path / "three").exists()
        run([other], tmp_path / f"{other.num_tasks}-{other.seed}")
    run([dataclasses.replace(CELL, num_steps=20)], tmp_path / "three")
    assert len(said) == 4
    of_four = CELL.path(tmp_path / "4-0").read_text().replace('"sgd"', '"adam"')
    CELL.path(tmp_path / "three").with_name("adam.json").write_text(of_four)
    with pytest.raises(ValueError, match="3 optimizees with seed 0, 4 optimizees with seed 0"):
        board_page.read_cells(tmp_path / "three")


def test_the_folder_of_a_board_is_looked_at_before_anything_is_run(tmp_path):
    """Cells under other names than those asked for could not be drawn with them either."""
    board_page.check_folder(tmp_path / "none", 3, 0)
    board.run_board([CELL], {"parabola": ENTRY}, {"sgd": SGD}, tmp_path, say=lambda _: None)
    board_page.check_folder(tmp_path, 3, 0)
    for number, seed in ((4, 0), (3, 1)):
        with pytest.raises(ValueError, match=r"3 optimizees with seed 0, and .* folder of their"):
            board_page.check_folder(tmp_path, number, seed)


def test_a_cell_made_without_the_envelope_is_made_anew(tmp_path):
    """Losses end at 0, where the envelope is after 40 steps: four times as fast as its ten."""
    said, entry = [], ENTRY._replace(envelope="Parabola")
    envelopes = {"Parabola": {"steps": [0, 40], "loss": [100.0, 99.0]}}
    for given, runs in ((None, 1), (envelopes, 2), (envelopes, 2), (None, 2)):
        board.run_board(
            [CELL], {"parabola": entry}, {"sgd": SGD}, tmp_path, envelopes=given, say=said.append
        )
        assert len(said) == runs
    assert board.read_cell(CELL.path(tmp_path))["speed_up"] == [4.0] * 3
    short = dataclasses.replace(CELL, num_steps=5)  # shorter than the published evaluations
    found = board.run_cell(short, PARABOLA, entry, SGD, envelope=envelopes["Parabola"])
    assert "speed_up" not in found


def test_a_speed_up_is_of_all_tasks_with_an_envelope_or_of_none():
    held_out = [n for n, entry in ENTRIES.items() if entry.envelope and entry.split == "held_out"]
    some = [
        cell(name, optimizer, "learned", [0.1] * 4) | {"speed_up": [2.0] * 4}
        for name in held_out[:2]
        for optimizer in ("adam", "whole", "half")
    ]
    del some[-1]["speed_up"]
    cells = {(100, c["task"], c["optimizer"]): c for c in some}
    found = {row["optimizer"]: row["speed_up"] for row in board_page.rows(cells, 100, "held_out")}
    assert found == {"adam": 2.0, "whole": 2.0, "half": None}


def test_a_curve_counts_what_is_lost_as_the_worst():
    """Of eight that are 1 to 8 and three of them lost: the median stands, the upper quartile not.

    Seven lost of eight: nothing is left of the median, whatever the one that is left does.
    """
    losses = np.arange(1.0, 9.0)[:, None] * np.ones((8, 3))
    losses[5:, 1:] = np.nan
    found = board._thinned(losses)
    assert (found["low"][-1], found["median"][-1], found["high"][-1]) == (2.75, 4.5, None)
    losses[1:, 1:] = np.inf
    assert board._thinned(losses)["median"][-1] is None


@pytest.mark.parametrize("number", [3, 5, 9])
def test_a_quantile_that_is_a_run_needs_no_neighbour(number):
    """One lost of an odd number: the median is the middle run, as NumPy has it of none lost."""
    losses = np.arange(1.0, number + 1)[:, None] * np.ones(3)
    whole = board._thinned(losses)
    losses[-1, 1:] = np.nan
    assert board._thinned(losses)["median"] == whole["median"] == [(number + 1) / 2]
    assert whole["low"][-1] == np.percentile(np.arange(1.0, number + 1), 25)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_shortest_runs_have_a_curve(num_steps):
    found = board._thinned(np.ones((2, num_steps + 1)))
    assert found["median"]
    assert set(found["median"]) == {1.0}


def cell(task, optimizer, group, final):
    return {
        "task": task,
        "optimizer": optimizer,
        "group": group,
        "num_steps": 100,
        "start": [1.0] * len(final),
        "final_loss": final,
        "expected_loss": [None if x is None else x / 2 for x in final],
        "diverged": sum(x is None for x in final),
        "curve": {
            "steps": [1.0, 10.0],
            "median": [1.0, 0.5],
            "low": [1.0, 0.5],
            "high": [1.0, 0.5],
        },
    }


CELLS = {
    (100, c["task"], c["optimizer"]): c
    for c in (
        cell("rosenbrock", "adam", "tuned", [0.1] * 4),
        cell("rosenbrock", "ours", "learned", [0.05] * 4),
        cell("poisson", "adam", "tuned", [0.2] * 4),
        cell("poisson", "ours", "learned", [0.4, 0.4, 0.4, None]),
        cell("quadratic", "adam", "tuned", [0.2] * 4),
    )
}


def test_rows_are_ratios_to_tuned_adam():
    """Ratios 0.5 x 4 and 2, 2, 2, 100: the middle half of the eight is 0.5, 0.5, 2, 2."""
    ours, adam = sorted(board_page.rows(CELLS, 100, "held_out"), key=lambda r: r["optimizer"])[::-1]
    assert ours["iqm"] == pytest.approx(1.25)
    assert (ours["won"], ours["tasks"], ours["diverged"]) == (1, 2, 1)
    assert (adam["iqm"], adam["won"]) == (1.0, 2)


def test_a_table_says_how_far_others_are_above_the_default():
    """Twice its ratios of 1: by 1, whichever runs are drawn; not where a task is missing."""
    some = [
        cell(task, name, group, [x] * 4)
        for task in ("rosenbrock", "poisson")
        for name, group, x in (
            ("adam", "tuned", 0.1),
            (board_page.FIRST, "learned", 0.1),
            ("other", "learned", 0.2),
        )
    ]
    cells = {(100, c["task"], c["optimizer"]): c for c in some}
    table = {row["optimizer"]: row for row in board_page.rows(cells, 100, "held_out")}
    np.testing.assert_allclose(table["other"]["above"], [1.0, 1.0, 1.0])
    assert table[board_page.FIRST]["above"] is None
    assert "| 1.000 (1.000 ... 1.000) |" in board_page.markdown([table["other"]])
    del cells[100, "poisson", "other"]
    table = {row["optimizer"]: row for row in board_page.rows(cells, 100, "held_out")}
    assert table["other"]["above"] is None


def test_tables_and_pictures(tmp_path):
    page = board_page.page(CELLS)
    assert "## 100 steps, held-out tasks, untuned" in page
    assert "| ours | 2 | 1.250 |" in page
    assert "| rosenbrock | 0.5 |" in page
    assert all(path.stat().st_size > 5_000 for path in board_pictures.draw(CELLS, tmp_path))


def test_tuned_adam_is_in_every_picture():
    """However many end below it: of three the best two beside it, in their order."""
    ends = {"a": 0.3, "b": 0.1, "c": 0.2, "adam": 0.4}
    some = [cell("poisson", name, "learned", [x] * 4) for name, x in ends.items()]
    cells = {(100, c["task"], c["optimizer"]): c for c in some}
    found = board_pictures.shown(board_page.rows(cells, 100, "held_out"), 3)
    assert [row["optimizer"] for row in found] == ["b", "c", "adam"]


def test_without_tuned_adam_there_is_nothing_to_compare_and_the_page_says_what_to_run(tmp_path):
    """The advice is right: with Adam's cells there is a table, and with one length's that one."""
    alone = {key: value for key, value in CELLS.items() if key[2] != "adam"}
    page = board_page.page(alone)
    assert "Nothing to compare at 100 steps" in page
    assert "--optimizers=adam --steps=100 too" in page
    assert board_pictures.draw(alone, tmp_path) == []
    longer = {(200, *key[1:]): {**value, "num_steps": 200} for key, value in CELLS.items()}
    assert "\n## 200 steps" in board_page.page(alone | longer)
    drawn = {path.name for path in board_pictures.draw(alone | longer, tmp_path)}
    assert drawn == {"profile-200.png", "curves-200.png", "curves-train-200.png"}


def test_who_has_not_met_every_task_is_not_ranked():
    partial = {key: value for key, value in CELLS.items() if key[1:] != ("poisson", "ours")}
    page = board_page.page(partial)
    assert "| ours |" not in page
    assert "Not ranked, with cells of fewer than 2 tasks: ours (1)." in page
