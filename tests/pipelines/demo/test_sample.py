"""The sample: always the same for a seed, in the form that import reads, small enough for the repository."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data.ingest import ingest
from pipelines.database.engine import connect
from pipelines.database.import_folder import import_folder
from pipelines.demo.drawing.products import PRODUCTS
from pipelines.demo.drawing.shapes import draw
from pipelines.demo.sample import draw_sample
from training.dataset.manifest import read_manifest
from training.dataset.splits import assign_splits
from training.stage.errors import BadInput
from training.stage.params import read_params


@pytest.fixture(scope="session")
def ingested(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ of the sample."""
    root = tmp_path_factory.mktemp("ingested")
    engine = connect(f"sqlite:///{root / 'database.sqlite'}")
    report = import_folder(engine, sample)
    assert (report.products.new, report.photos.new, report.refused) == (24, 300, [])
    ingest(engine, root / "data")
    engine.dispose()
    return root / "data"


@pytest.fixture
def unfinished(sample: Path, tmp_path: Path) -> Path:
    """What a drawing leaves that was killed: some pictures, and no table yet."""
    folder = tmp_path / "unfinished"
    (folder / "catalogue").mkdir(parents=True)
    for name in ("claims_truth.csv", "catalogue/soup-tomato.jpg"):
        (folder / name).write_bytes((sample / name).read_bytes())
    (folder / "catalogue/soda-lemon.jpg").write_bytes(b"half")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_unfinished_sample_cannot_be_imported(unfinished: Path, tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'database.sqlite'}")
    with pytest.raises(BadInput, match=r"has no catalogue\.csv"):
        import_folder(engine, unfinished)
    engine.dispose()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_also_where_a_drawing_was_killed(sample: Path, unfinished: Path) -> None:
    drawn = draw_sample(unfinished)
    assert (drawn.products, drawn.photos, drawn.claims) == (24, 288, 12)
    assert files(unfinished) == files(sample)


def test_all_that_is_versioned_has_at_most_six_megabytes(ingested: Path) -> None:
    assert sum(map(len, files(ingested).values())) <= 6_000_000
    assert len(files(ingested)) == 24 + 288 + 1


def test_every_product_has_an_original_a_twin_and_twelve_photos(sample: Path) -> None:
    photos = Counter(row["product_id"] for row in rows(sample / "photos.csv") if row["product_id"])
    assert set(photos.values()) == {12}
    assert set(photos) == {row["product_id"] for row in rows(sample / "catalogue.csv")}
    assert set(Counter(product.package for product in PRODUCTS).values()) == {2}
    assert len({row["category"] for row in rows(sample / "catalogue.csv")}) == 6


def test_a_third_of_the_claims_is_false_and_nothing_in_the_import_tells_which(sample: Path) -> None:
    truths = {row["photo_id"]: row["product_id"] for row in rows(sample / "claims_truth.csv")}
    claims = [row for row in rows(sample / "photos.csv") if row["claimed_product_id"]]
    assert len(claims) == len(truths) == 12
    assert sum(row["claimed_product_id"] != truths[row["photo_id"]] for row in claims) == 4
    for row in claims:
        assert row["product_id"] == ""
        assert not any(product.product_id in row["image"] + row["photo_id"] + row["scene"] for product in PRODUCTS)


def test_no_split_of_the_sample_is_empty(ingested: Path) -> None:
    params = read_params(Path(__file__).parents[3] / "params.yaml")
    split = assign_splits(read_manifest(ingested / "manifest.parquet"), params.split)
    photos = split[split.role == "photo"]
    assert set(photos[photos.known]["split"]) == {"train", "validation", "test"}


def test_originals_are_clean_on_white(sample: Path) -> None:
    for path in sorted((sample / "catalogue").iterdir()):
        pixels: np.ndarray = np.asarray(Image.open(path))
        assert pixels.shape == (256, 256, 3)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert border.min() > 245, path.name


def test_twins_share_their_outline_and_no_two_products_look_the_same() -> None:
    drawn = [np.asarray(draw(product, 128), np.int16) for product in PRODUCTS]
    for first, second in zip(drawn[::2], drawn[1::2], strict=True):
        outlines = [picture.min(axis=2) < 200 for picture in (first, second)]
        assert np.mean(outlines[0] != outlines[1]) < 0.06
    differences = [np.abs(picture - other).mean() for i, picture in enumerate(drawn) for other in drawn[:i]]
    assert min(differences) > 4


def test_photos_are_jpegs_that_are_not_copies_of_originals(sample: Path) -> None:
    original = np.asarray(Image.open(sample / "catalogue/tea-red-berry.jpg"), np.int16)
    for path in sorted((sample / "photos/tea-red-berry").iterdir()):
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert (image.format, image.size) == ("JPEG", (256, 256))
        assert np.abs(np.asarray(image, np.int16) - original).mean() > 10


@pytest.mark.parametrize("name", ["catalogue.csv", "thesis.txt"])
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadInput, match="holds something else"):
        draw_sample(tmp_path)
    assert files(tmp_path) == {name: b"mine"}


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sample").touch()
    with pytest.raises(BadInput, match="is a file"):
        draw_sample(tmp_path / "sample")
