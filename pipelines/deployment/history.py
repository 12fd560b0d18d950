"""What was deployed and when (the table `deployments`), and what is not tried again (a file beside models.config)."""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from pipelines.database import tables
from pipelines.database.engine import connect, snapshot, transaction
from pipelines.deployment.plan import LABELS
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput

DEPLOYED, FAILED = "deployed", "failed"


@dataclass(frozen=True)
class Change:
    """A row of the history: an alias that went from one version to another, or should have."""

    at: datetime
    who: str
    """Who ran deploy: MLflow does not say who moved an alias."""
    alias: str
    from_version: int | None
    to_version: int
    outcome: str
    reason: str

    def __str__(self) -> str:
        before = f" (before: version {self.from_version})" if self.from_version else ""
        why = f": {self.reason}" if self.reason else ""
        when = self.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"{when}  {self.alias} -> version {self.to_version}{before}, {self.outcome} by {self.who}{why}"


@dataclass(frozen=True)
class Failure:
    """A version that an alias named and that could not be put into service."""

    version: int
    reason: str


def record(workspace: Workspace, changes: Mapping[str, tuple[int | None, int]], outcome: str, reason: str = "") -> None:
    """Add a row for each alias that changed, or should have. Raises BadInput, DatabaseFailed."""
    rows = [
        {"who": getpass.getuser(), "alias": alias, "from_version": old, "to_version": new}
        | {"outcome": outcome, "reason": reason}
        for alias, (old, new) in changes.items()
    ]
    if not rows:
        return
    engine = connect(workspace.database_url)
    try:
        with transaction(engine) as connection:
            connection.execute(sa.insert(tables.deployments), rows)
    finally:
        engine.dispose()


def history(workspace: Workspace, until: datetime | None = None) -> list[Change]:
    """Every change, the oldest first, or those up to a moment. Raises BadInput, DatabaseFailed."""
    table = tables.deployments
    columns = [table.c[name] for name in Change.__dataclass_fields__]
    asked = sa.select(*columns).order_by(table.c.deployment_id)
    if until is not None:
        asked = asked.where(table.c.at <= until)
    engine = connect(workspace.database_url)
    try:
        with snapshot(engine) as connection:
            return [Change(*row) for row in connection.execute(asked)]
    finally:
        engine.dispose()


def served_at(changes: list[Change]) -> dict[str, Change]:
    """Label -> the change by which it named its version, after the changes."""
    done = {LABELS[one.alias]: one for one in changes if one.outcome == DEPLOYED and one.alias in LABELS}
    return dict(sorted(done.items(), reverse=True))


def moment(text: str) -> datetime:
    """An ISO date or time, in local time where it names no zone; a date alone means its end. Raises BadInput."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time: write 2026-11-24 or 2026-11-24T14:30") from None
    if len(text) == 10:
        found = found.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return found.astimezone()


def read_failures(workspace: Workspace) -> dict[str, Failure]:
    """Alias -> the version that failed under it and is not tried again."""
    try:
        kept = json.loads((workspace.serving / "failed.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {alias: Failure(**one) for alias, one in kept.items()}


def write_failures(workspace: Workspace, failures: Mapping[str, Failure]) -> None:
    """Keep what is not tried again, by rename; without failures there is no file."""
    path = workspace.serving / "failed.json"
    if not failures:
        path.unlink(missing_ok=True)
        return
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({alias: vars(one) for alias, one in failures.items()}, indent=1) + "\n")
    part.replace(path)
