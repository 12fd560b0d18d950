"""What 100 new pictures cost on top of many: ingest and `dvc add`, beside `dvc add` alone on the same folder.

    python -m benchmarks.growth --on 1000 10000 50000

The pictures are one small JPEG with another comment each, made straight into an SQLite database in a scratch workspace.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from benchmarks.timing import PEAK, Row
from pipelines.database.engine import connect, transaction
from pipelines.database.tables import photos, products

NEW = 100
TURNS = 3
"""So often is a hundred new ones measured; the turn with the least processor time counts, as start-up's varies by more
than 10,000 pictures take."""
PHOTOS_OF_A_PRODUCT = 20
INGEST = """
import sys
from pathlib import Path
from pipelines.data.ingest import ingest
from pipelines.database.engine import connect
ingest(connect(sys.argv[1]), Path("data"), progress=False)
"""
COMMIT = """
from pathlib import Path
from pipelines.data import history, versioning
from pipelines.workspace.places import Workspace
workspace = Workspace(Path.cwd())
history.commit(workspace, versioning.read_version(workspace))
"""
TOLD = f"""{PEAK}
print("peak", peak)
"""


@dataclass(frozen=True)
class Run:
    """A process: how long it took, the processor's share of that, and the most memory that it had."""

    seconds: float
    cpu_seconds: float
    megabytes: float
    """0 where it is not ours to ask."""


class Scratch:
    """A git and DVC repository whose database grows."""

    def __init__(self, root: Path):
        self.root = root
        self.url = f"sqlite:///{root / 'database.sqlite'}"
        self._made = self._by_hand = 0
        root.mkdir(parents=True)
        who = ["-c", "user.name=Growth", "-c", "user.email=growth@localhost"]
        for command in (
            ["git", "init", "--quiet"],
            ["git", *who, "commit", "--quiet", "--allow-empty", "-m", "A workspace"],
            [sys.executable, "-m", "dvc", "init", "--quiet"],
        ):
            subprocess.run(command, cwd=root, check=True)
        out = io.BytesIO()
        Image.new("RGB", (16, 16), "teal").save(out, "JPEG")
        self._jpeg = out.getvalue()

    def grow(self, to: int) -> None:
        """Add pictures to the database until it has so many: an original, then its photos, and so on."""
        engine = connect(self.url)
        while self._made < to:
            rows = [self._row(number) for number in range(self._made, min(to, self._made + 5000))]
            with transaction(engine) as connection:
                for table in (products, photos):
                    if some := [row for of, row in rows if of is table]:
                        connection.execute(sa.insert(table), some)
            self._made += len(rows)
        engine.dispose()

    def ingest(self) -> Run:
        """Bring data/ to what the database has."""
        return self._run([sys.executable, "-c", INGEST + TOLD, self.url])

    def add(self) -> Run:
        """`dvc add data`."""
        return self._run([sys.executable, "-m", "dvc", "add", "--quiet", "data"])

    def commit(self) -> Run:
        """Commit data.dvc, with a message that says what changed."""
        return self._run([sys.executable, "-c", COMMIT + TOLD])

    def put_by_hand(self, count: int) -> None:
        """So many new files into data/, as if somebody else had made them; the next ingest removes them."""
        for _ in range(count):
            self._by_hand += 1
            (self.root / f"data/photos/by-hand-{self._by_hand}.jpg").write_bytes(self._picture(-self._by_hand))

    def _row(self, number: int) -> tuple[sa.Table, dict[str, object]]:
        product = f"p{number // PHOTOS_OF_A_PRODUCT:06}"
        row: dict[str, object] = {"image_bytes": self._picture(number), "sha256": f"{number:064x}"}
        if number % PHOTOS_OF_A_PRODUCT == 0:
            return products, row | {"product_id": product, "name": product, "category": "all"}
        named = {"photo_id": f"{product}-{number:07}", "product_id": product, "label_source": "import"}
        return photos, row | named | {"scene": f"{product}/1"}

    def _picture(self, number: int) -> bytes:
        comment = f"{self._made}:{number}".encode()
        return self._jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + self._jpeg[2:]

    def _run(self, command: list[str]) -> Run:
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=self.root, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            said = child.stdout.read().split()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{command[1:3]} ended with {child.returncode}")
        seconds = time.perf_counter() - started
        megabytes = float(said[-1]) if said[-2:-1] == ["peak"] else 0.0
        return Run(seconds, used.ru_utime + used.ru_stime, megabytes)


def _processor(run: Run) -> float:
    return run.cpu_seconds


def rows(folder: Path, sizes: list[int]) -> list[Row]:
    """For each size the rows of 100 new pictures on top of it."""
    scratch, found = Scratch(folder), []
    least: tuple[Run, Run] | None = None
    for size in sizes:
        scratch.grow(size)
        first, first_add = scratch.ingest(), scratch.add()
        scratch.commit()
        turns: list[Run] = []
        for _ in range(TURNS):
            scratch.put_by_hand(NEW)
            turns.append(scratch.add())
        alone = min(turns, key=_processor)
        scratch.ingest()
        scratch.add()
        both: list[tuple[Run, Run]] = []
        for turn in range(TURNS):
            scratch.grow(size + (turn + 1) * NEW)
            both.append((scratch.ingest(), scratch.add()))
        ingested, added = (min(runs, key=_processor) for runs in zip(*both, strict=True))
        committed = scratch.commit()
        on = f"{NEW} new on {size:,}"
        cost = (ingested.seconds + added.seconds) / alone.seconds
        told = f"{cost:.2f}x ({ingested.seconds:.1f} s + {added.seconds:.1f} s against {alone.seconds:.1f} s)"
        found.append(Row("growth", f"{on}: ingest and dvc add, against dvc add alone", told, cost))
        told = f"{ingested.cpu_seconds:.1f} s, {alone.cpu_seconds:.1f} s"
        found.append(Row("growth", f"{on}: processor time of ingest, of dvc add alone", told, ingested.cpu_seconds))
        if least:
            more = ingested.cpu_seconds - least[0].cpu_seconds, alone.cpu_seconds - least[1].cpu_seconds
            cost = more[0] / max(more[1], 0.1)
            told = f"{cost:.2f}x ({more[0]:.1f} s of processor time against {more[1]:.1f})"
            what = f"{on} instead of {sizes[0]:,}: what ingest grows by, against what dvc add alone grows by"
            found.append(Row("growth", what, told, cost, 1.0))
        least = least or (ingested, alone)
        found.append(
            Row("growth", f"{on}: peak memory of ingest", f"{ingested.megabytes:.0f} MB", ingested.megabytes, unit="MB")
        )
        told = f"{committed.megabytes:.0f} MB ({committed.cpu_seconds:.1f} s of processor time)"
        found.append(
            Row("growth", f"{on}: peak memory of the commit that says so", told, committed.megabytes, unit="MB")
        )
        told = f"{first.seconds:.1f} s ({first.megabytes:.0f} MB), {first_add.seconds:.1f} s"
        found.append(Row("growth", f"all {size:,}, most of them new: ingest, dvc add", told, first.seconds, unit="s"))
    shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", type=int, nargs="+", default=[1000, 10_000, 50_000], help="ascending")
    with tempfile.TemporaryDirectory() as temporary:
        for row in rows(Path(temporary, "growth"), parser.parse_args().on):
            print(f"| {row.what} | {row.measured} | {row.target} |")
