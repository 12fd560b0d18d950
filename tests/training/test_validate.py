"""The validate stage on small catalogues with one fault each."""

import hashlib
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from training.dataset import manifest
from training.dataset.releases import COLUMNS, write_released
from training.stage.errors import BadInput
from training.stage.params import Params, Validate
from training.stage.places import DISTRIBUTIONS, REFERENCE
from training.validate import validate

LENIENT = replace(Params(), validate=Validate(max_quarantine_share=0.9))


def picture(seed: int, size: tuple[int, int] = (64, 48), file_format: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, file_format)
    return out.getvalue()


def catalogue(root: Path, changed: dict[str, bytes | None] | None = None, **columns: object) -> Path:
    """A workspace with products a, b and photos a1, a2, b1, b2; `changed` replaces or removes files by id."""
    rows = []
    for seed, (role, picture_id) in enumerate(
        [("original", "a"), ("original", "b"), ("photo", "a1"), ("photo", "a2"), ("photo", "b1"), ("photo", "b2")]
    ):
        path = f"{role}s/{picture_id}.jpg"
        content = (changed or {}).get(picture_id, picture(seed))
        file = root / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            file.write_bytes(content)
        rows.append(
            {
                "role": role,
                "picture_id": picture_id,
                "product_id": picture_id[0],
                "name": picture_id[0].upper(),
                "category": "",
                "path": path,
                "sha256": hashlib.sha256(content or b"").hexdigest(),
                "label_source": "import" if role == "photo" else None,
            }
        )
    manifest.write_manifest(pa.Table.from_pylist(rows, schema=manifest.SCHEMA), root / "data" / "manifest.parquet")
    return root


def rewrite_manifest(root: Path, change) -> None:
    path = root / "data" / "manifest.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def report(root: Path, name: str) -> pa.Table:
    return pq.read_table(root / "reports" / "validation" / f"{name}.parquet")


def reasons(root: Path) -> dict[str, str]:
    table = report(root, "quarantine").to_pydict()
    return dict(zip(table["picture_id"], table["reason"], strict=True))


def test_a_sound_catalogue_is_accepted_whole(tmp_path):
    result = validate(catalogue(tmp_path), Params())
    assert (result.pictures, result.quarantined) == (6, 0)
    assert report(tmp_path, "accepted")["picture_id"].to_pylist() == ["a", "b", "a1", "a2", "b1", "b2"]


def test_accepted_rows_have_the_manifests_columns_and_the_measurements(tmp_path):
    validate(catalogue(tmp_path), Params())
    accepted = report(tmp_path, "accepted")
    assert accepted.column_names[: len(manifest.SCHEMA)] == manifest.SCHEMA.names
    assert set(accepted.column_names) >= {"decodes", "width", "sharpness", "perceptual_hash"}


def test_the_same_data_gives_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        root = catalogue(tmp_path / name, {"a1": b"no picture"})
        validate(root, LENIENT)
        folder = root / "reports" / "validation"
        files.append([(folder / file).read_bytes() for file in ("accepted.parquet", "quarantine.parquet")])
    assert files[0] == files[1]


def test_a_truncated_jpeg_is_set_aside_with_its_reason(tmp_path):
    validate(catalogue(tmp_path, {"a1": picture(9)[:-200]}), LENIENT)
    assert set(reasons(tmp_path)) == {"a1"}
    assert re.match(r"does not decode \(.*truncated.*\)", reasons(tmp_path)["a1"])


def test_a_missing_file_is_set_aside_with_its_reason(tmp_path):
    validate(catalogue(tmp_path, {"a1": None}), LENIENT)
    assert reasons(tmp_path) == {"a1": "does not decode (the file is missing)"}


def test_bytes_that_are_no_picture_are_set_aside(tmp_path):
    validate(catalogue(tmp_path, {"b2": b"\x00" * 500}), LENIENT)
    assert reasons(tmp_path) == {"b2": "does not decode (not a picture)"}


def test_a_picture_over_the_pixel_limit_is_set_aside_from_its_header(tmp_path):
    params = replace(LENIENT, export=replace(LENIENT.export, max_pixels=64 * 48))
    validate(catalogue(tmp_path, {"b1": picture(9, (65, 48))}), params)
    assert reasons(tmp_path) == {"b1": "does not decode (65 x 48 px are more than 0.003072 million pixels)"}


def test_a_tiny_picture_is_set_aside(tmp_path):
    validate(catalogue(tmp_path, {"a2": picture(9, (64, 20))}), LENIENT)
    assert reasons(tmp_path) == {"a2": "lower than 32 px"}


def test_a_blank_picture_is_set_aside(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "white").save(out, "PNG")
    validate(catalogue(tmp_path, {"a2": out.getvalue()}), LENIENT)
    assert "next to empty" in reasons(tmp_path)["a2"]


def test_a_webp_is_set_aside(tmp_path):
    validate(catalogue(tmp_path, {"a2": picture(9, file_format="WEBP")}), LENIENT)
    assert reasons(tmp_path) == {"a2": "neither JPEG nor PNG"}


def test_a_photo_that_is_a_copy_of_an_original_is_set_aside(tmp_path):
    validate(catalogue(tmp_path, {"b1": picture(0)}), LENIENT)
    assert reasons(tmp_path) == {"b1": "a copy of an original, not a photo"}


def test_a_photo_with_an_originals_pixels_is_set_aside(tmp_path):
    copy = io.BytesIO()
    Image.open(io.BytesIO(picture(0))).save(copy, "PNG")
    validate(catalogue(tmp_path, {"b1": copy.getvalue()}), LENIENT)
    assert reasons(tmp_path) == {"b1": "equal or nearly equal to an original, not a photo (a)"}


def test_a_photo_nearly_equal_to_an_original_is_set_aside_and_the_original_named(tmp_path):
    copy = io.BytesIO()
    Image.open(io.BytesIO(picture(0))).save(copy, "JPEG", quality=40)
    validate(catalogue(tmp_path, {"b1": copy.getvalue()}), LENIENT)
    assert reasons(tmp_path) == {"b1": "equal or nearly equal to an original, not a photo (a)"}


def release(root: Path, *ids: str) -> None:
    """A person lets photos in, as the pictures are now."""
    pictures = manifest.read_manifest(root / "data" / "manifest.parquet").set_index("picture_id")
    rows = [("photo", photo_id, pictures.sha256[photo_id], "ada", "2026-01-01") for photo_id in ids]
    write_released((dict(zip(COLUMNS, row, strict=True)) for row in rows), root / "data")


def test_a_released_picture_is_let_in_and_the_stage_says_so(tmp_path):
    root = catalogue(tmp_path, {"a2": picture(9, (64, 20))})
    release(root, "a2")
    result = validate(root, Params())
    assert str(result).startswith("6 pictures, 0 set aside, 1 let in by a person; ")
    accepted = report(tmp_path, "accepted").to_pylist()
    assert {row["picture_id"]: row["released"] for row in accepted if row["released"]} == {"a2": "lower than 32 px"}


def test_a_release_ends_when_the_picture_changes(tmp_path):
    release(catalogue(tmp_path, {"a2": picture(9, (64, 20))}), "a2")
    validate(catalogue(tmp_path, {"a2": picture(9, (64, 21))}), LENIENT)
    assert set(reasons(tmp_path)) == {"a2"}


def test_nobody_can_let_in_what_does_not_decode(tmp_path):
    root = catalogue(tmp_path, {"a2": b"no picture"})
    release(root, "a2")
    validate(root, LENIENT)
    assert set(reasons(tmp_path)) == {"a2"}


def darker(root: Path) -> Path:
    """The same catalogue with photos at a fifth of the light."""
    for path in (root / "data" / "photos").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 5).save(path)
    return root


def many(root: Path) -> Path:
    """A catalogue of 60 photos."""
    catalogue(root)
    rows = pq.read_table(root / "data" / "manifest.parquet").to_pylist()[:2]
    for number in range(60):
        path = root / "data" / "photos" / f"m{number}.jpg"
        path.write_bytes(picture(100 + number))
        row = rows[number % 2] | {"role": "photo", "picture_id": f"m{number}", "path": f"photos/{path.name}"}
        rows.append(row | {"sha256": f"{number}", "label_source": "import"})
    manifest.write_manifest(pa.Table.from_pylist(rows, schema=manifest.SCHEMA), root / "data" / "manifest.parquet")
    return root


def as_reference(root: Path, of: Path) -> Path:
    """The champion was trained on what `of` holds."""
    shutil.copy(of / DISTRIBUTIONS, root / REFERENCE)
    return root


@pytest.fixture
def champions(tmp_path) -> Path:
    validate(many(tmp_path / "champions"), Params())
    return tmp_path / "champions"


def test_without_a_champion_nothing_is_compared_and_the_stage_says_so(tmp_path):
    assert str(validate(catalogue(tmp_path), Params())).endswith("; no champion's data to compare with yet")


def test_the_champions_own_data_does_not_drift(tmp_path, champions):
    result = validate(as_reference(many(tmp_path / "new"), champions), Params())
    assert str(result).endswith("; no drift since data version data")


def test_photos_in_another_light_are_told_with_how_much_moved_and_let_in(tmp_path, champions):
    root = darker(as_reference(many(tmp_path / "new"), champions))
    result = validate(root, Params())
    light = r"drift since data version data: At most 20% of the photos, .* moved in light .* Not so: 100\.0%"
    assert re.search(light, str(result))
    assert len(report(root, "accepted")) == 62
    page = next((root / "reports/validation/data_docs/data/validations/drift").rglob("*.html")).read_text()
    assert "champion's data" in page and "by chance" in page and "fa-exclamation-triangle" in page


def test_drift_stops_the_stage_where_params_say_so(tmp_path, champions):
    params = replace(Params(), validate=Validate(stop_on_drift=True))
    root = darker(as_reference(many(tmp_path / "new"), champions))
    with pytest.raises(BadInput, match="moved in light since the champion's data"):
        validate(root, params)
    assert not (root / "reports" / "validation" / "accepted.parquet").exists()


def test_an_original_set_aside_takes_its_products_photos_along(tmp_path):
    validate(catalogue(tmp_path, {"a": b"no picture"}), LENIENT)
    set_aside = reasons(tmp_path)
    assert set(set_aside) == {"a", "a1", "a2"}
    assert set_aside["a1"] == "the original of its product a is set aside"


def test_every_picture_is_either_accepted_or_set_aside(tmp_path):
    validate(catalogue(tmp_path, {"a": b"no picture", "b1": None}), LENIENT)
    both = (
        report(tmp_path, "accepted")["picture_id"].to_pylist()
        + report(tmp_path, "quarantine")["picture_id"].to_pylist()
    )
    assert sorted(both) == ["a", "a1", "a2", "b", "b1", "b2"]


def test_too_many_set_aside_stop_the_stage(tmp_path):
    with pytest.raises(BadInput, match=r"16\.7% .* more than validate\.max_quarantine_share \(5\.0%\).*photo a1"):
        validate(catalogue(tmp_path, {"a1": b"no picture"}), Params())


def test_a_stopped_stage_leaves_no_accepted_rows_but_its_data_docs_and_quarantine(tmp_path):
    validate(catalogue(tmp_path), Params())
    with pytest.raises(BadInput):
        validate(catalogue(tmp_path, {"a1": b"no picture"}), Params())
    folder = tmp_path / "reports" / "validation"
    assert not (folder / "accepted.parquet").exists()
    assert (folder / "data_docs" / "index.html").exists()
    assert set(reasons(tmp_path)) == {"a1"}


def test_a_product_with_two_originals_stops_the_stage(tmp_path):
    def double(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        return pa.Table.from_pylist(
            [*rows, rows[0] | {"picture_id": "a'", "path": "originals/b'.jpg"}], manifest.SCHEMA
        )

    rewrite_manifest(catalogue(tmp_path), double)
    with pytest.raises(
        BadInput, match=r"breaks a promise: A product has one original\. Not so: original a, original a'"
    ):
        validate(tmp_path, LENIENT)


def test_a_photo_of_a_product_without_an_original_stops_the_stage(tmp_path):
    rewrite_manifest(catalogue(tmp_path), lambda table: table.slice(1))
    with pytest.raises(BadInput, match=r"A photo's product has an original\. Not so: photo a1, photo a2"):
        validate(tmp_path, LENIENT)


def test_a_doubled_id_stops_the_stage(tmp_path):
    rewrite_manifest(catalogue(tmp_path), lambda table: pa.concat_tables([table, table.slice(5)]))
    with pytest.raises(BadInput, match="No two pictures of a role have the same id"):
        validate(tmp_path, LENIENT)


def test_a_missing_column_stops_the_stage_and_is_named(tmp_path):
    rewrite_manifest(catalogue(tmp_path), lambda table: table.drop_columns(["sha256"]))
    with pytest.raises(BadInput, match=r"The manifest has its columns\. Not so: sha256 missing"):
        validate(tmp_path, LENIENT)
    assert (tmp_path / "reports" / "validation" / "data_docs" / "index.html").exists()


def test_an_empty_manifest_stops_the_stage(tmp_path):
    rewrite_manifest(catalogue(tmp_path), lambda table: table.slice(0, 0))
    with pytest.raises(BadInput, match="There are pictures"):
        validate(tmp_path, LENIENT)


def test_no_manifest_is_answered_with_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="photoproof ingest"):
        validate(tmp_path, Params())


def test_data_docs_load_nothing_from_elsewhere(tmp_path):
    validate(catalogue(tmp_path), Params())
    pages = list((tmp_path / "reports" / "validation" / "data_docs").rglob("*.html"))
    assert len(pages) == 10
    for page in pages:
        html = page.read_text()
        assert not re.findall(r"<(?:script|link|img)[^>]*https?://", html)
        for local in re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"([^\"#]+)\"", html):
            assert (page.parent / local.split("?")[0]).exists(), local


def test_data_docs_name_the_promises_and_the_pictures_that_break_them(tmp_path):
    validate(catalogue(tmp_path, {"a1": b"no picture"}), LENIENT)
    page = next(
        (tmp_path / "reports" / "validation" / "data_docs" / "data" / "validations" / "pictures").rglob("*.html")
    )
    assert "A picture decodes." in page.read_text()
    assert "a1" in page.read_text()
