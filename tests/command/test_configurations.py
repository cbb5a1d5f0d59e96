"""Configurations as `l2ljax train` and `init-config` take them, and the flags that change them."""

import pytest

from l2ljax.command import bundled_config, config_names, main
from l2ljax.command.configs import config_path, make_config
from l2ljax.command.init_config import written_out
from l2ljax.command.overrides import split_overrides, take_initial, with_initial, with_overrides
from l2ljax.experiments import DEFAULTS


@pytest.mark.parametrize("name", config_names())
def test_a_printed_configuration_is_the_bundled_one(name, capsys, tmp_path, monkeypatch):
    """As a file elsewhere, without its neighbours; every field is there to be seen."""
    monkeypatch.chdir(tmp_path)
    assert main(["init-config", name]) == 0
    text = capsys.readouterr().out
    (tmp_path / "mine.py").write_text(text)
    config = bundled_config(name).to_dict()
    assert make_config("mine.py").to_dict() == config
    if "bundled_config(" not in text:  # which is made from another, as it says
        hidden = [f for f in config if f'"{f}": ' not in text and f"config.{f} = " not in text]
        assert hidden == []
        assert f'"name": "{config["estimator"]["name"]}"' in text


def test_defaults_are_written_out_as_they_are():
    """Whole, in parts, and nothing else of a text is touched."""
    text = "config = ConfigDict(DEFAULTS)\nrest = OTHER_DEFAULTS\n"
    made = written_out(text + 'part = DEFAULTS["estimator"] | {"coordinate_share": 0.5}\n')
    values = {"ConfigDict": dict, "OTHER_DEFAULTS": None}
    exec(made, values)
    assert values["config"] == DEFAULTS
    assert values["part"] == DEFAULTS["estimator"] | {"coordinate_share": 0.5}


def test_where_configurations_come_from(tmp_path, monkeypatch):
    """A name, a path, functions in modules and files, a word for get_config; a dict will do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_configs.py").write_text(
        "def get_config(word='none'):\n    return {'word': word}\n"
        "def small():\n    return {'word': 'small'}\n"
    )
    for source, word in {
        "some_configs.py": "none",
        f"{tmp_path}/some_configs.py": "none",
        "some_configs.py:small": "small",
        "some_configs.py:given": "given",
        "some_configs:small": "small",
    }.items():
        assert make_config(source).word == word
    with pytest.raises(ValueError, match="has no attribute 'other'"):
        make_config("some_configs:other")
    by_path = make_config(str(config_path("demo")))
    assert by_path.to_dict() == bundled_config("demo").to_dict()


def test_flags_change_fields_and_keep_their_types():
    """As literals; a field without a value takes any; inner fields are left as they are."""
    words = [
        "--config.num_tasks", "7", "--config.task.dim=3", "--config.initial=lstm-mnist",
        "--config.meta_optimizer.learning_rate=1", "--config.optimizer.hidden_sizes=(4,)",
    ]  # fmt: skip
    rest, fields = split_overrides(["demo", *words, "--quiet"])
    assert rest == ["demo", "--quiet"]
    before, after = bundled_config("demo").to_dict(), with_overrides(bundled_config("demo"), fields)
    assert after["num_tasks"] == 7
    assert after["task"] == before["task"] | {"dim": 3}
    assert after["initial"] == "lstm-mnist"
    rate = after["meta_optimizer"]["learning_rate"]
    assert (rate, type(rate)) == (1.0, float)
    assert after["optimizer"]["hidden_sizes"] == (4,)
    assert after["evaluation"] == before["evaluation"]
    assert with_overrides(bundled_config("demo"), []) == before
    with pytest.raises(ValueError, match="num_tusks"):
        with_overrides(bundled_config("demo"), ["--config.num_tusks=3"])


def test_flags_for_what_to_start_from():
    """A string or a dict of them, whatever the configuration's file has; other flags stay."""
    words = ["--config.initial.conv=a", "--config.initial.fc=b", "--config.seed=1"]
    assert take_initial(words) == (["--config.seed=1"], {"conv": "a", "fc": "b"})
    assert take_initial(["--config.initials=3"]) == (["--config.initials=3"], {})
    both = {"conv": "a", "fc": "b"}
    for before, given, after in [
        (None, {}, None),
        (None, {"": "a"}, "a"),
        (both, {"": "c"}, "c"),
        (None, {"conv": "c"}, {"conv": "c"}),
        (both, {"conv": "c"}, {"conv": "c", "fc": "b"}),
        (None, {"": '{"conv": "a", "fc": "b"}'}, both),
        ("a", {"": "none"}, None),
    ]:
        assert with_initial({"initial": before}, given) == {"initial": after}
    with pytest.raises(ValueError, match="needs a bundled optimizer's name or a file"):
        take_initial(["--config.initial="])
