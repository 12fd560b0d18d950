"""Commands around model versions: candidate, promote, deploy, serve."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Annotated

import typer

from pipelines.commands.options import AsJson
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.stage.errors import BadInput


def candidate(
    version: Annotated[int | None, typer.Argument(help="A version in MLflow; by default the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Make the report on a version again, against today's champion, in reports/candidate/; no alias or tag changes."""
    from pipelines.candidate.decide import report_on_version
    from pipelines.candidate.decision import decision_as_json
    from pipelines.registry import versions

    workspace = Workspace.here()
    decision = report_on_version(workspace, versions.find_version(workspace, version))
    page = workspace.reports / "candidate" / "decision.md"
    typer.echo(decision_as_json(decision) if as_json else page.read_text().rstrip())


def promote(
    version: Annotated[str, typer.Argument(help="A version's number, or an alias such as `challenger`.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "champion",
    as_json: AsJson = False,
) -> None:
    """Let the alias `champion` name a version, as in MLflow's own page; `photoproof deploy` then serves it."""
    from pipelines.registry import versions

    promoted = versions.promote(Workspace.here(), version, alias)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(promoted)))
        return
    before = f" (before: version {promoted.previous})" if promoted.previous else ""
    typer.echo(f"promote: {promoted.alias} is version {promoted.version}{before}; `photoproof deploy` serves it")


def deploy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try a version again that has failed.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking every few seconds; each deployment is a flow run in Prefect.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the model server equal to MLflow's aliases: champion serves as stable, challenger as canary."""
    from pipelines.deployment import reconcile

    options = " ".join(name for name, on in (("--dry-run", dry_run), ("--retry", retry), ("--json", as_json)) if on)
    if watch and options:
        raise BadInput(f"--watch does not go with {options}: run `photoproof deploy {options}` by itself")
    settings = Settings()
    workspace = Workspace.here(settings)

    def say(line: str) -> None:
        typer.echo(line, err=as_json or line.startswith("WARN"))

    if watch:
        _watch(workspace, settings, say)
        return
    deployment = reconcile.deploy(workspace, settings, dry_run, say, retry)
    steps = [str(step) for step in deployment.plan.steps]
    if as_json:
        outcome = {"labels": deployment.labels, "servers": list(deployment.servers), "steps": steps, "dry_run": dry_run}
        typer.echo(json.dumps(outcome | {"warnings": list(deployment.plan.warnings)}))
    elif dry_run and steps:
        for step in steps:
            typer.echo(f"would {step}")
        typer.echo(f"deploy: {len(steps)} step{'s' if len(steps) > 1 else ''} to do")
    else:
        typer.echo(f"deploy: {'' if steps else 'nothing to do; '}{deployment}")


def _watch(workspace: Workspace, settings: Settings, say: Callable[[str], None]) -> None:
    import signal

    from pipelines.orchestration.prefect_server import PrefectUnavailable, prefect_api

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            runs = ""
            try:
                url = stack.enter_context(prefect_api(workspace))
                runs = f"; runs are at {url.removesuffix('/api')}"
            except PrefectUnavailable as error:
                say(f"WARNING: {error}; aliases are followed all the same, without flow runs")
            from pipelines.deploy import watch

            say(f"deploy: watching MLflow's aliases every {settings.watch_seconds:g} s{runs}")
            watch(workspace, settings, say)
    except KeyboardInterrupt:
        say("deploy: stopped watching; what serves goes on serving")


def history(
    at: Annotated[str | None, typer.Option("--at", help="What served then: 2026-11-24 or 2026-11-24T14:30.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON.")] = False,
) -> None:
    """List what was deployed, and what failed, the newest last; with --at, what served at that time."""
    from pipelines.deployment.history import history as read_changes
    from pipelines.deployment.history import parse_time, served_at

    until = parse_time(at) if at else None
    changes = read_changes(Workspace.here(), until)
    served = served_at(changes)
    if as_json:
        rows = [dataclasses.asdict(change) | {"at": change.at.isoformat()} for change in changes]
        labels = {label: change.to_version for label, change in served.items()}
        typer.echo(json.dumps({"served": labels} if until else {"changes": rows, "served": labels}))
        return
    if until is None:
        for change in changes:
            typer.echo(str(change))
    for label, change in served.items():
        subject = f"at {until:%Y-%m-%d %H:%M:%S} {label} was" if until else f"now {label} is"
        typer.echo(f"{subject} version {change.to_version}, since {change.at.astimezone():%Y-%m-%d %H:%M:%S}")
    if not served:
        typer.echo("nothing was deployed" + (f" by {until:%Y-%m-%d %H:%M:%S}" if until else " yet"))


def serve(
    port: Annotated[int, typer.Option(help="Port for gRPC.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="Port for REST.")] = 8501,
) -> None:
    """Start the model server on what is deployed, in the foreground, until Ctrl-C."""
    from pipelines.deployment.model_server import serve as run

    run(Workspace.here(), port, rest_port)
