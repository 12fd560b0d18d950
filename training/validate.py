"""Measure the pictures of data/, check training/validation/expectations.py's promises, set aside what breaks them.

    dvc repro validate        or        python -m training.validate

Writes to reports/validation/: accepted.parquet (the manifest's columns, the measurements, and `released`: the reason
against a picture that a person let in), quarantine.parquet (the manifest's columns, the measurements, and a `reason`),
distributions.json, and Great Expectations' Data Docs of this data version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.dataset import manifest
from training.dataset.releases import NO_ORIGINAL, can_release, read_released
from training.stage.errors import BadInput
from training.stage.files import writing_whole
from training.stage.params import Params, Validate
from training.stage.places import (
    ACCEPTED,
    DATA,
    DATA_DOCS,
    DISTRIBUTIONS,
    MANIFEST,
    MEASURED,
    QUARANTINE,
    REFERENCE,
    VALIDATION,
)
from training.stage.tracking import data_version
from training.validation import data_docs, drift, measure, measure_cache
from training.validation.leakage import relate

if TYPE_CHECKING:
    from training.validation.suites import BrokenPromise


@dataclass(frozen=True)
class ValidateReport:
    """How many pictures were validated and set aside, and which distributions moved since the champion's data."""

    pictures: int
    quarantined: int
    released: int
    """Let in by a person in spite of a reason against them."""
    reference: str | None
    """The data version that they were compared with."""
    drifted: tuple[str, ...]
    """Promises about distributions that they break."""
    where: Path = VALIDATION

    def __str__(self) -> str:
        counts = f"{self.pictures:,} pictures, {self.quarantined:,} set aside"
        if self.released:
            counts += f", {self.released:,} let in by a person"
        if self.reference is None:
            return f"{counts}; no champion's data to compare with yet"
        since = f"since data version {self.reference[:12]}"
        return f"{counts}; drift {since}: {'; '.join(self.drifted)}" if self.drifted else f"{counts}; no drift {since}"


def validate(root: Path, params: Params) -> ValidateReport:
    """Validate data/ below root and write reports/validation/.

    Raises BadInput, with the broken promises as its message, where the table breaks one or where more than
    params.validate.max_quarantine_share of the pictures are set aside. Data Docs are written in these cases too, and
    the quarantine wherever the manifest could be read.
    """
    (root / VALIDATION).mkdir(parents=True, exist_ok=True)
    for stale in (ACCEPTED, QUARANTINE, DISTRIBUTIONS):
        (root / stale).unlink(missing_ok=True)
    table = _read(root / DATA / MANIFEST)
    version = data_version(root) or "data"
    reference = drift.read_reference(root / REFERENCE)

    from training.validation import expectations, suites  # Great Expectations takes seconds to import

    limits = params.validate
    to_check = [expectations.structure()]
    pictures = table.to_pandas()
    measured = None
    if set(manifest.SCHEMA.names) <= set(table.column_names):
        paths = [root / DATA / path for path in table["path"].to_pylist()]
        measured = measure_cache.measure_new(paths, params.export.max_pixels, root / MEASURED, params.workers)
        pictures = relate(pictures.join(measured.to_pandas()), params.split, limits.duplicate_distance)
        pictures = drift.add_columns(pictures)
        to_check += [expectations.pictures(limits), expectations.leakage(limits)]
        drifting = expectations.drifting(limits, reference)
        if drifting.promises:
            to_check.append(drifting)
    site = data_docs.folder_of(root / DATA_DOCS, version)
    reasons: list[str | None] = []
    overruled: list[str | None] = []
    with suites.checking(site, version) as check:
        broken = check(pictures, to_check)
        of_rows = [breach for breach in broken if breach.promise.reason]
        if measured is not None:
            reasons, overruled = set_aside_reasons(pictures, of_rows, read_released(root / DATA))
            set_aside = [reason is not None for reason in reasons]
            check(pictures.assign(set_aside=set_aside), [expectations.altogether(limits)])

    quarantined = sum(reason is not None for reason in reasons)
    released = sum(reason is not None for reason in overruled)
    stopped = _stop_reason(table, measured, broken, quarantined, limits)
    lines = [str(breach) for breach in broken] + ([f"{released:,} let in by a person"] if released else [])
    data_docs.write_summary(site, version, len(table), quarantined, lines, stopped)
    if measured is not None:
        for field in measure.SCHEMA:
            table = table.append_column(field, measured[field.name])
        is_quarantined = pa.array([reason is not None for reason in reasons], pa.bool_())
        quarantine_reasons = pa.array([reason for reason in reasons if reason], pa.string())
        _write(table.filter(is_quarantined).append_column("reason", quarantine_reasons), root / QUARANTINE)
    if stopped:
        raise BadInput(f"{stopped} (see {(site / 'index.html').relative_to(root)})")
    drift.write_reference(drift.Reference(version, drift.describe_all(pictures)), root / DISTRIBUTIONS)
    table = table.append_column("released", pa.array(overruled, pa.string()))
    _write(table.filter([reason is None for reason in reasons]), root / ACCEPTED)
    compared_with = reference.data_version if reference.distributions else None
    drifted = tuple(str(breach) for breach in broken if breach.distance is not None)
    return ValidateReport(len(table), quarantined, released, compared_with, drifted, site.relative_to(root))


def _stop_reason(
    table: pa.Table, measured: pa.Table | None, broken: Sequence["BrokenPromise"], quarantined: int, limits: Validate
) -> str:
    """Why nothing of the table may be used; empty where nothing is wrong with it as a whole."""
    if measured is None:
        missing = [name for name in manifest.SCHEMA.names if name not in table.column_names]
        of_table = [f"The manifest has its columns. Not so: {', '.join(missing)} missing"]
    else:
        of_table = [str(breach) for breach in broken if not (breach.promise.reason or breach.promise.is_warning)]
    if of_table:
        return f"the data breaks {_counted(of_table, 'promise')}: {'; '.join(of_table)}"
    if quarantined <= limits.max_quarantine_share * len(table):
        return ""
    of_rows = "; ".join(str(breach) for breach in broken if breach.promise.reason)
    return (
        f"{quarantined / len(table):.1%} of the pictures are set aside, more than validate.max_quarantine_share "
        f"({limits.max_quarantine_share:.1%}): {of_rows}"
    )


def set_aside_reasons(
    pictures: pd.DataFrame, broken: Sequence["BrokenPromise"], released: Mapping[tuple[str, str, str], str]
) -> tuple[list[str | None], list[str | None]]:
    """For each picture why it is set aside, or None; and the reason that a person overruled to let it in, or None.

    `released` has the (role, picture_id, sha256) that a person let in. A photo whose product's original is set aside
    goes with it.
    """
    keys = list(zip(pictures.role, pictures.picture_id, strict=True))
    row_of = {key: row for row, key in enumerate(keys)}
    against: dict[int, list[str]] = {}
    for breach in broken:
        promise = breach.promise
        details = pictures[promise.detail].to_numpy() if promise.detail else [None] * len(pictures)
        for key in breach.rows:
            detail = details[row_of[key]]
            reason = f"{promise.reason} ({detail})" if isinstance(detail, str) else promise.reason
            against.setdefault(row_of[key], []).append(reason)
    kept: list[list[str]] = [[] for _ in keys]
    overruled: list[str | None] = [None] * len(keys)
    for row, reasons in against.items():
        is_released = (*keys[row], pictures.sha256[row]) in released
        kept[row] = [reason for reason in reasons if not (is_released and can_release(reason))]
        overruled[row] = "; ".join(reason for reason in reasons if is_released and can_release(reason)) or None
    lost = {pictures.product_id[row] for row, reasons in enumerate(kept) if reasons and keys[row][0] == "original"}
    for row, product_id in enumerate(pictures.product_id):
        if keys[row][0] == "photo" and product_id in lost:
            kept[row].append(f"{NO_ORIGINAL} {product_id} is set aside")
    set_aside = ["; ".join(reasons) or None for reasons in kept]
    return set_aside, [against if not reasons else None for against, reasons in zip(overruled, kept, strict=True)]


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        manifest.read_manifest(path)
        raise
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} is not a readable Parquet file: {error}") from None


def _write(table: pa.Table, path: Path) -> None:
    with writing_whole(path) as part:
        pq.write_table(table, part, compression="zstd")


def _counted(items: Sequence[str], noun: str) -> str:
    return f"a {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


if __name__ == "__main__":
    from training.stage.run import run_stage

    run_stage("validate", validate)
