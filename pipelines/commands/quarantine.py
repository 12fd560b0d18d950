"""`photoproof data quarantine`: what validation set aside, for people to decide about."""

import dataclasses
import json
from typing import Annotated, Literal

import typer

from pipelines.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
Ids = Annotated[list[str], typer.Argument(help="Ids of pictures in quarantine.")]
Role = Annotated[str | None, typer.Option(help="original or photo, where both have the id.")]
Who = Annotated[str | None, typer.Option(help="Who decides; by default you.")]

quarantine = typer.Typer(no_args_is_help=False, help="Pictures that validation set aside: list, release, delete.")


@quarantine.callback(invoke_without_command=True)
def listed(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Option(help="One of `photoproof data log`; by default this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is set aside, with the reasons and what was decided; release and delete decide."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines import data_history
    from pipelines.database import connect
    from pipelines.quarantine import set_aside

    workspace = Workspace.here()
    md5 = data_history.find(workspace, version).md5 if version else _version(workspace)
    engine = connect(workspace.database_url)
    try:
        found = set_aside(engine, md5)
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], ensure_ascii=False))
        return
    for one in found:
        typer.echo(one)
    page = workspace.reports / "validation" / "quarantine" / "index.html"
    seen = f"; with thumbnails: {page}" if found and version is None and page.is_file() else ""
    typer.echo(f"data version {md5[:12]}: {len(found):,} in quarantine{seen}")


@quarantine.command("release")
def release(ids: Ids, role: Role = None, who: Who = None, as_json: AsJson = False) -> None:
    """Say that pictures are fine: the next validation lets them in, as long as their bytes stay the same."""
    _decide(ids, "released", role, who, as_json)


@quarantine.command("delete")
def delete(ids: Ids, role: Role = None, who: Who = None, as_json: AsJson = False) -> None:
    """Keep pictures out for good: their bytes never enter again; the product database keeps what is its own."""
    _decide(ids, "deleted", role, who, as_json)


def _decide(
    ids: list[str], decision: Literal["released", "deleted"], role: str | None, who: str | None, as_json: bool
) -> None:
    from pipelines.database import connect
    from pipelines.quarantine import decide

    workspace = Workspace.here()
    engine = connect(workspace.database_url)
    try:
        decided = decide(engine, _version(workspace), ids, decision, role, who)
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in decided], ensure_ascii=False))
        return
    for one in decided:
        typer.echo(one)


def _version(workspace: Workspace) -> str:
    from pipelines.versions import read_version
    from training.errors import BadInput

    version = read_version(workspace)
    if version is None:
        raise BadInput(f"{workspace.root / 'data.dvc'} not found: run `photoproof import DIR` and `photoproof retrain`")
    return version.md5
