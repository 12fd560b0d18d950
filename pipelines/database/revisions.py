"""The revisions of the product database's tables: what a database is of, and how it comes to the latest.

Revisions are Alembic's, in migrations/versions/, one file each; a file's name begins with its number. A new revision:
change tables.py, then `python -m pipelines.database.revisions "photos have a place"`, and read what it wrote.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Inspector

from pipelines.database.tables import metadata
from training.stage.errors import BadInput

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).with_name("migrations")
REVISION_TABLE = "photoproof_revision"
"""Names a database's revision. Not Alembic's own name for it: MLflow's tables may be in the same schema."""

_SHOWN = 3
_revision = sa.Table(
    REVISION_TABLE,
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name=f"{REVISION_TABLE}_pkc"),
)


def revisions() -> list[str]:
    """Every revision, the latest last, by the files' names: to import Alembic takes as long as all else of an open."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def is_latest(connection: Connection) -> bool:
    """Whether the database is of the latest revision."""
    return _read_revision(connection) == revisions()[-1]


def bring_to_latest(connection: Connection, name: str) -> None:
    """Make the tables of a new database, or upgrade those of an older one. SQLite's foreign keys must be off.

    A database without a revision whose tables are these is marked as of the latest. Raises BadInput, with the
    database's `name`, where they are others, or where a later Photoproof has upgraded it.
    """
    known = revisions()
    revision = _read_revision(connection)
    if revision is None:
        inspector = sa.inspect(connection)
        present = metadata.tables.keys() & inspector.get_table_names()
        if present and (differences := find_differences(inspector)):
            more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            raise BadInput(
                f"the product database {name} has tables of an unknown form ({'; '.join(differences[:_SHOWN])}{more}): "
                "name another database in PHOTOPROOF_DATABASE_URL, or move this one away and import its pictures again"
            )
        metadata.create_all(connection)
        _revision.create(connection)
        connection.execute(sa.insert(_revision).values(version_num=known[-1]))
    elif revision not in known:
        raise BadInput(
            f"the product database {name} is of revision {revision}, and this Photoproof knows those up to "
            f"{known[-1]}: a later one has upgraded it; install that one"
        )
    elif revision != known[-1]:
        upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run the revisions that the database lacks, on the connection and inside its transaction."""
    from alembic import command

    command.upgrade(_config(connection), "head")


def find_differences(inspector: Inspector) -> list[str]:
    """What a database's tables and tables.py have that the other lacks; tables of other names are not looked at."""
    present = set(inspector.get_table_names())
    differences = []
    for table in metadata.sorted_tables:
        if table.name not in present:
            differences.append(f"table {table.name} is missing")
            continue
        expected, actual = _expected(table, inspector.dialect), _actual(table.name, inspector)
        differences += [f"table {table.name} lacks {part}" for part in sorted(expected - actual)]
        differences += [f"table {table.name} has {part}" for part in sorted(actual - expected)]
    return differences


def _read_revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(REVISION_TABLE):
        return None
    return connection.scalar(sa.select(_revision.c.version_num))


def _expected(table: sa.Table, dialect: sa.Dialect) -> set[str]:
    parts = {_column(column.name, column.type.compile(dialect), bool(column.nullable)) for column in table.columns}
    parts |= {_named("an index of", index.columns.keys()) for index in table.indexes}
    for constraint in table.constraints:
        if isinstance(constraint, sa.PrimaryKeyConstraint):
            parts.add(_named("the key", constraint.columns.keys()))
        elif isinstance(constraint, sa.UniqueConstraint):
            parts.add(_named("unique", constraint.columns.keys()))
        elif isinstance(constraint, sa.ForeignKeyConstraint):
            parts.add(_foreign_key(constraint.column_keys, constraint.referred_table.name, constraint.ondelete))
        elif isinstance(constraint, sa.CheckConstraint):
            parts.add(f"the check {constraint.name}")
    return parts


def _actual(name: str, inspector: Inspector) -> set[str]:
    columns = inspector.get_columns(name)
    parts = {_column(row["name"], row["type"].compile(inspector.dialect), row["nullable"]) for row in columns}
    indexes = [row for row in inspector.get_indexes(name) if not row.get("duplicates_constraint")]
    parts |= {_named("an index of", row["column_names"]) for row in indexes}
    parts.add(_named("the key", inspector.get_pk_constraint(name)["constrained_columns"]))
    parts |= {_named("unique", row["column_names"]) for row in inspector.get_unique_constraints(name)}
    parts |= {
        _foreign_key(row["constrained_columns"], row["referred_table"], row.get("options", {}).get("ondelete"))
        for row in inspector.get_foreign_keys(name)
    }
    return parts | {f"the check {row['name']}" for row in inspector.get_check_constraints(name)}


def _column(name: str, type_name: str, nullable: bool) -> str:
    return f"column {name} {type_name}{'' if nullable else ' NOT NULL'}"


def _named(what: str, columns: Sequence[str | None]) -> str:
    return f"{what} {', '.join(str(column) for column in columns)}"


def _foreign_key(columns: Sequence[str], referred: str, ondelete: str | None) -> str:
    return f"a foreign key of {', '.join(columns)} to {referred}{f' on delete {ondelete}' if ondelete else ''}"


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)  # whatever the program's own level is
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def write_revision(message: str) -> Path:
    """Write the next revision: what tables.py has changed since the latest, as Alembic sees it."""
    from alembic import command

    number = f"{int(revisions()[-1]) + 1:04d}"
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/database.sqlite")
        with engine.begin() as connection:
            upgrade(connection)
            script = command.revision(_config(connection), message, autogenerate=True, rev_id=number)
        engine.dispose()
    assert script is not None and not isinstance(script, list)
    return Path(script.path)


if __name__ == "__main__":
    write_revision(" ".join(sys.argv[1:]))
