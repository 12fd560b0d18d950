"""Measure the pictures of data/, check the promises of training/validation/expectations.py, set aside what breaks them.

    dvc repro validate        or        python -m training.validate

Writes accepted.parquet (the manifest's columns, the measurements, and for what a person let in `released`, the
reason that it was let in against), quarantine.parquet (the same columns and a `reason`), distributions.json, and Great
Expectations' Data Docs of this data version to reports/validation/.
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
from training.stage.params import Params, Validate
from training.stage.tracking import data_version
from training.validation import data_docs, drift, measure, measure_cache
from training.validation.leakage import relations

if TYPE_CHECKING:
    from training.validation.suites import Broken

REPORT = Path("reports/validation")


@dataclass(frozen=True)
class ValidateReport:
    """How many pictures were looked at, how many set aside, and how far they are from the champion's."""

    pictures: int
    quarantined: int
    released: int
    """Let in because a person said so."""
    reference: str | None
    """The data version that they were compared with."""
    drifted: tuple[str, ...]
    """Promises about distributions that they break."""
    where: Path = REPORT

    def __str__(self) -> str:
        said = f"{self.pictures:,} pictures, {self.quarantined:,} set aside"
        if self.released:
            said += f", {self.released:,} let in by a person"
        if self.reference is None:
            return f"{said}; no champion's data to compare with yet"
        since = f"since data version {self.reference[:12]}"
        return f"{said}; drift {since}: {'; '.join(self.drifted)}" if self.drifted else f"{said}; no drift {since}"


def validate(root: Path, params: Params) -> ValidateReport:
    """Validate data/ below root and write reports/validation/.

    Raises BadInput, with the broken promises as its message, where the table breaks one or where more than
    params.validate.max_quarantine_share of the pictures are set aside. Data Docs are written all the same, and the
    quarantine wherever the manifest could be read.
    """
    folder = root / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    accepted, quarantine = folder / "accepted.parquet", folder / "quarantine.parquet"
    for stale in (accepted, quarantine, root / drift.DISTRIBUTIONS):
        stale.unlink(missing_ok=True)
    table = _read(root / "data" / "manifest.parquet")
    version = data_version(root) or "data"
    reference = drift.read_reference(root / drift.REFERENCE)

    from training.validation import expectations, suites  # Great Expectations takes seconds to import

    limits = params.validate
    to_check = [expectations.structure()]
    pictures = table.to_pandas()
    measured = None
    if set(manifest.SCHEMA.names) <= set(table.column_names):
        paths = [root / "data" / path for path in table["path"].to_pylist()]
        known = root / measure_cache.FOLDER
        measured = measure_cache.measure_new(paths, params.export.max_pixels, known, params.workers)
        pictures = relations(pictures.join(measured.to_pandas()), params.split, limits.duplicate_distance)
        pictures = drift.columns(pictures)
        to_check += [expectations.pictures(limits), expectations.leakage(limits)]
        to_check += [one for one in [expectations.drifting(limits, reference)] if one.promises]
    site = data_docs.folder_of(folder / "data_docs", version)
    reasons: list[str | None] = []
    let_in: list[str | None] = []
    with suites.checking(site, version) as check:
        broken = check(pictures, to_check)
        against = [one for one in broken if one.promise.reason]
        if measured is not None:
            reasons, let_in = judge(pictures, against, read_released(root / "data"))
            check(pictures.assign(set_aside=[one is not None for one in reasons]), [expectations.altogether(limits)])

    aside = sum(one is not None for one in reasons)
    released = sum(one is not None for one in let_in)
    why = _why_not(table, measured, broken, aside, limits)
    told = [str(one) for one in broken] + ([f"{released:,} let in by a person"] if released else [])
    data_docs.sum_up(site, version, len(table), aside, told, stopped=why)
    if measured is not None:
        for field in measure.SCHEMA:
            table = table.append_column(field, measured[field.name])
        is_aside = pa.array([one is not None for one in reasons], pa.bool_())
        because = pa.array([one for one in reasons if one], pa.string())
        _write(table.filter(is_aside).append_column("reason", because), quarantine)
    if why:
        raise BadInput(f"{why} (see {(site / 'index.html').relative_to(root)})")
    drift.write_reference(drift.Reference(version, drift.describe_all(pictures)), root / drift.DISTRIBUTIONS)
    table = table.append_column("released", pa.array(let_in, pa.string()))
    _write(table.filter([one is None for one in reasons]), accepted)
    compared_with = reference.data_version if reference.distributions else None
    drifted = tuple(str(one) for one in broken if one.moved is not None)
    return ValidateReport(len(table), aside, released, compared_with, drifted, site.relative_to(root))


def _why_not(
    table: pa.Table, measured: pa.Table | None, broken: Sequence["Broken"], aside: int, limits: Validate
) -> str:
    """Why nothing of the table may be used; empty where nothing is wrong with it as a whole."""
    if measured is None:
        missing = [name for name in manifest.SCHEMA.names if name not in table.column_names]
        of_table = [f"The manifest has its columns. Not so: {', '.join(missing)} missing"]
    else:
        of_table = [str(one) for one in broken if not (one.promise.reason or one.promise.only_told)]
    if of_table:
        return f"the data breaks {_counted(of_table, 'promise')}: {'; '.join(of_table)}"
    if aside <= limits.max_quarantine_share * len(table):
        return ""
    of_rows = "; ".join(str(one) for one in broken if one.promise.reason)
    return (
        f"{aside / len(table):.1%} of the pictures are set aside, more than validate.max_quarantine_share "
        f"({limits.max_quarantine_share:.1%}): {of_rows}"
    )


def judge(
    pictures: pd.DataFrame, broken: Sequence["Broken"], released: Mapping[tuple[str, str, str], str]
) -> tuple[list[str | None], list[str | None]]:
    """For each picture why it is set aside, or None; and what a person let it in against, or None.

    `released` has the (role, picture_id, sha256) that a person let in. A photo whose product's original is set aside
    goes with it.
    """
    keys = list(zip(pictures.role, pictures.picture_id, strict=True))
    row_of = {key: row for row, key in enumerate(keys)}
    against: dict[int, list[str]] = {}
    for one in broken:
        detail = pictures[one.promise.detail].to_numpy() if one.promise.detail else [None] * len(pictures)
        for key in one.rows:
            more = detail[row_of[key]]
            said = f"{one.promise.reason} ({more})" if isinstance(more, str) else one.promise.reason
            against.setdefault(row_of[key], []).append(said)
    why: list[list[str]] = [[] for _ in keys]
    let_in: list[str | None] = [None] * len(keys)
    for row, said in against.items():
        mended = [one for one in said if can_release(one)] if (*keys[row], pictures.sha256[row]) in released else []
        why[row] = [one for one in said if one not in mended]
        let_in[row] = "; ".join(mended) or None
    lost = {pictures.product_id[row] for row, said in enumerate(why) if said and pictures.role[row] == "original"}
    for row, product_id in enumerate(pictures.product_id):
        if pictures.role[row] == "photo" and product_id in lost:
            why[row].append(f"{NO_ORIGINAL} {product_id} is set aside")
    return ["; ".join(said) or None for said in why], [
        one if not said else None for one, said in zip(let_in, why, strict=True)
    ]


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        manifest.read_manifest(path)
        raise
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} is no Parquet file that can be read: {error}") from None


def _write(table: pa.Table, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def _counted(things: Sequence[str], noun: str) -> str:
    return f"a {noun}" if len(things) == 1 else f"{len(things)} {noun}s"


if __name__ == "__main__":
    from training.stage.run import run_stage

    run_stage("validate", validate)
