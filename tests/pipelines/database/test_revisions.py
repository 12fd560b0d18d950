"""The revisions of the product database: each database comes to the latest, or is refused and stays as it is."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from pipelines.database import revisions
from pipelines.database.engine import connect, opened, snapshot, transaction
from pipelines.database.tables import audits, metadata, photos, products, verdicts
from training.stage.errors import BadInput

NEXT = '''"""Products have a shelf; what an audit says is a long text."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.batch_alter_table("products", recreate="auto") as batch:
        batch.add_column(sa.Column("shelf", sa.Text(), nullable=False, server_default="none"))
    with op.batch_alter_table("photos", recreate="auto") as batch:
        batch.drop_constraint("a_truth_has_a_source", type_="check")
    {failing}
'''


def describe(engine: Engine) -> dict[str, Any]:
    """All that the database says of its tables."""
    inspector = sa.inspect(engine)
    description: dict[str, Any] = {}
    for name in inspector.get_table_names():
        columns = inspector.get_columns(name)
        description[name] = [(row["name"], str(row["type"]), row["nullable"], row["default"]) for row in columns]
        description[f"{name} key"] = inspector.get_pk_constraint(name)["constrained_columns"]
        for kind, read in (
            ("unique", inspector.get_unique_constraints),
            ("checks", inspector.get_check_constraints),
            ("foreign keys", inspector.get_foreign_keys),
            ("indexes", inspector.get_indexes),
        ):
            description[f"{name} {kind}"] = sorted(map(str, read(name)))
    return description


def revision_of(engine: Engine) -> list[str]:
    with snapshot(engine) as connection:
        return list(connection.scalars(sa.text(f"SELECT version_num FROM {revisions.REVISION_TABLE}")))


def fill(engine: Engine) -> None:
    """A product, its photo, a verdict and an audit, each naming the one before."""
    claim = {"photo_id": "a", "claimed_product_id": "p", "photo_sha256": "a", "original_sha256": "o"}
    audit = {"model_id": "", "state": "identical", "verdict_id": 7, "sampled": False}
    photo = {"photo_id": "a", "claimed_product_id": "p", "image_bytes": b"x", "sha256": "a"}
    with transaction(engine) as connection:
        connection.execute(sa.insert(products).values(product_id="p", name="P", image_bytes=b"o", sha256="o"))
        connection.execute(sa.insert(photos).values(photo))
        connection.execute(sa.insert(verdicts).values(claim | {"verdict_id": 7, "outcome": "identical"}))
        connection.execute(sa.insert(audits).values(claim | audit))


def rows(engine: Engine) -> list[list[tuple[Any, ...]]]:
    tables = (products, photos, verdicts, audits)
    with snapshot(engine) as connection:
        return [[tuple(row) for row in connection.execute(sa.select(table))] for table in tables]


def drop_revision(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text(f"DROP TABLE {revisions.REVISION_TABLE}"))


@pytest.fixture
def by_revisions(database_url: str) -> Iterator[Engine]:
    """An empty database to which every revision was applied."""
    with opened(database_url) as engine:
        with transaction(engine) as connection:
            metadata.drop_all(connection)
            connection.execute(sa.text(f"DELETE FROM {revisions.REVISION_TABLE}"))
        with transaction(engine) as connection:
            revisions.upgrade(connection)
        yield engine


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Adds a revision 0002 to a copy of those that there are, which is read from then on; may end in an error."""

    def add(failing: str = "") -> None:
        shutil.copytree(revisions.MIGRATIONS, tmp_path / "100% more", dirs_exist_ok=True)
        (tmp_path / "100% more/versions/0002_shelf.py").write_text(NEXT.format(failing=failing))
        monkeypatch.setattr(revisions, "MIGRATIONS", tmp_path / "100% more")

    return add


def test_the_revisions_make_the_tables_that_the_program_uses(by_revisions: Engine) -> None:
    with snapshot(by_revisions) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": revisions.REVISION_TABLE})
        assert compare_metadata(context, metadata) == []
        assert revisions.find_differences(sa.inspect(connection)) == []


def test_a_new_database_is_as_one_that_came_through_every_revision(by_revisions: Engine, database_url: str) -> None:
    migrated = describe(by_revisions)
    with transaction(by_revisions) as connection:
        metadata.drop_all(connection)
    drop_revision(by_revisions)
    with opened(database_url) as engine:
        assert describe(engine) == migrated
        assert revision_of(engine) == revisions.revisions()[-1:]


def test_the_latest_revision_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert [revision.revision for revision in script.walk_revisions()][::-1] == revisions.revisions()


def test_a_database_without_a_revision_is_marked_where_its_tables_are_these(engine: Engine, database_url: str) -> None:
    fill(engine)
    before, description = rows(engine), describe(engine)
    drop_revision(engine)
    with opened(database_url) as again:
        assert revision_of(again) == revisions.revisions()[-1:]
        assert (rows(again), describe(again)) == (before, description)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE embeddings RENAME COLUMN thumbnail TO glance", "lacks column thumbnail .*has column glance"),
        ("ALTER TABLE deployments ADD COLUMN whim TEXT", "table deployments has column whim TEXT"),
        ("DROP INDEX ix_photos_product_id", "table photos lacks an index of product_id"),
        ("DROP TABLE forgotten", "table forgotten is missing"),
        (
            "DROP TABLE quarantine; CREATE TABLE quarantine (data_version TEXT NOT NULL PRIMARY KEY, "
            "role TEXT NOT NULL, picture_id TEXT NOT NULL, reason TEXT NOT NULL, at TIMESTAMP NOT NULL)",
            r"quarantine lacks .*; table quarantine lacks .* and \d more",
        ),
    ],
)
def test_a_database_without_a_revision_is_refused_where_its_tables_are_others(
    engine: Engine, database_url: str, change: str, says: str
) -> None:
    drop_revision(engine)
    with transaction(engine) as connection:
        for statement in change.split("; "):
            connection.execute(sa.text(statement))
    before = describe(engine)
    with pytest.raises(BadInput, match=says) as caught:
        connect(database_url)
    assert "PHOTOPROOF_DATABASE_URL" in str(caught.value) and "\n" not in str(caught.value)
    assert describe(engine) == before


def test_tables_of_other_programs_in_the_same_database_are_left_alone(engine: Engine, database_url: str) -> None:
    drop_revision(engine)
    with transaction(engine) as connection:
        metadata.drop_all(connection)
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('of MLflow')"))
    with opened(database_url) as again, snapshot(again) as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "of MLflow"
        assert revision_of(again) == revisions.revisions()[-1:]


def test_a_database_of_a_later_photoproof_is_refused_in_one_line(engine: Engine, database_url: str) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text(f"UPDATE {revisions.REVISION_TABLE} SET version_num = '9999'"))
    with pytest.raises(BadInput, match="of revision 9999, and this Photoproof knows those up to 0001") as caught:
        connect(database_url)
    assert "\n" not in str(caught.value)
    assert revision_of(engine) == ["9999"]


def test_an_older_database_is_upgraded_and_keeps_its_rows(
    engine: Engine, database_url: str, next_revision, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(engine)
    before = rows(engine)
    next_revision()
    root_level = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    try:
        with opened(database_url) as upgraded:
            assert revision_of(upgraded) == ["0002"]
            with snapshot(upgraded) as connection:
                assert connection.scalar(sa.text("SELECT shelf FROM products")) == "none"
            assert rows(upgraded) == before
            checks = [check["name"] for check in sa.inspect(upgraded).get_check_constraints("photos")]
            assert checks == ["label_source_is_no_model"]
    finally:
        logging.getLogger().setLevel(root_level)
    assert capfd.readouterr() == ("", "")


def test_an_upgrade_that_fails_changes_nothing(engine: Engine, database_url: str, next_revision) -> None:
    fill(engine)
    before, description = rows(engine), describe(engine)
    next_revision('op.execute("INSERT INTO nowhere VALUES (1)")')
    with pytest.raises(BadInput, match="nowhere"):
        connect(database_url)
    assert (rows(engine), describe(engine), revision_of(engine)) == (before, description, ["0001"])


def test_several_programs_may_make_or_upgrade_a_database_at_once(database_url: str, next_revision) -> None:
    def open_all() -> set[str]:
        with ThreadPoolExecutor(4) as pool:
            engines = list(pool.map(connect, [database_url] * 4))
        found = {revision for engine in engines for revision in revision_of(engine)}
        for engine in engines:
            engine.dispose()
        return found

    assert open_all() == {"0001"}
    next_revision()
    assert open_all() == {"0002"}


def test_a_database_of_the_latest_revision_opens_without_alembic(tmp_path: Path) -> None:
    program = "import sys; from pipelines.database.engine import connect; connect(sys.argv[1]).dispose(); "
    program += "print('alembic' in sys.modules)"
    for _ in range(2):
        words = [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'database.sqlite'}"]
        assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "False\n"


def test_the_next_revision_is_written_from_what_tables_has_changed(next_revision, tmp_path: Path) -> None:
    next_revision()
    path = revisions.write_revision("the shelf goes again")
    assert path.name == "0003_the_shelf_goes_again.py"
    written = path.read_text()
    assert 'down_revision = "0002"' in written
    assert "batch_op.drop_column('shelf')" in written
    assert revisions.revisions()[-1] == "0003"
