"""Commands that run flows and their servers, and turn their knobs: retrain, prefect, mlflow, params."""

import contextlib
import dataclasses
import json
import signal
import sys
from typing import Annotated

import typer

from pipelines.commands.options import AsJson
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput


def retrain(
    ingest: Annotated[
        bool, typer.Option(help="Ingest the product database first; without it, data.dvc's own version is used.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Ingest, validate, train, evaluate, export and register, each where something is new."""
    from pipelines.database.engine import opened
    from pipelines.orchestration.prefect_server import prefect_api
    from pipelines.workspace.params import check_params

    workspace = Workspace.here()
    check_params(workspace.params)  # this and an unreachable database are refused before a server is started
    if ingest:
        with opened(workspace.database_url):
            pass
    with prefect_api(workspace), contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
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


def flows(words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
    """Register all flows (retrain, deploy, shadow, audit) in Prefect, and run what is due or asked for, until Ctrl-C.

    Their schedules are those of params.yaml.
    """
    from pipelines.orchestration.prefect_server import prefect_api
    from pipelines.workspace.params import read_application_params

    if words:  # it was `flows serve` once
        raise BadInput(f"flows: say `photoproof flows`, without `{' '.join(words)}`")
    workspace = Workspace.here()
    schedules = read_application_params(workspace.params).schedules
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with prefect_api(workspace) as url, contextlib.suppress(KeyboardInterrupt):
        from pipelines.schedules import serve_flows

        for name in ("retrain", "deploy", "shadow", "audit"):
            cron = getattr(schedules, name)
            typer.echo(f"flows: {name} {f'at {cron} ({schedules.timezone})' if cron else 'when asked'}")
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
    environment_file = workspace.root / "mlflow" / "server.env"
    for line in environment_file.read_text().splitlines() if environment_file.is_file() else ():
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
    """Put a named setting (params.NAME.yaml) into params.yaml, or list the names."""
    from pipelines.workspace.params import check_params
    from training.stage.files import write_whole

    workspace = Workspace.here()
    settings = {path.name.split(".")[1]: path for path in sorted(workspace.root.glob("params.*.yaml"))}
    if action == "list":
        typer.echo("\n".join(settings))
        return
    if action != "use" or name not in settings:
        raise BadInput(f"params: say `photoproof params use NAME`, NAME one of: {', '.join(settings)}")
    check_params(settings[name])
    write_whole(workspace.params, settings[name].read_text())
    typer.echo(f"params.yaml is now the setting {name}")
