"""All flows as Prefect deployments, with the schedules of params.yaml: `photoproof flows`."""

import asyncio
import contextlib
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from pipelines.audit import audit
from pipelines.deploy import deploy_flow
from pipelines.retrain import retrain
from pipelines.shadow import shadow_flow
from pipelines.workspace.params import Schedules, read_application_params
from pipelines.workspace.places import Workspace

ONE_RUN_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
"""Shows in Prefect's page what the workspace's own lock enforces: one run at a time."""


def build_deployments(workspace: Workspace, schedules: Schedules) -> list[RunnerDeployment]:
    """Every flow with its schedule, tags and description; Prefect's form for a run has its parameters, typed."""
    root = str(workspace.root)
    flows: list[tuple[Any, str, dict[str, Any], list[str]]] = [
        (retrain, schedules.retrain, {"from_database": True}, ["ml-team"]),
        (deploy_flow, schedules.deploy, {"retry": False}, ["platform-team"]),
        (shadow_flow, schedules.shadow, {"sample": 100, "hours": 24}, ["platform-team"]),
        (audit, schedules.audit, {"label": "stable"}, ["audit"]),
    ]
    return [
        flow.to_deployment(
            name=workspace.root.name or "workspace",
            description=flow.description,
            tags=["photoproof", *tags],
            parameters={"root": root, **parameters},
            schedule=Cron(cron, timezone=schedules.timezone) if cron else None,
            paused=False,
            concurrency_limit=ONE_RUN_AT_A_TIME,
            enforce_parameter_schema=True,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow, cron, parameters, tags in flows
    ]


def serve_flows(workspace: Workspace) -> None:
    """Register the deployments and run what is due or asked for, until Ctrl-C or SIGTERM.

    Prefect pauses the schedules when it ends; registering starts them again. Raises BadInput for params.yaml.
    """
    runner = Runner()
    for deployment in build_deployments(workspace, read_application_params(workspace.params).schedules):
        runner.add_deployment(deployment)
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
