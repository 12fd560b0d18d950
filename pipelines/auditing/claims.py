"""Verify the claims that have no verdict of the model that serves: once each, whatever is killed, whoever else works.

A claim ends in one of three states, a row of the table `audits` each: verified (with a verdict of the model),
identical (a copy of the original: no model is asked, so one for all models), or refused, with the reason. A photo whose
claim or whose bytes change is audited anew, and the old rows stay; a refused or identical one is done again also where
the original has changed since.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from tqdm import tqdm

from photoproof import PhotoproofError, ServerError, StaleEmbedding, Verifier
from pipelines.auditing.claim_outcome import Claim, ClaimOutcome, verify_claim_or_error
from pipelines.auditing.originals import embed_originals, keep_embeddings, name_nearest, originals_by_sha256
from pipelines.database.engine import insert, snapshot
from pipelines.database.shared_queue import work_on_batch
from pipelines.database.tables import about_present, audits, photos, products, verdicts
from pipelines.workspace import lock

BATCH = 32
"""Claims taken at a time, at most."""

BATCH_BYTES = 64_000_000
"""Of their photos, at most (a single larger photo is taken alone)."""

CALLS = 8
"""Calls to the model server at a time, which it batches."""

TIMEOUT_SECONDS = 30.0

MOVES = 10
"""How often the label may move to another model during one run: servers that disagree would keep it going for ever."""


@dataclass(frozen=True)
class Audited:
    """What one run of the audit did."""

    outcomes: dict[str, int]
    """By outcome; those without an answer, for which another run asks again, as "unanswered"."""
    model_id: str
    """The model that served at the end."""
    named: int
    """Mismatches and reviews that now name their nearest products."""

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return f"{total:,} claims audited under model {self.model_id}" + (f": {counts}" if counts else ", nothing new")


def audit_claims(
    engine: Engine, server: str, label: str = "stable", *, sample_share: float = 0.01, progress: bool = True
) -> Audited:
    """Verify every claim that has no verdict of the model under the label, and name what mismatches look like.

    On PostgreSQL several workers may run this at once. Killed at any point and started again, it goes on.

    Raises WorkspaceBusy where another audit works on the same SQLite, ServerUnavailable, DeadlineExceeded and
    ModelNotFound, StaleEmbedding where the label keeps moving; what was verified before is kept.
    """
    outcomes: Counter[str] = Counter()
    moves = 0
    with (
        _exclusive_on_sqlite(engine),
        Verifier(server, label=label, timeout=TIMEOUT_SECONDS) as verifier,
        ThreadPoolExecutor(CALLS, "audit") as pool,
    ):
        while True:
            model_id = verifier.model_id()
            try:
                embed_originals(engine, verifier, model_id, pool, progress=progress)
                done, unanswered = _one_pass(engine, verifier, model_id, pool, sample_share, outcomes, progress)
            except StaleEmbedding:  # the label has moved: all that is not done is asked of the model that serves now
                moves += 1
                if moves > MOVES:
                    raise
                continue
            if not done:
                outcomes["unanswered"] += unanswered
                return Audited(dict(+outcomes), model_id, name_nearest(engine, model_id))


def count_pending(engine: Engine, model_id: str) -> int:
    """Claims without an outcome under the model that still holds."""
    with snapshot(engine) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(_pending(model_id).subquery())) or 0


def _one_pass(
    engine: Engine,
    verifier: Verifier,
    model_id: str,
    pool: Executor,
    sample_share: float,
    outcomes: Counter[str],
    progress: bool,
) -> tuple[int, int]:
    """Go once through the claims that wait, by photo_id: how many were done, and how many got no answer.

    Counts those done in `outcomes`.
    """
    done, unanswered, after = 0, 0, ""
    with tqdm(
        total=count_pending(engine, model_id), desc="audit", unit="photo", disable=None if progress else True
    ) as bar:
        while True:
            batch = _Batch(verifier, model_id, pool, sample_share, after)
            taken, _ = work_on_batch(engine, batch.take, batch.verify, batch.keep)
            outcomes.update(outcome.name for outcome in batch.kept)
            done += len(batch.kept)
            unanswered += len(batch.errors) + taken.without_original
            bar.update(len(batch.kept))
            for error in batch.errors:
                if not isinstance(error, ServerError):  # a refusal of one photo does not stop the others
                    raise error
            if taken.last is None:
                return done, unanswered
            after = taken.last


@dataclass(frozen=True)
class _Taken:
    claims: list[Claim]
    without_original: int
    """Claims left out, as their original came since all were encoded: the next pass has it."""
    last: str | None
    """The last photo_id that was looked at; None where none was left."""


@dataclass(frozen=True)
class _Batch:
    """Claims that are taken, verified and kept together: the steps of `work_on_some`."""

    verifier: Verifier
    model_id: str
    pool: Executor
    sample_share: float
    after: str
    """The photo_id behind which the batch begins."""
    kept: list[ClaimOutcome] = field(default_factory=list)
    errors: list[PhotoproofError] = field(default_factory=list)
    """Of the claims that got no answer."""

    def take(self, connection: Connection) -> _Taken:
        """Lock and read the next claims, up to BATCH and BATCH_BYTES; PostgreSQL leaves out what others have."""
        pending = _pending(self.model_id).where(photos.c.photo_id > self.after).order_by(photos.c.photo_id)
        locked = pending.limit(BATCH).with_for_update(of=photos, skip_locked=True, key_share=True)
        photo_ids = _within_batch_bytes(connection.execute(locked).all())
        if not photo_ids:
            return _Taken([], 0, None)
        # Asked again: another worker may have finished one between the look and the lock.
        still_pending = _pending(self.model_id).where(photos.c.photo_id.in_(photo_ids)).order_by(photos.c.photo_id)
        rows = connection.execute(still_pending).all()
        sha256s = [row.original_sha256 for row in rows if row.original_sha256]
        originals = originals_by_sha256(connection, self.model_id, sha256s)
        pictures = sa.select(photos.c.photo_id, photos.c.image_bytes).where(
            photos.c.photo_id.in_([row.photo_id for row in rows])
        )
        bytes_of = {row.photo_id: row.image_bytes for row in connection.execute(pictures)}
        claims = [
            Claim(
                row.photo_id,
                row.claimed_product_id,
                row.photo_sha256,
                row.original_sha256,
                bytes_of[row.photo_id],
                originals.get(row.original_sha256 or ""),
            )
            for row in rows
            if row.original_sha256 is None or row.original_sha256 in originals
        ]
        return _Taken(claims, len(rows) - len(claims), photo_ids[-1])

    def verify(self, taken: _Taken) -> list[ClaimOutcome]:
        """The outcomes of those claims that got an answer; the others' errors go to `errors`."""

        def verify_one(claim: Claim) -> ClaimOutcome | PhotoproofError:
            return verify_claim_or_error(self.verifier, self.model_id, claim, self.sample_share)

        answers = list(self.pool.map(verify_one, taken.claims))
        self.errors.extend(answer for answer in answers if isinstance(answer, PhotoproofError))
        return [answer for answer in answers if isinstance(answer, ClaimOutcome)]

    def keep(self, connection: Connection, outcomes: list[ClaimOutcome]) -> None:
        """Write the outcomes that still hold, and note them in `kept`."""
        self.kept.extend(_write_outcomes(connection, self.model_id, outcomes))


def _within_batch_bytes(rows: Iterable[sa.Row]) -> list[str]:
    """The photo_ids of the first rows whose photos together have at most BATCH_BYTES, at least one."""
    size, photo_ids = 0, []
    for row in rows:
        size += row.bytes
        if photo_ids and size > BATCH_BYTES:
            break
        photo_ids.append(row.photo_id)
    return photo_ids


def still_holds(model_id: str) -> sa.ColumnElement[bool]:
    """Whether a row of `audits` is an identical or a refusal that holds for its row of `photos` and `products`."""
    of_no_model = (audits.c.state == "identical") | ((audits.c.state == "refused") & (audits.c.model_id == model_id))
    same_original = sa.func.coalesce(audits.c.original_sha256, "") == sa.func.coalesce(products.c.sha256, "")
    return about_present(audits) & of_no_model & same_original


def _pending(model_id: str) -> sa.Select[*tuple[Any, ...]]:
    """Claims without an outcome that still holds: photo_id, claim, both sha256 (the original's may be null), bytes."""
    has_verdict = sa.exists().where(about_present(verdicts), verdicts.c.model_id == model_id)
    return (
        sa.select(
            photos.c.photo_id,
            photos.c.claimed_product_id,
            photos.c.sha256.label("photo_sha256"),
            products.c.sha256.label("original_sha256"),
            sa.func.length(photos.c.image_bytes).label("bytes"),
        )
        .join(products, photos.c.claimed_product_id == products.c.product_id)
        .where(~has_verdict, ~sa.exists().where(still_holds(model_id)))
    )


def _write_outcomes(connection: Connection, model_id: str, outcomes: list[ClaimOutcome]) -> list[ClaimOutcome]:
    """Write the outcomes of those claims that are still as they were when they were taken, and wait still."""
    by_photo = {outcome.audit["photo_id"]: outcome for outcome in outcomes}
    still_pending = _pending(model_id).where(photos.c.photo_id.in_(list(by_photo)))
    written = []
    for row in connection.execute(still_pending).all() if by_photo else ():
        outcome = by_photo[row.photo_id]
        audit = outcome.audit
        if any(audit[name] != getattr(row, name) for name in ("claimed_product_id", "photo_sha256", "original_sha256")):
            continue
        # An outcome without a model that no longer holds, as the original has changed, gives way.
        same_claim = {name: audit[name] for name in ("photo_id", "claimed_product_id", "photo_sha256")}
        connection.execute(sa.delete(audits).filter_by(**same_claim).where(audits.c.state != "verified"))
        verdict_id = None
        if outcome.verdict:
            adding = insert(verdicts, connection).values(outcome.verdict).on_conflict_do_nothing()
            verdict_id = connection.scalar(adding.returning(verdicts.c.verdict_id))
            if verdict_id is None:
                continue
        connection.execute(sa.insert(audits).values(audit | {"verdict_id": verdict_id}))
        written.append(outcome)
    keep_embeddings(connection, [outcome.embedding for outcome in written if outcome.embedding])
    return written


@contextlib.contextmanager
def _exclusive_on_sqlite(engine: Engine) -> Iterator[None]:
    """SQLite: one audit at a time. PostgreSQL's workers share the queue."""
    file = engine.url.database
    if engine.dialect.name == "postgresql" or not file or file == ":memory:":
        yield
        return
    busy = "another audit works on this database ({holder}): let it finish, or use PostgreSQL for several at once"
    with lock.exclusive(Path(f"{file}.audit.lock"), busy, patience=0):
        yield
