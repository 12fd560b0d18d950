"""The command `photoproof`: its own commands, and those that other distributions add.

A distribution adds a command by an entry point in the group `photoproof.commands`: its name is the command, its value a
plain function with Typer's annotations or a Typer app. It is imported only when it is called; the help page reads the
command's first line from its source instead. An int that the function returns is the exit code.

An exception with an attribute `exit_code` is printed as one line and ends the command with that code, any other
with 1; a traceback is shown with -v or PHOTOPROOF_VERBOSE=1 only.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from photoproof.command_line.commands import encode, status, verify

GROUP = "photoproof.commands"


def main() -> None:
    """Runs the command line and ends the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; the exit code."""
    try:
        result = typer.main.get_command(app).main(list(arguments), prog_name="photoproof", standalone_mode=False)
    except typer.Abort as aborted:
        return 130 if isinstance(aborted.__cause__ or aborted.__context__, KeyboardInterrupt) else 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else 0


class _Commands(TyperGroup):
    """Our own commands, and placeholders for those of other distributions until one is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_added_commands())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = _added_commands().get(cmd_name)
        if point is None or super().get_command(ctx, cmd_name):
            return super().get_command(ctx, cmd_name)
        summary = _first_line(point) or "(application command)"
        return TyperCommand(cmd_name, help=summary, rich_help_panel="Commands of the application")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if super().get_command(ctx, name):
            return super().resolve_command(ctx, args)
        point = _added_commands().get(name)
        if point is not None:
            return name, _load_command(point), args[1:]
        if name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise NotInstalled(
            f"no command '{name}' is installed here, only {', '.join(self.list_commands(ctx))}; "
            "what trains and deploys models comes with the application, photoproof-pipeline"
        )


class NotInstalled(Exception):
    """A command that nothing installed here has."""

    exit_code = 2


app = typer.Typer(cls=_Commands, add_completion=False, pretty_exceptions_enable=False)
app.command()(verify)
app.command()(encode)
app.command()(status)


@app.callback(invoke_without_command=True)
def photoproof(
    ctx: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show tracebacks and the chatter of libraries.")
    ] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Show the client's version.")] = False,
) -> None:
    """Say whether a photo shows a product, and manage the models that do."""
    if verbose:
        os.environ["PHOTOPROOF_VERBOSE"] = "1"  # so that processes started by a command know it too
    if show_version:
        typer.echo(f"photoproof {version('photoproof')}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _added_commands() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load_command(point: EntryPoint) -> Any:
    target = point.load()
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if not isinstance(target, typer.Typer):
        single.command(point.name)(target)
        return typer.main.get_command(single)
    single.add_typer(target, name=point.name)
    return typer.main.get_group(single).commands[point.name]


def _first_line(point: EntryPoint) -> str | None:
    """The first line of a command's docstring, or a Typer app's `help`, read from its source and not imported."""
    try:
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            return None
        body = ast.parse(Path(spec.origin).read_bytes()).body
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0] or None
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            named = any(isinstance(target, ast.Name) and target.id == point.attr for target in node.targets)
            for keyword in node.value.keywords if named else ():
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value).partition("\n")[0]
    return None


def _report(error: Exception) -> int:
    if os.environ.get("PHOTOPROOF_VERBOSE", "").strip().lower() not in ("", "0", "false", "no"):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _print(f"{message} (`photoproof -v ...` shows where)")
        return 1
    message = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{message}\n")
    elif context is not None:
        _print(f"{message} See `{context.command_path} --help`.")
    else:
        _print(message)
    return code


def _print(message: str) -> None:
    sys.stderr.write(f"photoproof: {' '.join(message.split())}\n")


if __name__ == "__main__":
    main()
