"""Commands for auditors: audit (with its report and its queue for people), and label."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import AsJson
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput

audit = typer.Typer(help="Verify every claim of the product database, and report the outcomes.")


@audit.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    label: Annotated[str, typer.Option(help="Which version at the model server answers.")] = "stable",
    as_json: AsJson = False,
) -> None:
    """Verify every claim that has no verdict of the model that serves, and report the outcomes."""
    if context.invoked_subcommand is not None:
        return
    from pipelines.database.engine import opened
    from pipelines.orchestration.prefect_server import prefect_api
    from pipelines.workspace.params import check_params

    workspace = Workspace.here()
    check_params(workspace.params)  # what is wrong here and next fails at once, not after a server's start
    with opened(workspace.database_url):
        pass
    with prefect_api(workspace), contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        from pipelines.audit import audit as flow

        outcome = flow(workspace.root, label)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(outcome), ensure_ascii=False))


@audit.command("report")
def report(as_json: AsJson = False) -> None:
    """Write the report anew, with the live error rates from people's decisions so far."""
    from pipelines.auditing.report import findings_as_json, make_report

    findings, page = make_report(Workspace.here())
    typer.echo(findings_as_json(findings) if as_json else f"{findings}\nreport: {page}")


@audit.command("queue")
def queue(as_json: AsJson = False) -> None:
    """List the photos that wait for a person: reviews, copies of originals, and a share drawn from all verdicts."""
    from pipelines.auditing.labels import find_waiting
    from pipelines.database.engine import opened

    count = 0
    with opened(Workspace.here().database_url) as engine:
        for photo in find_waiting(engine):
            row = dataclasses.asdict(photo)
            typer.echo(json.dumps(row, default=str, ensure_ascii=False) if as_json else str(photo))
            count += 1
    if not as_json:
        typer.echo(f"{count:,} photos wait: `photoproof label PHOTO PRODUCT`, or `--wrong` where none is known")


def label(
    photo: Annotated[str | None, typer.Argument(metavar="PHOTO", help="The photo's id.")] = None,
    product: Annotated[str | None, typer.Argument(metavar="PRODUCT", help="The product that it shows.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="It does not show what it claims.")] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Many at once: photo_id, product_id (empty: the claim is wrong).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which product a photo shows: a person's decision, which the next ingest takes for the truth."""
    from pipelines.auditing.labels import PhotoDecision, label_photos, read_decisions
    from pipelines.database.engine import opened

    single = photo is not None and (product is not None) != wrong
    if (csv is None) != single or (csv is not None and (photo or product or wrong)):
        raise BadInput("label: say `photoproof label PHOTO PRODUCT`, `label PHOTO --wrong` or `label --csv FILE`")
    decisions = read_decisions(csv) if csv else [PhotoDecision(photo or "", product)]
    with opened(Workspace.here().database_url) as engine:
        label_photos(engine, decisions)
    called_wrong = sum(1 for decision in decisions if decision.product_id is None)
    labelled = len(decisions) - called_wrong
    if as_json:
        typer.echo(json.dumps({"labelled": labelled, "wrong": called_wrong}))
    else:
        typer.echo(f"label: {labelled:,} photos labelled, {called_wrong:,} claims called wrong")
