"""The audit flow: every claim is verified by the model that serves, and a report says what was found.

    claims without a verdict --verify--> verdicts, audits --report--> reports/audit/index.html, a queue for people

It may be killed at any point and started again; on PostgreSQL several may run at once (pipelines/auditing/claims.py).
"""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pipelines.auditing import report as audit_report
from pipelines.auditing.claims import Audited, audit_claims
from pipelines.database.engine import connect
from pipelines.deployment.addresses import server_to_ask
from pipelines.workspace.params import read_application_params
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings


@dataclass(frozen=True)
class Audit:
    """What an audit came to."""

    outcomes: dict[str, int]
    """Of the claims that this run audited."""
    model_id: str
    counts: dict[str, int]
    """Of all claims in the database."""
    waiting: int
    warnings: tuple[str, ...]
    report: str


@flow(name="audit")
def audit(root: Path, label: str = "stable") -> Audit:
    """Verify every claim that has no verdict of the model that serves, and report.

    Args:
        root: the workspace.
        label: which version at the model server answers.

    Raises ServerUnavailable, ModelNotFound, WorkspaceBusy, BadInput: each with one line for a person.
    """
    workspace = Workspace.at(root, Settings())
    return report(workspace, verify_claims(workspace, label))


@task
def verify_claims(workspace: Workspace, label: str) -> Audited:
    """Ask the model server about every claim that is not done."""
    share = read_application_params(workspace.params).audit.sample_share
    engine = connect(workspace.database_url)
    try:
        found = audit_claims(engine, server_to_ask(workspace), label, sample_share=share)
    finally:
        engine.dispose()
    _say(str(found))
    return found


@task
def report(workspace: Workspace, audited: Audited) -> Audit:
    """Write the report and leave it where people look."""
    found, page = audit_report.make_report(workspace)
    for line in str(found).splitlines():
        _say(line)
    _say(f"report: {page}")
    text = "\n".join(["# Audit", "", *(f"- {line}" for line in str(found).splitlines()), "", f"The report: `{page}`"])
    create_markdown_artifact(text, key="audit", description=f"Model {audited.model_id}")
    return Audit(audited.outcomes, audited.model_id, found.counts, found.waiting, tuple(found.warnings), str(page))


def _say(line: str) -> None:
    print(f"audit: {line}", flush=True)
    get_run_logger().info(line)
