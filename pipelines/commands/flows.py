"""Commands that run flows and their servers, and turn their knobs: retrain, prefect, mlflow, params."""

import contextlib
import dataclasses
import json
import signal
import sys
from typing import Annotated

import typer

from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput


def retrain(
    ingest: Annotated[
        bool, typer.Option(help="Ingest the product database first; without it, data.dvc's own version is used.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Ingest, validate, train, evaluate, export and register, each where something is new."""
    from pipelines.database import engine
    from pipelines.orchestration.prefect_server import prefect_api
    from pipelines.workspace.params import check_params

    workspace = Workspace.here()
    check_params(workspace.params)  # what is wrong here and next is said at once, not after a server's start
    if ingest:
        engine.connect(workspace.database_url).dispose()
    lines_to = sys.stderr if as_json else sys.stdout
    with prefect_api(workspace), contextlib.redirect_stdout(lines_to):
        from pipelines.retrain import retrain as flow

        outcome = flow(workspace.root, from_database=ingest)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(outcome)))


def prefect(
    port: Annotated[int, typer.Option(help="Port of the local server's page and API.")] = 4200,
) -> None:
    """Run this workspace's Prefect server in the foreground, until Ctrl-C."""
    from pipelines.orchestration.prefect_server import prefect_api

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with prefect_api(Workspace.here(), port) as url:
        typer.echo(f"Prefect: {url.removesuffix('/api')} (Ctrl-C to stop)")
        signal.pause()


def flows(
    action: Annotated[str, typer.Argument(help="`serve`: register all flows and run what is due or asked for.")],
) -> None:
    """Register all flows (retrain, deploy, shadow, audit) in Prefect, scheduled as in params.yaml, until Ctrl-C."""
    from pipelines.orchestration.prefect_server import prefect_api
    from pipelines.workspace.params import read_application_params

    if action != "serve":
        raise BadInput("flows: say `photoproof flows serve`")
    workspace = Workspace.here()
    schedules = read_application_params(workspace.params).schedules
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with prefect_api(workspace) as url, contextlib.suppress(KeyboardInterrupt):
        from pipelines.schedules import serve_flows

        for name in ("retrain", "deploy", "shadow", "audit"):
            when = getattr(schedules, name)
            typer.echo(f"flows: {name} {f'at {when} ({schedules.timezone})' if when else 'when asked'}")
        typer.echo(f"flows: {url.removesuffix('/api')}/deployments (Ctrl-C to stop)")
        serve_flows(workspace)


def mlflow(
    port: Annotated[int, typer.Option(help="Port of MLflow's page and API.")] = 5000,
) -> None:
    """Run the tracking server and registry of this workspace in the foreground, until Ctrl-C."""
    import os

    workspace = Workspace.here()
    store = workspace.state / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    settings = workspace.root / "mlflow" / "server.env"
    for line in settings.read_text().splitlines() if settings.is_file() else ():
        if line and not line.startswith("#"):
            os.environ.setdefault(*line.split("=", 1))
    typer.echo(f"MLflow: http://127.0.0.1:{port} (Ctrl-C to stop)")
    words = ["server", "--host", "127.0.0.1", "--port", str(port)]
    words += [
        "--backend-store-uri",
        f"sqlite:///{store / 'mlflow.db'}",
        "--artifacts-destination",
        f"{store / 'artifacts'}",
    ]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *words])


def params(
    action: Annotated[str, typer.Argument(help="`use` or `list`.")] = "list",
    name: Annotated[str, typer.Argument(help="The setting to use.")] = "",
) -> None:
    """Put a named setting (params.NAME.yaml) into params.yaml."""
    workspace = Workspace.here()
    settings = {path.name.split(".")[1]: path for path in sorted(workspace.root.glob("params.*.yaml"))}
    if action == "list":
        typer.echo("\n".join(settings))
        return
    if action != "use" or name not in settings:
        raise BadInput(f"params: say `photoproof params use NAME`, NAME one of: {', '.join(settings)}")
    part = workspace.params.with_suffix(".part")
    part.write_text(settings[name].read_text())
    part.replace(workspace.params)
    typer.echo(f"params.yaml is now the setting {name}")
