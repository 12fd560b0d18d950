"""Measuring pictures on all cores (training/validation/measure.py) against plain decoding on one."""

import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from benchmarks.client import phone_photo
from benchmarks.model import Pairs
from benchmarks.timing import Measurement
from training.validation.measure import measure_all

MAX_PIXELS = 25_000_000
TURNS = 3


def rows(pairs: Pairs, folder: Path, scale: float) -> list[Measurement]:
    """A row for pictures as small as the bench's, and one for a phone's; `scale` is of how many are measured."""
    folder.mkdir(parents=True, exist_ok=True)
    small = [_write(folder / f"{number}.jpg", photo) for number, (_, photo) in enumerate(pairs)]
    phone = [_write(folder / "phone.jpg", phone_photo(pairs[0][1]))]
    return [
        _row("348 px, 21 KB", small, max(200, round(2000 * scale))),
        _row("12 Mpx", phone, max(100, round(100 * scale))),
    ]


def _row(what: str, files: Sequence[Path], count: int) -> Measurement:
    paths = [files[number % len(files)] for number in range(2 * count)]
    cores = os.cpu_count() or 1
    measured, decoded = [], []
    for _ in range(TURNS):  # in turns, so that a busy moment affects both
        # Twice as many less once as many: what the worker processes take to start is not in it.
        whole = _seconds(lambda: measure_all(paths, MAX_PIXELS)) - _seconds(
            lambda: measure_all(paths[:count], MAX_PIXELS)
        )
        measured.append(count / max(whole, 1e-3))
        to_decode = paths[: max(5, count // 20)]
        decoded.append(len(to_decode) / _seconds(lambda paths=to_decode: [_decode(path) for path in paths]))
    measuring, decoding = sorted(measured)[TURNS // 2], sorted(decoded)[TURNS // 2]
    share = measuring / (cores * decoding)
    text = f"{share:.2f}x ({measuring:,.0f} pictures/s on {cores} cores; decoding {decoding:,.0f}/s on one)"
    return Measurement(
        "validate", f"pictures measured against cores x plain decoding, {what}", text, share, 0.8, "least"
    )


def _decode(path: Path) -> None:
    Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _write(path: Path, image_bytes: bytes) -> Path:
    path.write_bytes(image_bytes)
    return path
