"""All flows as Prefect deployments, with the schedules of params.yaml: `photoproof flows serve`."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from pydantic import PositiveFloat, PositiveInt

from pipelines.audit import audit
from pipelines.deploy import deploy_flow
from pipelines.deployment.shadow import NoCanary, shadow
from pipelines.retrain import retrain
from pipelines.workspace.places import Workspace
from training.stage.params import Schedules, read_params

ONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
"""Shows in Prefect's page what the workspace's own lock enforces: one run at a time."""


@flow(name="shadow")
def shadow_flow(root: Path, sample: PositiveInt = 100, hours: PositiveFloat = 24) -> str:
    """Ask stable and canary about a sample of the last hours' claims, and report where they differ.

    Args:
        root: the workspace.
        sample: claims to ask about, at most.
        hours: how old they may be.
    """
    try:
        found = shadow(Workspace(root), sample, hours)
    except NoCanary as error:  # nothing is wrong: a schedule asks every day
        create_markdown_artifact(str(error), key="shadow", description="stable beside canary")
        print(f"shadow: {error}", flush=True)
        return str(error)
    rows = [
        f"| {one.photo_id} | {one.claimed_product_id} | {getattr(one.stable, 'outcome', one.stable)} "
        f"| {getattr(one.canary, 'outcome', one.canary)} |"
        for one in found.differing
    ]
    table = ["| photo | claim | stable | canary |", "|---|---|---|---|", *rows] if rows else []
    create_markdown_artifact("\n".join([str(found), "", *table]), key="shadow", description="stable beside canary")
    print(f"shadow: {found}", flush=True)
    return str(found)


def deployments(workspace: Workspace, schedules: Schedules) -> list[RunnerDeployment]:
    """Every flow with its schedule, tags and description; what a run may be told is in Prefect's form, typed."""
    root = str(workspace.root)
    flows: list[tuple[Any, str, dict[str, Any], list[str]]] = [
        (retrain, schedules.retrain, {"from_database": True}, ["ml-team"]),
        (deploy_flow, schedules.deploy, {"retry": False}, ["platform-team"]),
        (shadow_flow, schedules.shadow, {"sample": 100, "hours": 24}, ["platform-team"]),
        (audit, schedules.audit, {"label": "stable"}, ["audit"]),
    ]
    return [
        one.to_deployment(
            name=workspace.root.name or "workspace",
            description=one.description,
            tags=["photoproof", *tags],
            parameters={"root": root, **parameters},
            schedule=Cron(cron, timezone=schedules.timezone) if cron else None,
            paused=False,
            concurrency_limit=ONE,
            enforce_parameter_schema=True,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for one, cron, parameters, tags in flows
    ]


def serve_flows(workspace: Workspace) -> None:
    """Register the deployments and run what is due or asked for, until Ctrl-C or SIGTERM.

    Prefect pauses the schedules when it ends; registering starts them again. Raises BadInput for params.yaml.
    """
    runner = Runner()
    for one in deployments(workspace, read_params(workspace.params).schedules):
        runner.add_deployment(one)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_until_sigterm(runner))


async def _until_sigterm(runner: Runner) -> None:
    """Prefect's own handler of SIGTERM ends the process in the middle of things."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task

    def stop(*_: Any) -> None:
        loop.call_soon_threadsafe(task.cancel)

    runner.handle_sigterm = stop
    await runner.start()
