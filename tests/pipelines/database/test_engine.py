"""The product database: what it refuses, and that its two kinds keep the same things."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from pipelines.database.engine import connect, snapshot, transaction
from pipelines.database.revisions import REVISION_TABLE
from pipelines.database.tables import deployments, metadata, photos, products, verdicts
from training.stage.errors import BadInput

PHOTO = {"photo_id": "1", "image_bytes": b"bytes", "sha256": "0"}


def with_product(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(
            sa.insert(products).values(product_id="p", name="P", category="", image_bytes=b"o", sha256="1")
        )


def test_connecting_makes_every_table_and_may_be_repeated(database_url: str) -> None:
    for _ in range(2):
        engine = connect(database_url)
        assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, REVISION_TABLE}
        engine.dispose()


def test_a_time_comes_back_as_it_was_in_utc(engine: Engine) -> None:
    with_product(engine)
    taken_at = datetime(2025, 3, 31, 23, 30, 1, 250_000, tzinfo=timezone(timedelta(hours=-5)))
    with transaction(engine) as connection:
        connection.execute(sa.insert(photos).values(**PHOTO, claimed_product_id="p", taken_at=taken_at))
    with snapshot(engine) as connection:
        found = connection.scalar(sa.select(photos.c.taken_at))
    assert found is not None
    assert (found, found.tzinfo) == (taken_at, UTC)


def test_a_row_that_another_program_writes_has_its_time(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("INSERT INTO products (product_id, name) VALUES ('p', 'P')"))
        found = connection.scalar(sa.select(products.c.updated_at))
    assert found is not None
    assert abs(found - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("values", [{"product_id": "p"}, {"product_id": "p", "label_source": "model"}])
def test_a_truth_without_a_trusted_source_is_refused(engine: Engine, values: dict[str, str]) -> None:
    with_product(engine)
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(sa.insert(photos).values(**PHOTO, **values))


def test_a_claim_to_an_unknown_product_is_refused(engine: Engine) -> None:
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(sa.insert(photos).values(**PHOTO, claimed_product_id="nobody knows it"))


def test_a_photo_has_one_verdict_of_a_model(engine: Engine) -> None:
    with_product(engine)
    verdict = {
        "photo_id": "1",
        "claimed_product_id": "p",
        "outcome": "match",
        "probability": 0.9,
        "model_id": "m",
        "original_sha256": "1",
        "photo_sha256": "0",
    }
    with transaction(engine) as connection:
        connection.execute(sa.insert(photos).values(**PHOTO, claimed_product_id="p"))
        connection.execute(sa.insert(verdicts).values(**verdict))
    with pytest.raises(IntegrityError), transaction(engine) as connection:
        connection.execute(sa.insert(verdicts).values(**verdict))


def test_a_deployment_is_kept_with_its_time(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(
            sa.insert(deployments).values(who="ada", alias="champion", from_version=1, to_version=2, outcome="done")
        )
        row = connection.execute(sa.select(deployments)).mappings().one()
    assert (row["who"], row["from_version"], row["to_version"]) == ("ada", 1, 2)
    assert row["at"].tzinfo is UTC


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), transaction(engine) as connection:
        connection.execute(sa.insert(products).values(product_id="p", name="P", category=""))
        _ = 1 / 0
    with snapshot(engine) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(products)) == 0


def test_a_snapshot_does_not_see_what_is_written_meanwhile(engine: Engine) -> None:
    count = sa.select(sa.func.count()).select_from(products)
    with snapshot(engine) as reading:
        assert reading.scalar(count) == 0
        with_product(engine)
        assert reading.scalar(count) == 0


def test_sqlite_writes_ahead_and_keeps_foreign_keys(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'new' / 'database.sqlite'}")
    with snapshot(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/photoproof", "can't be reached"),
        ("postgresql://me@127.0.0.1:1/photoproof?password=geheim", "can't be reached"),
        ("postgresql://me:geheim@127.0.0.1:port/photoproof", "URL can't be read"),
        ("mysql://me:geheim@127.0.0.1/photoproof", "not mysql://"),
        ("geheim", "URL can't be read"),
        ("sqlite:////dev/null/database.sqlite", "can't be reached"),
    ],
)
def test_an_unreachable_database_is_one_line_without_the_password(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        connect(url)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff" * 500)
    with pytest.raises(BadInput, match=r"picture\.jpg can't be reached: file is not a database"):
        connect(f"sqlite:///{tmp_path / 'picture.jpg'}")


def test_a_wrong_password_is_one_line(postgres: str) -> None:
    with pytest.raises(BadInput, match="nobody-i-know") as caught:
        connect(f"postgresql://nobody-i-know:geheim@/postgres?host={postgres}")
    assert "geheim" not in str(caught.value)
