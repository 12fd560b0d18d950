"""Open the product database at a URL: its tables made or upgraded, transactions and snapshots, errors in one line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.sql.schema import Table

from pipelines.database import revisions
from training.stage.errors import BadInput

BUSY_SECONDS = 30
"""How long a write to SQLite waits for another's."""

ANSWER_SECONDS = 10
"""How long PostgreSQL may take to answer a new connection."""

_CREATING = 0x70726F6F66  # an advisory lock of PostgreSQL, so that two programs do not make the tables at once


class DatabaseFailed(RuntimeError):
    """The product database broke off while it was used."""

    exit_code = 1


def connect(url: str) -> Engine:
    """Open the database at a SQLAlchemy URL, SQLite or PostgreSQL, with its tables of the latest revision.

    Raises BadInput, without the password, where it can't be reached, the URL is not one, or its tables are others.
    """
    parsed = _parse(url)
    with contextlib.ExitStack() as on_error:
        try:
            engine = _create_engine(parsed)
            on_error.callback(engine.dispose)
            with engine.connect() as connection:
                latest = revisions.is_latest(connection)
            if not latest:
                with _altering(engine) as connection:
                    revisions.bring_to_latest(connection, _hide_secrets(parsed))
        except (SQLAlchemyError, OSError) as error:
            raise BadInput(
                f"the product database {_hide_secrets(parsed)} can't be reached: {_shorten(error, parsed)}"
            ) from None
        on_error.pop_all()
    return engine


@contextlib.contextmanager
def opened(url: str) -> Iterator[Engine]:
    """The database at a SQLAlchemy URL, as `connect` opens it, disposed of after the block."""
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Write: all of the block or nothing. SQLite takes its write lock at once, so a block never fails midway.

    Raises DatabaseFailed where the database breaks off; IntegrityError goes through.
    """
    with _naming_errors(engine), engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        yield connection


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Read: everything in the block as it was at one moment, whoever writes meanwhile."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with _naming_errors(engine), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def _altering(engine: Engine) -> Iterator[Connection]:
    """A transaction that may change tables, one program at a time; all of it or nothing."""
    with engine.execution_options(sqlite_begin="IMMEDIATE").connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite:
            raw.execute("PRAGMA foreign_keys = OFF").close()  # or a dropped table's rows take others with them
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING)))
                yield connection
        finally:
            if is_sqlite:
                raw.execute("PRAGMA foreign_keys = ON").close()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BadInput(
            "the product database's URL can't be read: it has the form sqlite:///PATH or "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE (special characters in a password as %XX)"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise BadInput(f"the product database can be sqlite:/// or postgresql://, not {parsed.drivername}://")
    return parsed


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        timeout = {} if "connect_timeout" in url.query else {"connect_timeout": ANSWER_SECONDS}
        return sa.create_engine(url, connect_args=timeout, pool_pre_ping=True)
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 must not begin transactions on its own: _begin_sqlite does
    for pragma in (f"busy_timeout = {BUSY_SECONDS * 1000}", "journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")


@contextlib.contextmanager
def _naming_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise DatabaseFailed(
            f"the product database {_hide_secrets(engine.url)} broke off: {_shorten(error, engine.url)}"
        ) from error


def _hide_secrets(url: URL) -> str:
    """The URL without what may be secret: a password can be in the query too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _shorten(error: Exception, url: URL) -> str:
    """The error's own words in one line."""
    message = str(getattr(error, "orig", None) or error) or type(error).__name__
    line = " ".join(message.split())
    for secret in (url.password, url.query.get("password")):
        if isinstance(secret, str) and secret:
            line = line.replace(secret, "***")
    return line[:300]


def insert(table: Table, connection: Connection) -> Any:
    """An INSERT that has on_conflict_do_nothing, in the database's own dialect."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
