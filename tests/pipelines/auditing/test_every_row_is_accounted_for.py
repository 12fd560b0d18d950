"""A corpus of broken pictures and rows, by import, ingest, validation and audit: every row ends in one place."""

import csv
import io
import struct
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Engine

from pipelines.auditing.claims import audit_claims
from pipelines.data import quarantine
from pipelines.data.ingest import IngestReport, ingest
from pipelines.database.import_folder import ImportReport, import_folder
from pipelines.database.tables import audits, photos, verdicts
from training.dataset.manifest import read_manifest
from training.stage.params import Params, Validate
from training.validate import validate

PARAMS = replace(Params(), validate=Validate(max_quarantine_share=0.9))
PHOTO_COLUMNS = ("photo_id", "image", "product_id", "claimed_product_id", "scene", "taken_at")


def saved(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels by its header."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def broken_pictures(photo: bytes, original: bytes) -> dict[str, bytes]:
    """Pictures that a photo can be and should not."""
    image, of_original = (Image.open(io.BytesIO(picture)).convert("RGB") for picture in (photo, original))
    return {
        "truncated": photo[: len(photo) // 2],
        "text": b"this is not a picture",
        "flipped": bytes(byte ^ 0xFF for byte in photo),
        "bomb": bomb(),
        "white": saved(Image.new("RGB", (96, 80), "white")),
        "black": saved(Image.new("RGB", (96, 80), "black"), "PNG"),
        "tiny": saved(image.resize((20, 20)), "PNG"),
        "copy": original,
        "saved again": saved(of_original, quality=60),
        "webp": saved(image, "WEBP", quality=90),
        "turned": saved(image, exif=orientation(6)),
        "half": saved(image)[:-40],
    }


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


class Corpus:
    """The folder to import, and what became of it."""

    def __init__(self, root: Path, drawn: Path):
        self.folder = root / "import"
        (self.folder / "pictures").mkdir(parents=True)
        self.root = root
        products = [f"p{number}" for number in range(6)]
        drawn_originals = [(drawn / "originals" / f"product-{number:02}.png").read_bytes() for number in range(6)]
        originals = dict(zip(products, drawn_originals, strict=True))
        self.catalogue = [
            [product, f"Product {product}", "", self.picture(original)] for product, original in originals.items()
        ]
        picture_name = self.catalogue[0][3]
        self.catalogue += [
            ["p6", "Broken", "", self.picture(b"not a picture")],
            ["p0", "Again", "", picture_name],
            ["", "Nameless", "", picture_name],
            ["p7", "", "", picture_name],
            ["p8", "Lost", "", "pictures/nowhere"],
        ]
        self.photos: list[list[str]] = []
        for number, product in enumerate(products):
            for shot in range(8):
                picture = (drawn / "photos" / f"product-{number:02}_{shot:03}.jpg").read_bytes()
                truth, claim = (product, "") if shot < 5 else ("", f"p{(number + shot % 2) % 6}")
                self.add(f"{product}-{shot}", picture, truth, claim)
        good = (drawn / "photos" / "product-00_011.jpg").read_bytes()
        for name, picture in broken_pictures(good, originals["p1"]).items():
            self.add(f"truth {name}", picture, "p0", "")
            self.add(f"claim {name}", picture, "", "p1")
        self.add("of a broken original", (drawn / "photos" / "product-01_011.jpg").read_bytes(), "p6", "")
        self.add("claims a broken original", (drawn / "photos" / "product-01_010.jpg").read_bytes(), "", "p6")
        self.add("empty", b"", "p0", "")
        self.add("p0-0", good, "p1", "")
        self.add("", good, "p1", "")
        self.add("nobody's", good, "", "")
        self.add("unknown product", good, "p99", "")
        self.add("late", good, "p1", "", taken_at="tomorrow")
        self.photos.append(["lost", "pictures/nowhere", "p1", "", "", ""])
        self.photos.append(["outside", "../../etc/passwd", "p1", "", "", ""])
        self.photos.append(["short", picture_name])

    def picture(self, picture: bytes) -> str:
        """Write a picture; the name to import it by."""
        path = self.folder / "pictures" / str(len(list((self.folder / "pictures").iterdir())))
        path.write_bytes(picture)
        return f"pictures/{path.name}"

    def add(self, photo_id: str, picture: bytes, truth: str, claim: str, taken_at: str = "") -> None:
        self.photos.append([photo_id, self.picture(picture), truth, claim, "", taken_at])

    def write(self) -> None:
        for name, header, rows in (
            ("catalogue.csv", ("product_id", "name", "category", "image"), self.catalogue),
            ("photos.csv", PHOTO_COLUMNS, self.photos),
        ):
            with (self.folder / name).open("w", newline="") as file:
                csv.writer(file).writerows([header, *rows])


@pytest.fixture
def corpus(tmp_path: Path, evaluated) -> Corpus:
    made = Corpus(tmp_path, evaluated.root / "data")
    made.write()
    return made


def brought_in(corpus: Corpus, engine: Engine) -> tuple[ImportReport, IngestReport]:
    """Import, ingest and validate."""
    imported = import_folder(engine, corpus.folder, progress=False)
    ingested = ingest(engine, corpus.root / "data", progress=False)
    validate(corpus.root, PARAMS)
    quarantine.record(engine, "v", corpus.root / "reports" / "validation" / "quarantine.parquet")
    return imported, ingested


def test_every_row_of_a_broken_corpus_is_verified_accepted_set_aside_or_refused(corpus, engine, served):
    imported, ingested = brought_in(corpus, engine)
    audit_claims(engine, served, progress=False)

    places: Counter[tuple[str, str]] = Counter()
    accepted = read_manifest(corpus.root / "reports" / "validation" / "accepted.parquet")
    places.update(zip(accepted.role, accepted.picture_id, strict=True))
    aside = quarantine.list_set_aside(engine, "v")
    places.update((picture.role, picture.picture_id) for picture in aside)
    with engine.begin() as connection:
        audited = connection.execute(sa.select(audits.c.photo_id, audits.c.state)).all()
        known = set(connection.scalars(sa.select(photos.c.photo_id)))
        answered = connection.scalar(sa.select(sa.func.count()).select_from(verdicts))
    places.update(("photo", row.photo_id) for row in audited)

    assert imported.products.rows == len(corpus.catalogue) and imported.photos.rows == len(corpus.photos)
    assert set(places.values()) == {1}, "a row is in two places"
    assert {picture_id for role, picture_id in places if role == "photo"} == known
    refused = len(imported.refused)
    assert len(places) + refused == len(corpus.catalogue) + len(corpus.photos)
    assert ingested.originals + ingested.photos == len(accepted) + len(aside)
    assert ingested.photos_without_truth == len(audited)
    assert answered == sum(row.state != "refused" for row in audited)
    # Each way is taken, so that the sums say something.
    assert {row.state for row in audited} == {"verified", "identical", "refused"}
    assert refused == 4 + 9
    assert {picture.role for picture in aside} == {"original", "photo"}


def test_what_is_set_aside_of_a_broken_corpus_has_its_reason_and_what_is_fine_is_accepted(corpus, engine):
    brought_in(corpus, engine)
    reasons = {picture.picture_id: picture.reason for picture in quarantine.list_set_aside(engine, "v")}
    wanted = {
        "truth truncated": "does not decode",
        "truth text": "does not decode",
        "truth flipped": "does not decode",
        "truth bomb": "does not decode",
        "truth half": "does not decode",
        "truth white": "too bright",
        "truth black": "too dark",
        "truth tiny": "narrower than 32 px",
        "truth copy": "a copy of an original, not a photo",
        "truth saved again": "equal or nearly equal to an original, not a photo (p1)",
        "of a broken original": "the original of its product p6 is set aside",
        "p6": "does not decode",
    }
    assert set(reasons) == set(wanted)
    for name, reason in wanted.items():
        assert reasons[name].startswith(reason), name
