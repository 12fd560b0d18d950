"""Commands that bring pictures in: import, ingest, sample."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def import_folder(
    folder: Annotated[Path, typer.Argument(help="A folder with catalogue.csv and, perhaps, photos.csv.")],
    as_json: AsJson = False,
) -> None:
    """Import a folder of products and photos into the product database; what is there already is not doubled."""
    from pipelines.database import connect
    from pipelines.importing import import_folder

    engine = connect(Workspace.here().database_url)
    try:
        report = import_folder(engine, folder)
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
        return
    for refused in report.refused:
        typer.echo(f"refused: {refused.file}, row {refused.row}, {refused.id or 'no id'}: {refused.reason}")
    typer.echo(report.products)
    typer.echo(report.photos)


def ingest(as_json: AsJson = False) -> None:
    """Bring the product database's labelled pictures into data/, and data.dvc to that version."""
    from pipelines import stages, versions
    from pipelines.database import connect
    from pipelines.ingest import ingest

    workspace = Workspace.here()
    engine = connect(workspace.database_url)
    try:
        with stages.only_one(workspace):
            report = ingest(engine, workspace.data)
            version = versions.add_data(workspace)
    finally:
        engine.dispose()
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
    from pipelines.sample import SEED, draw_sample
    from training.stage import hushed

    with hushed():
        drawn = draw_sample(folder, SEED if seed is None else seed)
    typer.echo(json.dumps(dataclasses.asdict(drawn)) if as_json else f"sample: {drawn} -> {folder}")
