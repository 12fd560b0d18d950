"""The audit flow: every claim is verified by the model that serves, and a report shows the outcomes.

    claims without a verdict --verify--> verdicts, audits --report--> reports/audit/index.html, a queue for people

It may be killed at any point and started again; on PostgreSQL several may run at once (pipelines/auditing/claims.py).
"""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from pipelines.auditing.claims import Audited, audit_claims
from pipelines.auditing.report import make_report
from pipelines.database.engine import opened
from pipelines.deployment.addresses import server_to_ask
from pipelines.orchestration.run_log import log_line
from pipelines.workspace.params import read_application_params
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings


@dataclass(frozen=True)
class AuditResult:
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
def audit(root: Path, label: str = "stable") -> AuditResult:
    """Verify every claim that has no verdict of the model that serves, and report.

    Args:
        root: the workspace.
        label: which version at the model server answers.

    Raises ServerUnavailable, ModelNotFound, WorkspaceBusy, BadInput: each with one line for a person.
    """
    workspace = Workspace.at(root, Settings())
    return write_report(workspace, verify_claims(workspace, label))


@task
def verify_claims(workspace: Workspace, label: str) -> Audited:
    """Ask the model server about every claim that is not done."""
    share = read_application_params(workspace.params).audit.sample_share
    with opened(workspace.database_url) as engine:
        audited = audit_claims(engine, server_to_ask(workspace, Settings()), label, sample_share=share)
    _log(str(audited))
    return audited


@task
def write_report(workspace: Workspace, audited: Audited) -> AuditResult:
    """Write the report and leave it where people look."""
    findings, page = make_report(workspace)
    lines = str(findings).splitlines()
    for line in lines:
        _log(line)
    _log(f"report: {page}")
    text = "\n".join(["# Audit", "", *(f"- {line}" for line in lines), "", f"The report: `{page}`"])
    create_markdown_artifact(text, key="audit", description=f"Model {audited.model_id}")
    return AuditResult(
        audited.outcomes, audited.model_id, findings.counts, findings.waiting, tuple(findings.warnings), str(page)
    )


def _log(line: str) -> None:
    log_line(f"audit: {line}")
