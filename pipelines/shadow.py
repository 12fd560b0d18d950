"""The shadow flow: claims asked of `stable` and of `canary`, side by side."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import PositiveFloat, PositiveInt

from pipelines.deployment.shadow import ComparedClaim, NoCanary, shadow
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings


@flow(name="shadow")
def shadow_flow(root: Path, sample: PositiveInt = 100, hours: PositiveFloat = 24) -> str:
    """Ask stable and canary about a sample of the last hours' claims, and report where they differ.

    Args:
        root: the workspace.
        sample: claims to ask about, at most.
        hours: how old they may be.
    """
    try:
        settings = Settings()
        result = shadow(Workspace.at(root, settings), settings, sample, hours)
    except NoCanary as error:  # nothing is wrong: a schedule asks every day
        create_markdown_artifact(str(error), key="shadow", description="stable compared with canary")
        print(f"shadow: {error}", flush=True)
        return str(error)
    rows = [_row(claim) for claim in result.differing]
    table = ["| photo | claim | stable | canary |", "|---|---|---|---|", *rows] if rows else []
    create_markdown_artifact(
        "\n".join([str(result), "", *table]), key="shadow", description="stable compared with canary"
    )
    print(f"shadow: {result}", flush=True)
    return str(result)


def _row(claim: ComparedClaim) -> str:
    stable, canary = (getattr(verdict, "outcome", verdict) for verdict in (claim.stable, claim.canary))
    return f"| {claim.photo_id} | {claim.claimed_product_id} | {stable} | {canary} |"
