"""A product database of before claims were audited anew: it opens, keeps every row, and has today's keys."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from pipelines.database.engine import connect, snapshot, transaction
from pipelines.database.tables import audits, decisions, photos, products, verdicts

OLDER = """
CREATE TABLE verdicts (
    verdict_id {serial} NOT NULL, photo_id TEXT NOT NULL, claimed_product_id TEXT NOT NULL, outcome TEXT NOT NULL,
    similarity {double}, distance {double}, probability {double}, accept_at {double}, reject_at {double},
    model_name TEXT, model_version INTEGER, model_id TEXT, original_sha256 TEXT NOT NULL, photo_sha256 TEXT NOT NULL,
    reason TEXT DEFAULT '' NOT NULL, at {time} DEFAULT {now} NOT NULL, PRIMARY KEY (verdict_id),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('match', 'mismatch', 'review', 'identical')),
    CONSTRAINT one_verdict_per_photo_and_model UNIQUE (photo_id, model_id),
    FOREIGN KEY(photo_id) REFERENCES photos (photo_id),
    FOREIGN KEY(claimed_product_id) REFERENCES products (product_id)
);
CREATE TABLE audits (
    photo_id TEXT NOT NULL, model_id TEXT NOT NULL, state TEXT NOT NULL, claimed_product_id TEXT NOT NULL,
    photo_sha256 TEXT NOT NULL, original_sha256 TEXT, verdict_id INTEGER, reason TEXT DEFAULT '' NOT NULL,
    perceptual_hash TEXT, nearest TEXT, sampled BOOLEAN NOT NULL, to_person TEXT, at {time} DEFAULT {now} NOT NULL,
    PRIMARY KEY (photo_id, model_id),
    CONSTRAINT state_is_known CHECK (state IN ('verified', 'identical', 'refused')),
    CONSTRAINT refused_has_no_verdict CHECK ((state = 'refused') = (verdict_id IS NULL)),
    CONSTRAINT why_is_known CHECK (to_person IN ('review', 'identical', 'sample')),
    FOREIGN KEY(photo_id) REFERENCES photos (photo_id) ON DELETE CASCADE,
    UNIQUE (verdict_id),
    FOREIGN KEY(verdict_id) REFERENCES verdicts (verdict_id) ON DELETE CASCADE
);
CREATE TABLE decisions (
    decision_id {serial} NOT NULL, photo_id TEXT NOT NULL, product_id TEXT, claimed_product_id TEXT, who TEXT NOT NULL,
    at {time} DEFAULT {now} NOT NULL, PRIMARY KEY (decision_id),
    FOREIGN KEY(photo_id) REFERENCES photos (photo_id) ON DELETE CASCADE
);
CREATE INDEX ix_decisions_photo_id ON decisions (photo_id)
"""
SQLITE = {"serial": "INTEGER", "double": "DOUBLE", "time": "DATETIME", "now": "CURRENT_TIMESTAMP"}
POSTGRESQL = {
    "serial": "SERIAL",
    "double": "DOUBLE PRECISION",
    "time": "TIMESTAMP WITH TIME ZONE",
    "now": "now()",
}
AUDITED = datetime(2026, 3, 1, 9, 30, 0, 5, UTC)
CHANGED = (audits, decisions, verdicts)


def described(engine: Engine) -> dict[str, object]:
    """What the database says of the tables that a migration changes."""
    found: dict[str, object] = {}
    inspector = sa.inspect(engine)
    for table in CHANGED:
        columns = inspector.get_columns(table.name)
        found[table.name] = [(one["name"], str(one["type"]), one["nullable"], one["default"]) for one in columns]
        found[f"{table.name} key"] = inspector.get_pk_constraint(table.name)["constrained_columns"]
        for kind, of in (
            ("unique", inspector.get_unique_constraints),
            ("checks", inspector.get_check_constraints),
            ("foreign keys", inspector.get_foreign_keys),
            ("indexes", inspector.get_indexes),
        ):
            found[f"{table.name} {kind}"] = sorted(map(str, of(table.name)))
    return found


def rows(engine: Engine, table: sa.Table) -> list[dict]:
    with snapshot(engine) as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
        return [dict(row) for row in found]


def verdict_of(photo_id: str, **more: object) -> dict[str, object]:
    row = {"photo_id": photo_id, "claimed_product_id": "p", "outcome": "match", "model_id": "m", "probability": 0.25}
    return row | {"original_sha256": "o", "photo_sha256": photo_id, "at": AUDITED} | more


@pytest.fixture
def older(engine: Engine) -> Engine:
    """An older database: photo a is verified and decided, b identical, c refused."""
    ddl = OLDER.format(**(SQLITE if engine.dialect.name == "sqlite" else POSTGRESQL))
    with transaction(engine) as connection:
        for table in CHANGED:
            table.drop(connection)
        for statement in ddl.split(";\n"):
            connection.execute(sa.text(statement))
        for one in ("p", "q"):
            connection.execute(sa.insert(products).values(product_id=one, name=one, image_bytes=b"o", sha256="o"))
        for one in ("a", "b", "c"):
            row = {"photo_id": one, "claimed_product_id": "p", "image_bytes": b"x", "sha256": one}
            connection.execute(sa.insert(photos).values(row))
        identical = {"outcome": "identical", "model_id": None, "probability": None}
        connection.execute(sa.insert(verdicts).values(verdict_of("a", verdict_id=7)))
        connection.execute(sa.insert(verdicts).values(verdict_of("b", verdict_id=9, **identical)))
        for photo_id, model_id, state, verdict_id in (
            ("a", "m", "verified", 7),
            ("b", "", "identical", 9),
            ("c", "m", "refused", None),
        ):
            row = {"photo_id": photo_id, "model_id": model_id, "state": state, "verdict_id": verdict_id}
            row |= {"claimed_product_id": "p", "photo_sha256": photo_id, "sampled": photo_id == "a", "at": AUDITED}
            connection.execute(sa.insert(audits).values(row))
        connection.execute(sa.text("INSERT INTO decisions (photo_id, who) VALUES ('a', 'ada')"))
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT setval('verdicts_verdict_id_seq', 9)"))
    return engine


@pytest.fixture
def fresh(engine: Engine) -> dict[str, object]:
    """How a new database is described: made before `older` changes it."""
    return described(engine)


def test_an_older_database_keeps_its_rows_and_becomes_as_a_new_one(fresh, older, database_url):
    assert described(older) != fresh
    kept = (audits, verdicts, photos, products)
    before = {table.name: rows(older, table) for table in kept}
    engine = connect(database_url)
    assert described(engine) == fresh
    assert {table.name: rows(engine, table) for table in kept} == before
    assert len(before["verdicts"]) == 2 and len(before["audits"]) == 3
    assert [(row["photo_id"], row["who"]) for row in rows(engine, decisions)] == [("a", "ada")]
    connect(database_url).dispose()
    assert rows(engine, audits) == before["audits"]
    engine.dispose()


def test_an_older_decision_is_about_the_bytes_that_were_audited_last_before_it(older, database_url):
    with transaction(older) as connection:
        connection.execute(sa.update(photos).values(sha256="another since"))
        early = "INSERT INTO decisions (photo_id, who, at) VALUES ('a', 'bob', '2020-01-01 00:00:00')"
        connection.execute(sa.text(early))
        connection.execute(sa.text("INSERT INTO decisions (photo_id, who) VALUES ('b', 'eve')"))
        connection.execute(sa.delete(audits).where(audits.c.photo_id == "b"))
    engine = connect(database_url)
    found = [(row["who"], row["photo_sha256"]) for row in rows(engine, decisions)]
    assert found == [("ada", "a"), ("bob", "another since"), ("eve", "another since")]
    engine.dispose()


def test_after_it_another_claim_and_other_bytes_have_verdicts_of_their_own(older, database_url):
    engine = connect(database_url)
    with transaction(engine) as connection:
        for row in (verdict_of("a", claimed_product_id="q"), verdict_of("a", photo_sha256="b")):
            connection.execute(sa.insert(verdicts).values(row))
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(sa.insert(verdicts).values(verdict_of("a")))
    assert [row["verdict_id"] for row in rows(engine, verdicts)] == [7, 9, 10, 11]
    engine.dispose()


def test_after_it_foreign_keys_hold_as_before(older, database_url):
    engine = connect(database_url)
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(sa.insert(verdicts).values(verdict_of("nobody")))
    with transaction(engine) as connection:
        connection.execute(sa.delete(verdicts).where(verdicts.c.verdict_id == 7))
    assert [row["photo_id"] for row in rows(engine, audits)] == ["b", "c"]
    engine.dispose()


def test_several_programs_may_open_an_older_database_at_once(older, database_url):
    before = rows(older, audits)
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(connect, [database_url] * 4))
    for engine in engines:
        assert rows(engine, audits) == before
        engine.dispose()
