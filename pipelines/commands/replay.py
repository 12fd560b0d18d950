"""Commands that ask again: replay a verdict, and shadow the stable label with the canary."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import AsJson
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.stage.errors import BadInput


def replay(
    verdict: Annotated[
        Path | None, typer.Argument(metavar="VERDICT.json", help="A verdict as `photoproof verify --json` prints it.")
    ] = None,
    row: Annotated[int | None, typer.Option("--row", help="Instead, a row (verdict_id) of the verdicts table.")] = None,
    original: Annotated[Path | None, typer.Option(help="The original, where the database has it no more.")] = None,
    photo: Annotated[Path | None, typer.Option(help="The photo, where it is not in the database.")] = None,
    as_json: AsJson = False,
) -> int:
    """Find the version, data and commit behind a verdict, and run the same pictures again.

    Exit code 0: the same score, 1: not the same, 2: the pictures are not kept.
    """
    from pipelines.auditing.replay import read_verdict, read_verdict_row, replay_verdict

    if (verdict is None) == (row is None):
        raise BadInput("replay: name a file with a verdict, or a row of the verdicts table with --row")
    workspace = Workspace.here()
    then = read_verdict_row(workspace, row) if row is not None else read_verdict(verdict or Path())
    replayed = replay_verdict(workspace, then, original, photo)
    typer.echo(json.dumps(dataclasses.asdict(replayed), default=str) if as_json else str(replayed))
    return {True: 0, False: 1, None: 2}[replayed.same]


def shadow(
    sample: Annotated[int, typer.Option(help="Claims to ask about, at most.")] = 100,
    hours: Annotated[float, typer.Option(help="How old they may be.")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="Print every claim as JSON.")] = False,
) -> None:
    """Ask stable and canary about a sample of the last day's claims, and report where they differ, with pictures."""
    from pipelines.deployment import shadow as shadowing

    settings = Settings()
    result = shadowing.shadow(Workspace.here(settings), settings, sample, hours)
    typer.echo(shadowing.as_json(result) if as_json else f"shadow: {result}")
