"""docs/commands.md against the commands themselves."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from photoproof.command_line.cli import GROUP
from pipelines.commands.reference import help_texts, reference_page

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text() == reference_page(), (
        "make it again: .venv/bin/python -m pipelines.commands.reference > docs/commands.md"
    )


def test_every_command_of_the_entry_points_is_on_the_page():
    headings = re.findall(r"^##+ photoproof (\S+)$", PAGE.read_text(), re.MULTILINE)
    assert {"verify", "encode", "status", *(point.name for point in entry_points(group=GROUP))} <= set(headings)


def test_every_command_says_what_it_does_and_every_option_what_it_is_for():
    for path, text in help_texts():
        assert re.search(r"^Usage: photoproof.*?\n\n  \w", text, re.DOTALL), f"{path} has no docstring"
        options = text.partition("\nOptions:\n")[2].partition("\n\n")[0]
        bare = re.findall(r"^  (-\S+(?:, --\S+)?(?: <\w+>)?)$", options, re.MULTILINE)
        assert bare == [], f"{path}: options without help"


@pytest.mark.parametrize(
    "settings",
    [
        {"COLUMNS": "40", "LINES": "10"},
        {"FORCE_COLOR": "1", "TERM": "xterm-256color"},
        {"PHOTOPROOF_SERVER": "grpc://elsewhere:1", "PHOTOPROOF_TOKEN": "secret"},
    ],
    ids=["a narrow terminal", "colours", "settings"],
)
def test_the_page_is_the_same_on_every_terminal(monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert reference_page() == PAGE.read_text()
