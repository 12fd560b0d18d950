"""How Alembic runs a revision: on the connection that it is given, inside that connection's transaction."""

from typing import Literal

import sqlalchemy as sa
from alembic import context

from pipelines.database.revisions import REVISION_TABLE
from pipelines.database.tables import UtcDateTime, metadata


def _render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """A revision says how a time is stored then, whatever becomes of the type in tables.py."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


connection: sa.Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=REVISION_TABLE,
    render_item=_render,
    render_as_batch=True,  # SQLite changes a column by making its table anew
    transactional_ddl=True,
)
context.run_migrations()
