"""A real exported model behind the real local server process, batching on, and what must not matter to its callers."""

import hashlib
import io
import itertools
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from photoproof import Verdict, Verifier

CALLERS = 64
CALLS_EACH = 6
MIB = 2**20


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pairs_of(served, count: int) -> list[tuple[Path, Path]]:
    """So many pairs, photos and originals in turn."""
    both = zip(itertools.cycle(served.originals), itertools.cycle(served.photos), strict=True)
    return list(itertools.islice(both, count))


def answered_once(answers: list, pairs: list[tuple[Path, Path]]) -> bool:
    """Each pair has its verdict, in its place."""
    assert [answer for answer in answers if not isinstance(answer, Verdict)] == []
    asked = [(sha256(original), sha256(photo)) for original, photo in pairs]
    return [(answer.original_sha256, answer.photo_sha256) for answer in answers] == asked


@pytest.mark.slow
def test_a_server_killed_and_started_again_under_load_loses_no_pair(photoproof, launch):
    flags = [
        f"--model_base_path={photoproof.config.parent / 'product-encoder'}",
        "--model_name=product-encoder",
        "--grpc_max_threads=128",
    ]
    server = launch(*flags)
    pairs = pairs_of(photoproof, 400)
    some, successor = threading.Event(), []

    def restart() -> None:
        some.wait(60)
        server.process.kill()
        server.process.wait()
        successor.append(launch(*flags, f"--port={server.grpc_port}"))

    thread = threading.Thread(target=restart)
    thread.start()
    answers = []
    with Verifier(server.grpc_url, label=None, timeout=300) as verifier:
        for answer in verifier.verify_many(pairs, concurrency=8):
            answers.append(answer)
            if len(answers) == 40:
                some.set()
    thread.join()
    successor[0].stop()
    assert server.process.returncode == -9
    assert answered_once(answers, pairs)


@pytest.mark.slow
def test_a_version_swapped_under_load_fails_no_call(serve_photoproof):
    served = serve_photoproof()
    swapped = threading.Event()
    asked, answers = [], []

    def until_swapped() -> Iterator[tuple[Path, Path]]:
        for pair in itertools.cycle(pairs_of(served, 60)):
            if swapped.is_set():
                return
            asked.append(pair)
            yield pair

    def swap() -> None:
        with Verifier(served.server.grpc_url, label=None, timeout=60) as other:
            served.publish(1, 1, 2)
            wait_for(lambda: available(other) == {1, 2})
            served.publish(2, 1, 2)
            wait_for(lambda: getattr(answers[-1], "model_version", None) == 2)
            served.publish(2, 2)
            wait_for(lambda: available(other) == {2})
        swapped.set()

    with Verifier(served.server.grpc_url, timeout=120, retries=0) as verifier, ThreadPoolExecutor(1) as pool:
        change = None
        for answer in verifier.verify_many(until_swapped(), concurrency=8):
            answers.append(answer)
            if len(answers) == 20:
                change = pool.submit(swap)
                change.add_done_callback(lambda _: swapped.set())
        assert change
        change.result()
    assert answered_once(answers, asked)
    assert [version for version, _ in itertools.groupby(answer.model_version for answer in answers)][-1] == 2


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def available(verifier: Verifier) -> set[int]:
    return {version.version for version in verifier.status().versions if version.state == "AVAILABLE"}


def png(width: int, height: int, depth: int = 8, colour: int = 2, pixels: bytes | None = None) -> bytes:
    """A PNG; without pixels its header alone."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    made = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return made if pixels is None else made + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def even_png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A whole PNG of one colour, which packs a thousandfold."""
    row = bytes(1 + (width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8)
    packer = zlib.compressobj(9)
    return png(width, height, depth, colour, b"".join(packer.compress(row) for _ in range(height)) + packer.flush())


def encoded(image: Image.Image, name: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (120, 90)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode)


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


@pytest.fixture(scope="module")
def bad_pictures() -> dict[str, bytes]:
    """What no model should read, by name."""
    jpeg, deep, gray = encoded(noise(), "JPEG"), encoded(noise(), "PNG"), encoded(noise("L"), "JPEG")
    progressive = encoded(noise(), "JPEG", progressive=True)
    garbled, header = bytearray(deep), bytearray(deep)
    garbled[200:260], header[16:24] = bytes(60), bytes(8)
    pixels = zlib.compress(bytes(300))
    pictures = {
        f"{name} cut at {part} %": whole[: len(whole) * part // 100]
        for name, whole in {
            "a JPEG": jpeg,
            "a gray JPEG": gray,
            "a progressive JPEG": progressive,
            "a PNG": deep,
        }.items()
        for part in (1, 5, 25, 50, 90)
    }
    pictures |= {f"{name}, which is neither": encoded(noise(), name) for name in ("GIF", "BMP", "WEBP", "TIFF", "PPM")}
    return pictures | {
        "nothing": b"",
        "one byte": b"\xff",
        "words": b"no picture at all",
        "zeros": bytes(5000),
        "a web page": b"<!DOCTYPE html><html></html>",
        "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a PDF": b"%PDF-1.7\n",
        "base64 of a JPEG": b"/9j/4AAQSkZJRgABAQ==",
        "JPEG's first bytes and zeros": b"\xff\xd8\xff" + bytes(300),
        "PNG's first bytes and zeros": b"\x89PNG\r\n\x1a\n" + bytes(300),
        "a JPEG after a line break": b"\n" + jpeg,
        "a JPEG of no height": with_size(jpeg, 120, 0),
        "a JPEG of 65,500 x 65,500": with_size(jpeg, 65_500, 65_500),
        "a JPEG of 5,200 x 5,000": with_size(jpeg, 5_200, 5_000),
        "a PNG garbled in the middle": bytes(garbled),
        "a PNG of no size": bytes(header),
        "a PNG without pixels": png(64, 64) + deep[-12:],
        "a PNG with too few pixels": png(64, 64, pixels=pixels),
        "a PNG whose pixels are no zlib": png(64, 64, pixels=bytes(range(256))),
        "a PNG of a colour type that is none": png(10, 10, colour=5, pixels=pixels),
        "a PNG of 60,000 x 60,000": png(60_000, 60_000, pixels=b""),
        "a PNG of two billion pixels a side": png(2**31 - 1, 2**31 - 1, pixels=b""),
        "a real PNG of 400 megapixels": even_png(20_000, 20_000, 1, 0),
        "a real PNG of 26 megapixels": even_png(5_200, 5_000, 8, 6),
    }


def request(original: bytes, photo: bytes, *more: bytes) -> predict_pb2.PredictRequest:
    """A `verify` call of one original and its photos."""
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "product-encoder", "verify"
    made.model_spec.version_label = "stable"
    made.inputs["photo_bytes"].CopyFrom(tf.make_tensor_proto([photo, *more]))
    made.inputs["original_bytes"].CopyFrom(tf.make_tensor_proto([original] * (1 + len(more))))
    return made


@pytest.fixture
def stub(photoproof) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{photoproof.server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_there_are_at_least_forty_bad_pictures(bad_pictures):
    assert len(bad_pictures) >= 40


def test_every_bad_picture_is_undecoded_in_its_own_row_alone(photoproof, stub, bad_pictures):
    original, photo = (path.read_bytes() for path in (photoproof.originals[0], photoproof.photos[0]))
    (alone,) = stub.Predict(request(original, photo), timeout=60).outputs["probability"].float_val
    rows = [picture for bad in bad_pictures.values() for picture in (bad, photo)]
    answer = stub.Predict(request(original, *rows), timeout=120)
    decoded = list(answer.outputs["decoded"].bool_val)
    assert [name for name, read in zip(bad_pictures, decoded[::2], strict=True) if read] == []
    assert all(decoded[1::2])
    probability = list(answer.outputs["probability"].float_val)
    assert probability[::2] == [0.0] * len(bad_pictures)
    assert probability[1::2] == pytest.approx([alone] * len(bad_pictures), abs=1e-5)


class Memory:
    """The most memory that a process had resident since `begin`, in bytes, beside what it had then."""

    def __init__(self, pid: int):
        self._folder = Path(f"/proc/{pid}")

    def begin(self) -> None:
        (self._folder / "clear_refs").write_text("5")
        self.before = self._read("VmRSS")

    def grown(self) -> int:
        return self._read("VmHWM") - self.before

    def _read(self, name: str) -> int:
        line = next(line for line in (self._folder / "status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_one_caller_in_eight_sends_rubbish_and_the_others_notice_nothing(photoproof, stub, bad_pictures):
    """Broken bytes, and bombs: over the limit, and of just the pixels that are allowed."""
    original = photoproof.originals[0].read_bytes()
    photos = [path.read_bytes() for path in photoproof.photos[:: len(photoproof.photos) // CALLERS][:CALLERS]]
    allowed = [even_png(4_990, 5_000, 8, colour) for colour in (2, 6)]
    bombs = [bad_pictures[name] for name in ("a real PNG of 400 megapixels", "a PNG of 60,000 x 60,000", "words")]
    rubbish = [*bombs, *allowed, *(bad_pictures[f"a JPEG cut at {part} %"] for part in (5, 50, 90))]
    barrier = threading.Barrier(CALLERS)

    def call(photo: bytes) -> list[tuple[bool, float]]:
        barrier.wait(60)
        rows = []
        for _ in range(CALLS_EACH):
            answer = stub.Predict(request(original, photo), timeout=300).outputs
            rows.append((answer["decoded"].bool_val[0], answer["probability"].float_val[0]))
        return rows

    with ThreadPoolExecutor(CALLERS) as pool:
        before = list(pool.map(call, photos))
        memory = Memory(photoproof.server.process.pid)
        memory.begin()
        sent = [rubbish[at // 8] if at % 8 == 0 else photo for at, photo in enumerate(photos)]
        after = list(pool.map(call, sent))
    grown = memory.grown()
    for at in range(CALLERS):
        if at % 8:
            assert [decoded for decoded, _ in after[at]] == [True] * CALLS_EACH
            assert [score for _, score in after[at]] == pytest.approx([before[at][0][1]] * CALLS_EACH, abs=1e-5)
        elif sent[at] not in allowed:
            assert after[at] == [(False, 0.0)] * CALLS_EACH
    assert grown < 300 * MIB, f"{grown / MIB:.0f} MiB more"
