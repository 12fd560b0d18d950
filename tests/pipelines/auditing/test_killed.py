"""Audits that are killed, and several at once: still exactly one outcome a photo."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import Engine

from pipelines.auditing.claims import audit_claims
from pipelines.database.engine import connect
from pipelines.database.tables import audits, embeddings, verdicts

DIES_AT = """
import os, signal, sys
from sqlalchemy import event
from pipelines.auditing import claims, originals
from pipelines.database.engine import connect
url, server, where, number = sys.argv[1:]
engine, seen = connect(url), 0
claims.BATCH = originals.BATCH = 4

def die(*_):
    global seen
    seen += 1
    if seen == int(number):
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(engine, where, die)
claims.audit_claims(engine, server, progress=False)
"""


@pytest.fixture
def dies_at(claimed) -> Callable[[str, int], int]:
    """Audit in a process of its own that is killed at the so-manyth statement, or before a commit; the exit code."""

    def run(where: str, number: int) -> int:
        url = claimed.engine.url.render_as_string(hide_password=False)
        words = [sys.executable, "-c", DIES_AT, url, claimed.server, where, str(number)]
        return subprocess.run(words, env=os.environ | {"PYTHONWARNINGS": "ignore"}).returncode

    return run


@pytest.mark.slow
def test_killed_at_any_point_and_started_again_there_is_one_outcome_a_photo(claimed, dies_at):
    broken = ("broken", "p1", b"not a picture"), ("same", "p1", claimed.original(1))
    for photo in broken:
        claimed.add_photo(*photo)
    codes = [dies_at("commit", number) for number in (2, 6, 9)]
    codes += [dies_at("before_cursor_execute", number) for number in (25, 40, 61)]
    assert codes == [-signal.SIGKILL] * len(codes)
    half_done = len(claimed.rows(audits))
    claimed.audit()
    assert half_done < 42 == len(claimed.rows(audits))
    assert len({row["photo_id"] for row in claimed.rows(audits)}) == 42
    photo_ids = [row["photo_id"] for row in claimed.rows(verdicts)]
    assert len(photo_ids) == len(set(photo_ids)) == 41
    assert {row["verdict_id"] for row in claimed.rows(audits)} - {None} == {
        row["verdict_id"] for row in claimed.rows(verdicts)
    }
    outcomes = {row["verdict_id"]: row["outcome"] for row in claimed.rows(verdicts)}
    unlike = [row for row in claimed.rows(audits) if outcomes.get(row["verdict_id"]) in ("mismatch", "review")]
    assert all(row["nearest"] for row in unlike)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_on_postgresql_share_photos_and_originals_without_doing_one_twice(claimed, monkeypatch):
    monkeypatch.setattr("pipelines.auditing.claims.BATCH", 3)
    monkeypatch.setattr("pipelines.auditing.originals.BATCH", 2)
    engines = [connect(claimed.engine.url.render_as_string(hide_password=False)) for _ in range(3)]

    def work(engine: Engine):
        return audit_claims(engine, claimed.server, progress=False)

    with ThreadPoolExecutor(3) as pool:
        audits_done = list(pool.map(work, engines))
    for engine in engines:
        engine.dispose()
    counts = [sum(audited.outcomes.values()) for audited in audits_done]
    assert sum(counts) == 40 == len(claimed.rows(verdicts)) == len(claimed.rows(audits))
    assert sum(1 for count in counts if count) > 1
    originals = {row["sha256"] for row in claimed.rows(embeddings)} - {
        row["photo_sha256"] for row in claimed.rows(audits)
    }
    assert len(originals) == 10
