"""What the client costs the application that uses it: import, dependencies, pictures."""

import io
import re
import subprocess
import sys
from importlib import metadata

import numpy as np
from PIL import Image

from benchmarks.model import Pairs
from benchmarks.timing import PEAK, Measurement, interleaved, median, ratio
from photoproof.pictures.formats import open_image
from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import SENT_SIDE, prepare

PHONE = (4032, 3024)
IMPORT = f"""
import sys, time
start = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - start
{PEAK}
print(seconds, peak)
"""


def rows(pairs: Pairs, seconds: float, imports: int) -> list[Measurement]:
    """All rows of the client; `imports` is how often each import is timed."""
    return [*import_rows(imports), size_row(), *picture_rows(pairs, seconds)]


def import_rows(times: int) -> list[Measurement]:
    """Import time and memory of photoproof, in processes of their own, against tensorflow_serving.apis."""
    costs: dict[str, list[tuple[float, float]]] = {"photoproof": [], "tensorflow_serving.apis.predict_pb2": []}
    for _ in range(times):
        for package, runs in costs.items():
            done = subprocess.run([sys.executable, "-c", IMPORT, package], capture_output=True, text=True, check=True)
            seconds, megabytes = map(float, done.stdout.split())
            runs.append((seconds, megabytes))
    (seconds, megabytes), (their_seconds, their_megabytes) = (np.median(runs, axis=0) for runs in costs.values())
    their = "tensorflow_serving.apis:"
    return [
        Measurement(
            "client", "import photoproof", f"{seconds:.2f} s ({their} {their_seconds:.1f} s)", seconds, 0.6, unit="s"
        ),
        Measurement(
            "client",
            "memory after import photoproof",
            f"{megabytes:.0f} MB ({their} {their_megabytes:.0f} MB)",
            megabytes,
            80,
            unit="MB",
        ),
    ]


def size_row() -> Measurement:
    """The files of the client's dependencies, and theirs, as installed here (from importlib.metadata)."""
    names = sorted(_with_dependencies("photoproof") - {"photoproof"})
    sizes = {name: _installed_bytes(name) / 1e6 for name in names}
    largest = ", ".join(f"{name} {sizes[name]:.0f}" for name in sorted(names, key=lambda name: -sizes[name])[:3])
    total = sum(sizes.values())
    what = f"the client's {len(names)} dependencies, installed"
    return Measurement("client", what, f"{total:.0f} MB ({largest})", total, 120, unit="MB")


def picture_rows(pairs: Pairs, seconds: float) -> list[Measurement]:
    """A phone's photo made small, the test for copies, and what is uploaded."""
    phone = phone_photo(pairs[0][1])
    original, photo = pairs[0]
    ready = prepare(original), prepare(photo)
    large = interleaved(
        {
            "prepare": lambda: prepare(phone),
            "decode": lambda: _decoded(phone),
            "reduce": lambda: _decoded(phone).resize((SENT_SIDE, SENT_SIDE * 3 // 4), Image.Resampling.BICUBIC),
        },
        seconds / 2,
    )
    small = interleaved(
        {
            "prepare": lambda: prepare(photo),
            "decode": lambda: _decoded(photo),
            "identical": lambda: copy_reason(*ready),
        },
        seconds / 2,
    )
    sent = len(prepare(phone).image_bytes)
    uploaded = sum(len(prepare(picture).image_bytes) for pair in pairs for picture in pair)
    stored = sum(len(picture) for pair in pairs for picture in pair)
    medians = {name: median(times) for name, times in large.items()}
    of_phone = []
    for name, what in {"decode": "decoded whole", "reduce": "decoded whole, then reduced as much"}.items():
        cost = ratio(large["prepare"], large[name])
        text = f"{cost:.2f}x ({medians['prepare']:.0f} ms against {medians[name]:.0f})"
        of_phone.append(Measurement("client", f"a 12 Mpx JPEG made ready against {what}", text, cost, 0.5))
    upload_text = f"{sent / len(phone):.2f}x ({sent / 1e3:.0f} KB of {len(phone) / 1e3:.0f})"
    preparing, comparing = median(small["prepare"]), median(small["identical"])
    prepare_text = f"{preparing:.2f} ms (decoded whole: {median(small['decode']):.2f})"
    return [
        *of_phone,
        Measurement("client", "its upload against the file", upload_text, sent / len(phone)),
        Measurement(
            "client", "upload of 21 KB pictures against the files", f"{uploaded / stored:.2f}x", uploaded / stored
        ),
        Measurement("client", "a 21 KB picture, sent as it is, made ready", prepare_text, preparing, unit="ms"),
        Measurement(
            "client", "the test whether it is a copy (`identical`)", f"{comparing:.3f} ms", comparing, unit="ms"
        ),
    ]


def phone_photo(photo: bytes) -> bytes:
    """A photo at a phone's 12 Mpx, with as much noise as makes a file of 3 to 4 MB."""
    large = np.asarray(Image.open(io.BytesIO(photo)).resize(PHONE, Image.Resampling.BICUBIC), np.int16)
    noise = np.random.default_rng(2).normal(0, 9, (PHONE[1], PHONE[0], 1)).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _decoded(image_bytes: bytes) -> Image.Image:
    image, _ = open_image(image_bytes)
    image.load()
    return image


def _with_dependencies(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Names of a distribution and of all that it needs here without extras."""
    from packaging.requirements import Requirement

    names = {name, *seen}
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if needed not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names |= _with_dependencies(needed, frozenset(names))
    return names


def _installed_bytes(name: str) -> int:
    files = metadata.files(name) or []
    return sum(path.stat().st_size for file in files if (path := file.locate()).is_file())  # type: ignore[union-attr]
