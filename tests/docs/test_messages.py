"""Every message of docs/messages.md is what the library says; "..." stands for a list."""

import re
from pathlib import Path

import message_cases
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
MESSAGES = [" ".join(m.split()) for m in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S)]


def test_each_message_has_its_case():
    assert len(MESSAGES) == len(message_cases.CASES) >= 20


@pytest.mark.parametrize(
    ("message", "case"), list(zip(MESSAGES, message_cases.CASES, strict=False))
)
def test_the_message_is_as_printed(message, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Exception, SystemExit)) as caught:
        case()
    told = " ".join(str(caught.value).split())
    if caught.type is not SystemExit:  # of a command it is the line that is printed
        told = f"{caught.type.__name__}: {told}"
    assert re.fullmatch(re.escape(message).replace(r"\.\.\.", ".*"), told), told
