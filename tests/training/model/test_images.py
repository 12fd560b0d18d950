import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from training.model.images import decode, decode_batch

SIZE = 48
MAX_PIXELS = 200_000


def encoded(mode: str = "RGB", kind: str = "JPEG", size: tuple[int, int] = (160, 120), seed: int = 0) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.convert(mode).save(out, kind)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))


@pytest.fixture(scope="module")
def isolating(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], tuple[np.ndarray, np.ndarray]]:
    """decode_batch as it is served: saved, loaded and run by the C++ session."""
    folder = str(tmp_path_factory.mktemp("saved") / "decode")
    module = tf.Module()
    form = [tf.TensorSpec([None], tf.string, name="image_bytes")]

    @tf.function(input_signature=form)
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        pictures, decoded = decode_batch(image_bytes, SIZE, MAX_PIXELS)
        return {"pictures": pictures, "decoded": decoded}

    module.serve = serve  # pyright: ignore[reportAttributeAccessIssue]
    tf.saved_model.save(module, folder, signatures={"serve": serve})
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = meta.signature_def["serve"]
    outputs = [signature.outputs[name].name for name in ("pictures", "decoded")]

    def run(rows: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        given = np.array(rows, object) if rows else np.empty([0], object)
        pictures, decoded = session.run(outputs, {signature.inputs["image_bytes"].name: given})
        return pictures, decoded

    return run


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
    ],
)
def test_every_kind_of_jpeg_and_png_becomes_rgb(mode: str, kind: str) -> None:
    if mode == "I;16":
        out = io.BytesIO()
        Image.fromarray(np.full((50, 60), 32768, np.uint16)).save(out, "PNG")
        data = out.getvalue()
    else:
        data = encoded(mode, kind)
    picture = decode(tf.constant(data), SIZE).numpy()
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() < picture.max() + 1e-6 <= 1 + 1e-6


def test_a_decoded_picture_is_what_pillow_decodes() -> None:
    for kind in ("PNG", "JPEG"):
        data = encoded(kind=kind, size=(1000, 700))
        expected = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        difference = np.abs(decode(tf.constant(data), SIZE).numpy() * 255 - np.asarray(expected, np.float32))
        assert difference.mean() < 1.5


def test_what_is_transparent_lies_on_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(out, "PNG")
    assert decode(tf.constant(out.getvalue()), SIZE).numpy().min() == 1.0


def test_a_gif_is_no_picture() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG nor PNG"):
        decode(tf.constant(encoded("P", "GIF")), SIZE)


def test_bad_bytes_spoil_only_their_own_row(isolating: Callable) -> None:
    jpeg, png = encoded(seed=1), encoded(kind="PNG", seed=2)
    garbled = bytearray(png)
    garbled[60:90] = bytes(30)
    good = [jpeg, png, encoded("L", seed=3), encoded("CMYK", seed=4)]
    bad = [
        b"",
        b"\xff",
        b"no picture",
        jpeg[: len(jpeg) // 2],
        jpeg[:20],
        png[:-40],
        bytes(garbled),
        encoded(size=(900, 900)),
        png_header(60_000, 60_000),
        png_header(0, 10),
        b"\xff\xd8\xff" + bytes(100),
        encoded("P", "GIF"),
    ]
    rows = [row for at in range(len(bad)) for row in (bad[at], good[at % len(good)])]
    pictures, decoded = isolating(rows)
    assert decoded.tolist() == [False, True] * len(bad)
    assert not pictures[::2].any()
    for at, picture in enumerate(pictures[1::2]):
        alone, decoded = isolating([good[at % len(good)]])
        assert decoded.all()
        np.testing.assert_allclose(picture, alone[0], atol=1e-6)


def test_a_transparent_picture_lies_on_white_beside_others(isolating: Callable) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(out, "PNG")
    jpeg = encoded(seed=6)
    pictures, decoded = isolating([jpeg, out.getvalue()])
    assert decoded.all()
    assert pictures[1].min() == 1.0
    np.testing.assert_allclose(pictures[0], isolating([jpeg])[0][0], atol=1e-6)


def test_the_served_decode_is_the_one_that_training_reads_through(isolating: Callable) -> None:
    data = encoded(size=(300, 500), seed=5)
    np.testing.assert_allclose(isolating([data])[0][0], decode(tf.constant(data), SIZE).numpy(), atol=1e-6)


def test_a_batch_of_nothing_is_decoded_into_nothing(isolating: Callable) -> None:
    pictures, decoded = isolating([])
    assert pictures.shape == (0, SIZE, SIZE, 3)
    assert decoded.shape == (0,)


def test_a_batch_of_rubbish_is_decoded_into_zeros(isolating: Callable) -> None:
    pictures, decoded = isolating([b"", b"x"])
    assert not pictures.any()
    assert not decoded.any()


def test_a_picture_of_just_the_allowed_pixels_is_decoded(isolating: Callable) -> None:
    assert isolating([encoded(size=(500, 400))])[1].all()
    assert not isolating([encoded(size=(501, 400))])[1].any()


def test_decode_works_in_a_data_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(encoded())
    dataset = tf.data.Dataset.from_tensors(str(path)).map(lambda name: decode(tf.io.read_file(name), SIZE))
    assert dataset.get_single_element().shape == (SIZE, SIZE, 3)
