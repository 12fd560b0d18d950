"""Take a few rows, work on them, keep the results: several workers at once, and no row is worked on twice.

PostgreSQL holds the rows' locks during the work (a worker that is killed gives them back with its connection);
`take` selects with `with_for_update(skip_locked=True)` and reads again what it has locked. SQLite has one writer, so
nothing is held during the work: the caller must see to it that there is one worker.
"""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine

from pipelines.database.engine import snapshot, transaction

Taken = TypeVar("Taken")
Result = TypeVar("Result")


def work_on_batch(
    engine: Engine,
    take: Callable[[Connection], Taken],
    work: Callable[[Taken], Result],
    keep: Callable[[Connection, Result], None],
) -> tuple[Taken, Result]:
    """What was taken and its results, which are kept as a whole or not at all."""
    if engine.dialect.name == "postgresql":
        with transaction(engine) as connection:
            taken = take(connection)
            result = work(taken)
            keep(connection, result)
        return taken, result
    with snapshot(engine) as connection:
        taken = take(connection)
    result = work(taken)
    with transaction(engine) as connection:
        keep(connection, result)
    return taken, result
