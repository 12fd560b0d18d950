"""Measure every picture of data/, check the promises of training/expectations.py, set aside what breaks them.

    dvc repro validate        or        python -m training.validate

Writes accepted.parquet and quarantine.parquet (the manifest's columns, the measurements, and in the
latter a reason) and Great Expectations' Data Docs to reports/validation/.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training import manifest, measure
from training.config import Params
from training.errors import BadInput
from training.tracking import data_version

REPORT = Path("reports/validation")


@dataclass(frozen=True)
class ValidateReport:
    """How many pictures were looked at and how many set aside."""

    pictures: int
    quarantined: int
    where: Path = REPORT

    def __str__(self) -> str:
        return f"{self.pictures:,} pictures, {self.quarantined:,} set aside"


def validate(root: Path, params: Params) -> ValidateReport:
    """Validate data/ below root and write reports/validation/.

    Raises BadInput, with the broken promises as its message, where the table breaks one or where more than
    params.validate.max_quarantine_share of the pictures are set aside. Data Docs are written all the same.
    """
    folder = root / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    accepted, quarantine = folder / "accepted.parquet", folder / "quarantine.parquet"
    for stale in (accepted, quarantine):
        stale.unlink(missing_ok=True)
    table = _read(root / "data" / "manifest.parquet")

    from training import expectations, suites  # Great Expectations takes seconds to import

    to_check = [expectations.structure()]
    pictures = table.to_pandas()
    measured = None
    if set(manifest.SCHEMA.names) <= set(table.column_names):
        paths = [root / "data" / path for path in table["path"].to_pylist()]
        measured = measure.measure_all(paths, params.export.max_pixels, params.validate.workers)
        pictures = _with_relations(pictures.join(measured.to_pandas()))
        to_check += [expectations.pictures(params.validate), expectations.leakage()]
    broken = suites.check(pictures, to_check, folder / "data_docs", data_version(root) or "data")
    docs = REPORT / "data_docs" / "index.html"

    of_table = [str(one) for one in broken if not one.promise.reason]
    if measured is None:
        missing = [name for name in manifest.SCHEMA.names if name not in table.column_names]
        of_table = [f"The manifest has its columns. Not so: {', '.join(missing)} missing"]
    if of_table or measured is None:
        raise BadInput(f"the data breaks {_counted(of_table, 'promise')}: {'; '.join(of_table)} (see {docs})")

    reasons = quarantine_reasons(pictures, {one.promise.reason: one.rows for one in broken})
    aside = pa.array([reason is not None for reason in reasons], pa.bool_())
    for field in measure.SCHEMA:
        table = table.append_column(field, measured[field.name])
    _write(table.filter(aside).append_column("reason", pa.array([r for r in reasons if r], pa.string())), quarantine)
    share = aside.true_count / len(table)
    if share > params.validate.max_quarantine_share:
        raise BadInput(
            f"{share:.1%} of the pictures are set aside, more than validate.max_quarantine_share "
            f"({params.validate.max_quarantine_share:.1%}): {'; '.join(map(str, broken))} (see {docs})"
        )
    _write(table.filter([reason is None for reason in reasons]), accepted)
    return ValidateReport(len(table), aside.true_count)


def quarantine_reasons(pictures: pd.DataFrame, broken: Mapping[str, Iterable[tuple[str, str]]]) -> Sequence[str | None]:
    """For each picture why it is set aside, or None.

    `broken` has for each reason the (role, picture_id) of the rows that it holds for. A photo whose product's
    original is set aside goes with it.
    """
    reasons: dict[tuple[str, str], list[str]] = {}
    for reason, rows in broken.items():
        for row in rows:
            reasons.setdefault(row, []).append(reason)
    keys = list(zip(pictures.role, pictures.picture_id, strict=True))
    lost = set(pictures.product_id[[key in reasons and key[0] == "original" for key in keys]])
    out: list[str | None] = []
    for key, product_id, trouble in zip(keys, pictures.product_id, pictures.trouble, strict=True):
        why = list(reasons.get(key, ()))
        if why and isinstance(trouble, str):
            why[0] += f" ({trouble})"
        if key[0] == "photo" and product_id in lost:
            why.append(f"the original of its product {product_id} is set aside")
        out.append("; ".join(why) or None)
    return out


def _with_relations(pictures: pd.DataFrame) -> pd.DataFrame:
    """The same rows with `has_original` (has its product an original?) and `copies_original` (any original)."""
    is_original = pictures.role == "original"
    originals = pictures[is_original]
    same_bytes = pictures.sha256.isin(originals.sha256)
    same_pixels = pictures.pixels_sha256.isin(originals.pixels_sha256.dropna())
    return pictures.assign(
        has_original=pictures.product_id.isin(originals.product_id),
        copies_original=(same_bytes | same_pixels) & ~is_original,
    )


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        manifest.read_manifest(path)
        raise
    except pa.ArrowInvalid as error:
        raise BadInput(f"{path} is not a Parquet file: {error}") from None


def _write(table: pa.Table, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def _counted(things: Sequence[str], noun: str) -> str:
    return f"a {noun}" if len(things) == 1 else f"{len(things)} {noun}s"


if __name__ == "__main__":
    from training.stage import run_stage

    run_stage("validate", validate)
