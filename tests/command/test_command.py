"""The command line: what each command takes, says and returns. Nothing is trained here."""

import importlib
import json
import re
import shlex
from pathlib import Path

import chex
import jax
import optax
import pytest

import l2ljax
from l2ljax.command import inspection, listing, main
from l2ljax.command.entry import COMMANDS
from l2ljax.command.overrides import split_overrides

ROOT = Path(l2ljax.__file__).parents[1]
NAMES = l2ljax.pretrained_names()


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command line in an empty folder; its exit code, and what it says."""
    monkeypatch.chdir(tmp_path)
    for module in ("train", "reproducing", "boarding"):  # the tests' process is set up
        monkeypatch.setattr(f"l2ljax.command.{module}.set_up", lambda: None)

    def run(*words):
        code = main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def modules():
    return {
        name: importlib.import_module(f"l2ljax.command.{command.module}")
        for name, command in COMMANDS.items()
    }


def test_help_and_version(run):
    """Every command is named, has a help of its own, and is told what was meant."""
    code, usage, _ = run("--help")
    assert code == 0
    assert all(f"\n  {name} " in usage for name in COMMANDS)
    for name in COMMANDS:
        code, text, _ = run(name, "--help")
        assert code == 0
        assert f"usage: l2ljax {name}" in text
        assert "examples:" in text
        assert run("help", name)[1] == text
    assert run("--version") == (0, f"l2ljax {l2ljax.__version__}\n", "")
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == usage


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_command_lines(name, monkeypatch):
    """Each is one of its command, with words that the command takes."""
    module = modules()[name]
    lines = [line.strip() for line in module.HELP.partition("examples:\n")[2].splitlines()]
    assert any(line.startswith(f"l2ljax {name}") for line in lines)
    for line in lines:
        first, command, *words = shlex.split(line.partition(" > ")[0])
        assert first == "l2ljax"
        modules()[command].parser().read(split_overrides(words)[0])


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an installed package alone")
def test_the_page_has_every_command_and_only_command_lines():
    """docs/command-line.md: a section each, and in its blocks what the parsers take."""
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(COMMANDS)
    lines = re.findall(r"^l2ljax (.*)$", page, re.MULTILINE)
    assert len(lines) > len(COMMANDS)
    for line in lines:
        command, *words = shlex.split(line.partition(" > ")[0])
        modules()[command].parser().read(split_overrides(words)[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tran", "there is no command 'tran' (did you mean train?)"),
        ("--quiet train", "there is no command '--quiet'"),
        ("list optimisers", "'optimisers' (did you mean optimizers?)"),
        ("list --jsn", "there is no '--jsn' here (did you mean --json?)"),
        ("list tasks configs", "'configs' is one word too many"),
        ("inspect", "required: WEIGHTS"),
        ("inspect lstm-mnits", "(did you mean lstm-mnist?)"),
        ("inspect gone.safetensors", "gone.safetensors"),
        ("init-config dmeo", "'dmeo' (did you mean demo?)"),
        ("export lstm-mnits x.safetensors", "(did you mean lstm-mnist?)"),
        ("export lstm-mnist x.npz", "must end in .safetensors"),
        ("export . x.safetensors", "no trained weights and no checkpoint"),
        ("train demo", "required: --workdir"),
        ("train demo --work_dir=x", "'--work_dir' here (did you mean --workdir?)"),
        ("train --workdir=x", "takes one CONFIG"),
        ("train demo --config=mnist --workdir=x", "two CONFIGs"),
        ("train dmeo --workdir=x", "(did you mean demo?)"),
        ("train gone.py --workdir=x", "There is no file gone.py"),
        ("train configs/demo.py --workdir=x", "the bundled one is called 'demo'"),
        ("train gone:config --workdir=x", "not at hand"),
        ("train math:pi --workdir=x", "must be a function"),
        ("train os:getcwd --workdir=x", "must be a ConfigDict or a dict"),
        ("train math:sqrt --workdir=x", "failed (TypeError"),
        ("train demo --workdir=x --devices=0", "at least 1, got '0'"),
        ("train demo --workdir=x --config.num_tusks=3", "num_tusks"),
        ("train demo --workdir=x --config.num_tasks=many", "does not fit"),
        ("train demo --workdir=x --config.initial=", "needs a bundled optimizer's name"),
        ("train demo --workdir=x --config.task.name=quadratc", "(did you mean quadratic?)"),
        ("evaluate", "one of the arguments --workdir --weights is required"),
        ("evaluate --workdir=x --weights=y", "not allowed with"),
        ("evaluate --weights=lstm-mnist", "--weights needs --output"),
        ("evaluate --workdir=x --task={", "--task must be JSON"),
        ("evaluate --workdir=x --beside=other", "--beside must be NAME=WEIGHTS, got 'other'"),
        ("evaluate --workdir=x --beside=a=b --beside=a=c", "twice"),
        ("evaluate --workdir=x --num_steps=0", "at least 1"),
        ("report", "required: WORKDIR"),
        ("report gone", "gone is not there"),
        ("report .", "holds no run"),
        ("report . --out=x.png", "must end in .html, got 'x.png'"),
        ("plot .", "required: --out"),
        ("reproduce", "one of the arguments --figure --all is required"),
        ("reproduce --all --figure=quadratic", "not allowed with"),
        ("reproduce --figure=mnist-40-unit", "(did you mean mnist-40-units?)"),
        ("plot . --out=x.html", "ends in .png, .svg, .pdf"),
        ("plot gone --out=x.png", "gone is not there"),
        ("board --tasks=rosenbrok", "no task 'rosenbrok' (did you mean rosenbrock?)"),
        ("board --optimizers=adm", "no optimizer 'adm' (did you mean adam?)"),
        ("board --steps=0", "at least 1, got '0'"),
        ("board --draw_only", "There are no cells in runs/board"),
        ("board --draw_only --tasks=poisson", "so --tasks would be without effect"),
        ("board --tasks= --steps=100", "argument --tasks: names none"),
        ("board --steps=,", "argument --steps: names none"),
        ("board --draw_only --seed=0", "so --seed would be without effect"),
        ("board --draw_only --num_tasks=8", "so --num_tasks would be without effect"),
        ("board --draw_only --quick", "so --quick would be without effect"),
        ("board --steps=10000 --tasks=poisson,neural-art-64", "neural-art-64 of --tasks is none"),
        ("board --published=gone", "--published=gone is no directory"),
    ],
)
def test_what_is_mistyped_ends_with_one_sentence(words, said, run, tmp_path):
    """Exit code 2, the culprit and what was meant on standard error; nothing is written."""
    code, out, err = run(*shlex.split(words))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.removesuffix("(L2LJAX_TRACEBACK=1 shows where.)\n").splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "board --cells=taken/cells",
        "board --out=taken",
        "reproduce --all --output=taken",
        "evaluate --weights=lstm-mnist --output=taken/x",
    ],
)
def test_where_nothing_can_be_written_nothing_is_begun(words, run, tmp_path):
    (tmp_path / "taken").write_text("a file")
    code, out, err = run(*shlex.split(words))
    assert (code, out) == (2, "")
    assert "taken is a file; give another directory." in err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_board_is_written_as_a_page_with_a_title(run, tmp_path):
    """One task, two optimizers: tables, figures and pictures, and again from the cells alone."""
    asked = ("--tasks=wine-softmax", "--optimizers=adam,adam-1e-3", "--steps=20", "--num_tasks=2")
    code, _, err = run("board", *asked)
    assert (code, err) == (0, "")
    results = tmp_path / "runs/board/results"
    title, *rest = (results / "tables.md").read_text().splitlines()
    assert title == "# The board's tables, 2 runs a task"
    assert all(line.startswith("## ") for line in rest if line.startswith("#"))
    assert len(json.loads((results / "board.json").read_text())) == 2
    run("board", "--draw_only", "--out=again")
    assert (tmp_path / "again/tables.md").read_text() == (results / "tables.md").read_text()


def test_lists_are_those_of_the_library(run, monkeypatch):
    """By name, in text and as JSON, and nothing is built for it."""

    def refuse(*args, **kwargs):
        raise AssertionError("built")

    there = {
        "optimizers": NAMES,
        "rules": sorted(l2ljax.optimizers.BUILDERS),
        "tasks": sorted(l2ljax.tasks.BUILDERS),
        "estimators": sorted(l2ljax.estimators.BUILDERS),
        "configs": sorted(path.stem for path in (ROOT / "configs").glob("*.py")),
    }
    monkeypatch.setattr("l2ljax.bundled.files.build", refuse)
    monkeypatch.setattr("l2ljax.command.configs.find", refuse)
    monkeypatch.setattr(jax, "eval_shape", refuse)
    code, text, err = run("list", "--json")
    found = json.loads(text)
    assert (code, err) == (0, "")
    assert {name: [row["name"] for row in rows] for name, rows in found.items()} == there
    assert all(row["about"] for rows in found.values() for row in rows)
    _, text, _ = run("list")
    for section, names in there.items():
        assert json.loads(run("list", section, "--json")[1]) == found[section]
        assert f"{section}:\n" in text
        assert all(f"\n  {name} " in text for name in names)


def test_export_copies_and_keeps_what_is_there(run, tmp_path):
    """Byte for byte from a name, a file, and a finished run; no file is replaced unasked."""
    code, out, _ = run("export", "lstm-mnist", "a.safetensors")
    first = (tmp_path / "a.safetensors").read_bytes()
    assert code == 0
    assert "Wrote a.safetensors" in out
    assert first == (ROOT / "l2ljax/bundled/weights/lstm-mnist.safetensors").read_bytes()
    code, _, err = run("export", "lstm-quadratic", "a.safetensors")
    assert code == 2
    assert "--force" in err
    assert (tmp_path / "a.safetensors").read_bytes() == first
    assert run("export", "lstm-quadratic", "a.safetensors", "--force", "--quiet") == (0, "", "")
    assert (tmp_path / "a.safetensors").read_bytes() != first
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "meta_params.safetensors").write_bytes(first)
    (tmp_path / "adapted").mkdir()
    (tmp_path / "adapted" / "adapted.safetensors").write_bytes(first)
    for source in ("run", "run/meta_params.safetensors", "adapted"):
        assert run("export", source, "b.safetensors", "--force")[0] == 0
        assert (tmp_path / "b.safetensors").read_bytes() == first
        (tmp_path / "b.safetensors").unlink()


@pytest.mark.parametrize(
    ("end", "code", "said"), [('"no data here"', 2, "no data here\n"), ("3", 3, ""), ("", 0, "")]
)
def test_a_configuration_that_ends_the_process_is_heard(run, tmp_path, end, code, said):
    """As by Python itself, a sentence is printed, and is no success."""
    (tmp_path / "mine.py").write_text(f"raise SystemExit({end})\n")
    assert run("train", "mine.py", "--workdir=run") == (code, "", said)


@pytest.mark.slow
def test_export_of_a_run_that_left_checkpoints_alone(run, tmp_path):
    """Its best weights so far, which load as any."""
    optimizer = l2ljax.lstm(hidden_sizes=(2,))
    estimator = l2ljax.truncated_bptt(
        l2ljax.tasks.quadratic(dim=2), optimizer, num_tasks=2, episode_length=2, unroll_length=2
    )
    result = l2ljax.meta_train(
        estimator,
        optax.adam(1e-2),
        optimizer.init(jax.random.key(0)),
        jax.random.key(1),
        num_meta_updates=2,
        workdir=tmp_path / "run",
    )
    code, out, err = run("export", "run", "w.safetensors")
    assert code == 0, err
    assert "as of meta-update 2" in out
    loaded, phi, _ = l2ljax.load_optimizer("w.safetensors")
    assert loaded is optimizer
    chex.assert_trees_all_equal(phi, result.meta_params)


def test_the_table_the_list_and_a_card_say_the_same_of_a_training():
    """What a card says goes before the configuration, which may name a validation's task alone."""
    table = {row["name"]: row for row in l2ljax.pretrained_table().rows}
    for row in listing.optimizers():
        shown = inspection.card(row["name"])["trained_on"]
        assert row["trained_on"] == table[row["name"]]["trained_on"] == shown
        assert row["steps"] == table[row["name"]]["steps"]
    assert table["nominal-suite"]["trained_on"] == "17 training tasks of the suite"
    assert table["nominal-suite"]["steps"] == "100 to 10,000"
