"""Take a few rows, work on them, keep what came of it: several workers at once, and none of them twice.

PostgreSQL holds the rows' locks while the work is done (a worker that is killed gives them back with its connection);
`take` selects with `with_for_update(skip_locked=True)` and asks again what it has locked. SQLite has one writer, so
nothing is held during the work: the caller sees to it that there is one worker.
"""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine

from pipelines.database.engine import snapshot, transaction

Taken = TypeVar("Taken")
Done = TypeVar("Done")


def work_on_some(
    engine: Engine,
    take: Callable[[Connection], Taken],
    work: Callable[[Taken], Done],
    keep: Callable[[Connection, Done], None],
) -> tuple[Taken, Done]:
    """What was taken and what came of it, which is kept as a whole or not at all."""
    if engine.dialect.name == "postgresql":
        with transaction(engine) as connection:
            taken = take(connection)
            done = work(taken)
            keep(connection, done)
        return taken, done
    with snapshot(engine) as connection:
        taken = take(connection)
    done = work(taken)
    with transaction(engine) as connection:
        keep(connection, done)
    return taken, done
