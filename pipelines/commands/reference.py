"""Every command with its help text, as a page of the documentation.

python -m pipelines.commands.reference > docs/commands.md
"""

from collections.abc import Iterator
from typing import Any

import typer

from photoproof.command_line.cli import app

WIDTH = 100

INTRODUCTION = """# Commands

What `photoproof COMMAND --help` prints. `verify`, `encode` and `status` come with the client (serving/client/README.md
has examples), the others with the application. This page is made from the commands, and a test compares it with them;
after a change: `.venv/bin/python -m pipelines.commands.reference > docs/commands.md`.
"""


def reference_page() -> str:
    """The whole page: each command and each of its sub-commands under a heading of its own."""
    sections = [f"{'#' * max(2, path.count(' ') + 1)} {path}\n\n```\n{text}\n```\n" for path, text in help_texts()]
    return "\n".join([INTRODUCTION, *sections])


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command's path, such as "photoproof data log", and its help text, the same on every terminal."""
    yield from _help_texts(typer.main.get_command(app), "photoproof", None)


def _help_texts(command: Any, name: str, parent: typer.Context | None) -> Iterator[tuple[str, str]]:
    command.rich_markup_mode = None  # plain text: no boxes, no colours
    context = typer.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, text
    if hasattr(command, "list_commands"):
        for child in command.list_commands(context):
            yield from _help_texts(command.resolve_command(context, [child])[1], child, context)


if __name__ == "__main__":
    print(reference_page(), end="")
