"""Plain picture files against tar shards: what each costs DVC and a reader.

    python -m benchmarks.shards --pictures 50000

Shards are content-addressed (named by their SHA-256) and append-only: new pictures become a new shard. The numbers are
behind docs/decisions/0011-plain-files-not-shards.md.
"""

import argparse
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEW, PICTURE_BYTES, IN_A_SHARD, READ = 100, 4096, 1000, 5000


def pictures(start: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes, always the same for a number."""
    for number in range(start, start + count):
        yield f"picture-{number:08}.jpg", random.Random(number).randbytes(PICTURE_BYTES)


def write_files(data: Path, start: int, count: int) -> None:
    """Each picture as a file."""
    for name, content in pictures(start, count):
        (data / name).write_bytes(content)


def write_shards(data: Path, start: int, count: int) -> None:
    """Tar files of at most IN_A_SHARD pictures."""
    for first in range(start, start + count, IN_A_SHARD):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in pictures(first, min(IN_A_SHARD, start + count - first)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        (data / f"{hashlib.sha256(out.getvalue()).hexdigest()[:20]}.tar").write_bytes(out.getvalue())


def read_files(data: Path) -> int:
    """READ pictures in random order."""
    names = sorted(os.listdir(data))
    return sum(len((data / name).read_bytes()) for name in random.Random(1).choices(names, k=READ))


def read_shards(data: Path) -> int:
    """The same out of shards, whose index (offset and size of each picture) is read first."""
    places = []
    for path in sorted(data.iterdir()):
        with tarfile.open(path) as tar:
            places += [(path, entry.offset_data, entry.size) for entry in tar]
    opened = {path: path.open("rb") for path, *_ in places}
    total = 0
    for path, offset, size in random.Random(1).choices(places, k=READ):
        opened[path].seek(offset)
        total += len(opened[path].read(size))
    for file in opened.values():
        file.close()
    return total


def measure(count: int, write: Callable[[Path, int, int], None], read: Callable[[Path], int]) -> dict[str, str]:
    """What each step took: seconds, and the processor time in brackets."""
    took: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder), Path(folder, "data")
        data.mkdir()

        def timed(what: str, step: Callable[[], object]) -> None:
            started, used = time.perf_counter(), sum(os.times()[:4])
            step()
            took[what] = f"{time.perf_counter() - started:.1f} s ({sum(os.times()[:4]) - used:.1f})"

        def dvc(*words: str) -> Callable[[], object]:
            command = [sys.executable, "-m", "dvc", *words, "--quiet"]
            return lambda: subprocess.run(command, cwd=root, check=True)

        dvc("init", "--no-scm")()
        dvc("remote", "add", "--default", "store", str(root / "store"))()
        timed("write all", lambda: write(data, 0, count))
        timed("dvc add, all", dvc("add", "data"))
        timed("dvc push, all", dvc("push"))
        timed(f"write {NEW} more", lambda: write(data, count, NEW))
        timed(f"dvc add, {NEW} more", dvc("add", "data"))
        timed(f"dvc push, {NEW} more", dvc("push"))
        timed(f"read {READ:,} in random order", lambda: read(data))
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50_000)
    count = parser.parse_args().pictures
    plain, shards = measure(count, write_files, read_files), measure(count, write_shards, read_shards)
    print(f"| {count:,} pictures of {PICTURE_BYTES:,} bytes | plain files | shards of {IN_A_SHARD:,} |\n|---|---|---|")
    for what in plain:
        print(f"| {what} | {plain[what]} | {shards[what]} |")
