"""All flows as Prefect deployments, with the schedules of params.yaml: `photoproof flows serve`."""

from pathlib import Path
from typing import Any

from prefect import flow, serve
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from pipelines.deploy_flow import deploy_flow
from pipelines.retrain import retrain
from pipelines.shadow import shadow
from pipelines.workspace import Workspace
from training.config import Schedules, read_params

ONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
"""Shows in Prefect's page what the workspace's own lock enforces: one run at a time."""


@flow(name="shadow")
def shadow_flow(root: Path, sample: int = 100, hours: float = 24) -> str:
    """Ask stable and canary about a sample of the last hours' claims, and report where they differ.

    Args:
        root: the workspace.
        sample: claims to ask about, at most.
        hours: how old they may be.
    """
    found = shadow(Workspace(root), sample, hours)
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
    ]
    return [
        one.to_deployment(
            name=workspace.root.name or "workspace",
            description=one.description,
            tags=["photoproof", *tags],
            parameters={"root": root, **parameters},
            schedule=Cron(cron, timezone=schedules.timezone) if cron else None,
            concurrency_limit=ONE,
            enforce_parameter_schema=True,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for one, cron, parameters, tags in flows
    ]


def serve_flows(workspace: Workspace) -> None:
    """Register the deployments and run what is due or asked for, until Ctrl-C. Raises BadInput for params.yaml."""
    serve(*deployments(workspace, read_params(workspace.params).schedules), print_starting_message=False)
