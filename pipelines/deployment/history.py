"""What was deployed and when (the table `deployments`), and what is not tried again (a file beside models.config)."""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from pipelines.database import tables
from pipelines.database.engine import opened, snapshot, transaction
from pipelines.deployment.plan import LABELS
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.files import write_whole

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


def record(engine: Engine, changes: Mapping[str, tuple[int | None, int]], outcome: str, reason: str = "") -> None:
    """Add a row for each alias that changed, or should have. Raises DatabaseFailed."""
    rows = [
        {"who": getpass.getuser(), "alias": alias, "from_version": old, "to_version": new}
        | {"outcome": outcome, "reason": reason}
        for alias, (old, new) in changes.items()
    ]
    if not rows:
        return
    with transaction(engine) as connection:
        connection.execute(sa.insert(tables.deployments), rows)


def history(workspace: Workspace, until: datetime | None = None) -> list[Change]:
    """Every change, the oldest first, or those up to a time. Raises BadInput, DatabaseFailed."""
    with opened(workspace.database_url) as engine:
        return read_history(engine, until)


def read_history(engine: Engine, until: datetime | None = None) -> list[Change]:
    """The same from a database that is open. Raises DatabaseFailed."""
    table = tables.deployments
    columns = [table.c[name] for name in Change.__dataclass_fields__]
    query = sa.select(*columns).order_by(table.c.deployment_id)
    if until is not None:
        query = query.where(table.c.at <= until)
    with snapshot(engine) as connection:
        return [Change(*row) for row in connection.execute(query)]


def served_at(changes: list[Change]) -> dict[str, Change]:
    """Label -> the change by which it named its version, after the changes."""
    deployed = [change for change in changes if change.outcome == DEPLOYED and change.alias in LABELS]
    return dict(sorted({LABELS[change.alias]: change for change in deployed}.items(), reverse=True))


def parse_time(text: str) -> datetime:
    """An ISO date or time, in local time where it names no zone; a date alone means its end. Raises BadInput."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a time: write 2026-11-24 or 2026-11-24T14:30") from None
    if len(text) == 10:
        time = time.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return time.astimezone()


def read_failures(workspace: Workspace) -> dict[str, Failure]:
    """Alias -> the version that failed under it and is not tried again."""
    try:
        rows = json.loads((workspace.serving / "failed.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {alias: Failure(**row) for alias, row in rows.items()}


def write_failures(workspace: Workspace, failures: Mapping[str, Failure]) -> None:
    """Write which failures are not tried again; without failures the file is removed."""
    path = workspace.serving / "failed.json"
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_whole(path, json.dumps({alias: vars(failure) for alias, failure in failures.items()}, indent=1) + "\n")
