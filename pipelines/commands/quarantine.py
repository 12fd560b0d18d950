"""`photoproof data quarantine`: what validation set aside, for people to decide about."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.commands.options import AsJson
from pipelines.workspace.places import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

    from pipelines.data.quarantine import SetAside

Ids = Annotated[list[str], typer.Argument(help="Ids of pictures in quarantine.")]
Role = Annotated[str | None, typer.Option(help="original or photo, where both have the id.")]
Who = Annotated[str | None, typer.Option(help="Who decides; by default you.")]

quarantine = typer.Typer(no_args_is_help=False, help="Pictures that validation set aside: list, release, delete.")


@quarantine.callback(invoke_without_command=True)
def list_quarantine(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Option(help="One of `photoproof data log`; by default this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is set aside, with the reasons and what was decided; release and delete decide."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines.data import history
    from pipelines.data.quarantine import list_set_aside

    workspace = Workspace.here()
    md5 = history.find(workspace, version).md5 if version else _read_md5(workspace)
    pictures = _print_pictures(workspace, lambda engine: list_set_aside(engine, md5), as_json)
    if as_json:
        return
    page = workspace.reports / "validation" / "quarantine" / "index.html"
    where = f"; with thumbnails: {page}" if pictures and version is None and page.is_file() else ""
    typer.echo(f"data version {md5[:12]}: {len(pictures):,} in quarantine{where}")


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
    from pipelines.data.quarantine import decide

    workspace = Workspace.here()
    md5 = _read_md5(workspace)
    _print_pictures(workspace, lambda engine: decide(engine, md5, ids, decision, role, who), as_json)


def _print_pictures(
    workspace: Workspace, query: "Callable[[Engine], list[SetAside]]", as_json: bool
) -> "list[SetAside]":
    """Print what a query of the product database returns, and return it."""
    from pipelines.database.engine import opened

    with opened(workspace.database_url) as engine:
        pictures = query(engine)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(picture) for picture in pictures], ensure_ascii=False))
    else:
        for picture in pictures:
            typer.echo(picture)
    return pictures


def _read_md5(workspace: Workspace) -> str:
    from pipelines.data.versioning import read_version
    from training.stage.errors import BadInput

    version = read_version(workspace)
    if version is None:
        raise BadInput(f"{workspace.root / 'data.dvc'} not found: run `photoproof import DIR` and `photoproof retrain`")
    return version.md5
