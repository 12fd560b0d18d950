"""Commands that bring pictures in (import, ingest, sample), and `photoproof data`: the versions that they made."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import AsJson
from pipelines.commands.quarantine import quarantine
from pipelines.workspace.places import Workspace


def import_folder(
    folder: Annotated[Path, typer.Argument(help="A folder with catalogue.csv and, perhaps, photos.csv.")],
    as_json: AsJson = False,
) -> None:
    """Import a folder of products and photos into the product database; what it has already is not doubled."""
    from pipelines.database.engine import opened
    from pipelines.database.import_folder import import_folder

    with opened(Workspace.here().database_url) as engine:
        report = import_folder(engine, folder)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
        return
    for refused in report.refused:
        typer.echo(f"refused: {refused.file}, row {refused.row}, {refused.id or 'no id'}: {refused.reason}")
    typer.echo(report.products)
    typer.echo(report.photos)


def ingest(as_json: AsJson = False) -> None:
    """Bring the product database's labelled pictures into data/, and data.dvc to that version."""
    from pipelines.data import versioning
    from pipelines.data.ingest import ingest
    from pipelines.database.engine import opened
    from pipelines.workspace import lock

    workspace = Workspace.here()
    with opened(workspace.database_url) as engine, lock.exclusive_workspace(workspace):
        report = ingest(engine, workspace.data)
        version = versioning.add_data(workspace)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(report), "data_version": version.md5}, ensure_ascii=False))
    else:
        typer.echo(f"ingest: {report} -> {version}")


def sample(
    folder: Annotated[Path, typer.Argument(help="The folder to draw into: a new one, or an earlier sample.")],
    seed: Annotated[int | None, typer.Option(help="Another number takes other photos of the same products.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a small catalogue, always the same for a seed, in the form that `photoproof import` reads."""
    from pipelines.demo.sample import SEED, draw_sample
    from training.stage.quiet import hushed

    with hushed():
        drawn = draw_sample(folder, SEED if seed is None else seed)
    typer.echo(json.dumps(dataclasses.asdict(drawn)) if as_json else f"sample: {drawn} -> {folder}")


data = typer.Typer(no_args_is_help=True, help="Versions of the pictures: what each holds, and how they differ.")
data.add_typer(quarantine, name="quarantine")


@data.command("log")
def log(
    most: Annotated[int | None, typer.Option("-n", help="So many of the newest; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of data/ that are committed, newest first, each with what it changed."""
    from pipelines.data import history

    versions = history.log(Workspace.here(), most)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(version) for version in versions], default=str, ensure_ascii=False))
        return
    for version in versions:
        typer.echo(f"{version}  [{version.files:,} files, {version.bytes / 1e6:,.1f} MB]")


@data.command("diff")
def diff(
    before: Annotated[str, typer.Argument(help="A version: its md5's beginning, its tag, or a git revision.")],
    after: Annotated[str, typer.Argument(help="The later version.")] = "HEAD",
    as_json: AsJson = False,
) -> None:
    """Say which pictures came, went, changed or were relabelled between two versions."""
    from pipelines.data import difference, history

    workspace = Workspace.here()
    old, new = (history.read_pictures(workspace, history.find(workspace, name)) for name in (before, after))
    changes = difference.find_difference(old, new)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(changes), ensure_ascii=False))
        return
    typer.echo(changes)
    for sign, ids in (
        ("+ product", changes.new_products),
        ("- product", changes.lost_products),
        ("+ photo", changes.new_photos),
        ("- photo", changes.lost_photos),
        ("~", changes.changed),
        ("= relabelled", changes.relabelled),
    ):
        for name in ids:
            typer.echo(f"{sign} {name}")


@data.command("checkout")
def checkout(version: Annotated[str, typer.Argument(help="Its md5's beginning, its tag, or a git revision.")]) -> None:
    """Bring data.dvc and data/ to a version; commits nothing."""
    from pipelines.data import history
    from pipelines.workspace import lock

    workspace = Workspace.here()
    wanted = history.find(workspace, version)
    with lock.exclusive_workspace(workspace):
        data = history.checkout(workspace, wanted)
    typer.echo(f"data/ is now {wanted}")
    if data.md5 != wanted.md5:
        typer.echo(f"without what was forgotten since: {data}")
    typer.echo("`photoproof retrain --no-ingest` trains on it; `git checkout data.dvc && dvc checkout` goes back")


@data.command("forget")
def forget(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A photo's or a product's id.")],
    photo: Annotated[bool, typer.Option("--photo", help="It is a photo's id, where a product has it too.")] = False,
    product: Annotated[bool, typer.Option("--product", help="It is a product's id: its photos go with it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a photo, or a product and its photos, for good: from the database, every version and every remote."""
    from pipelines.removal.forget import forget

    if photo and product:
        raise typer.BadParameter("one of --photo and --product, not both")
    kind = "photo" if photo else "product" if product else None
    forgotten = forget(Workspace.here(), wanted, kind, really=yes)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(forgotten), ensure_ascii=False))
        return
    typer.echo(forgotten)
    if not yes:
        typer.echo("nothing is changed yet: say --yes to do it; it can't be undone")
        return
    typer.echo("push the commit, and in every other clone run `git pull` and `photoproof data gc`")
    typer.echo("reports/ and models/ here are as before: `photoproof retrain` makes them anew")


@data.command("gc")
def gc(
    keep: Annotated[int, typer.Option(min=0, help="So many of the newest versions stay, whoever needs them.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old versions' pictures from the cache and the remotes, but for those that somebody may still ask for."""
    from pipelines.removal.gc import collect

    collected = collect(Workspace.here(), keep, really=not dry_run)
    typer.echo(json.dumps(dataclasses.asdict(collected), ensure_ascii=False) if as_json else str(collected))
