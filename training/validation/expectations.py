"""What the data must be, as a list of promises for each suite of Great Expectations.

A broken promise about the table stops the stage; a row that breaks a promise about rows is set aside
with the promise's reason. Importing this module imports Great Expectations, which takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
from great_expectations.expectations.core.expect_column_values_to_be_null import ExpectColumnValuesToBeNull
from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique
from great_expectations.expectations.core.expect_compound_columns_to_be_unique import ExpectCompoundColumnsToBeUnique
from great_expectations.expectations.core.expect_table_columns_to_match_set import ExpectTableColumnsToMatchSet
from great_expectations.expectations.core.expect_table_row_count_to_be_between import ExpectTableRowCountToBeBetween
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from training.dataset import manifest
from training.dataset.releases import NO_FORMAT, NO_PICTURE
from training.stage.params import Validate
from training.validation import drift
from training.validation.drift_expectation import ExpectColumnToBeDistributedAsBefore


@dataclass(frozen=True)
class Promise:
    """A sentence that must be true of the table or of each row, and the expectation that checks it."""

    sentence: str
    expectation: Expectation
    reason: str = ""
    """Why a row that breaks it is set aside. Empty: the promise is about the table."""
    detail: str = ""
    """A column that says more about a row that breaks it."""
    is_warning: bool = False
    """Breaking it is reported and stops nothing."""


@dataclass(frozen=True)
class Suite:
    """Promises that belong together; Data Docs show a page for each suite."""

    name: str
    promises: Sequence[Promise]


def structure() -> Suite:
    """Promises about the table: what is missing or double here is a fault of the ingest or of the database."""
    columns = manifest.SCHEMA.names
    photo, original = Column("role") == "photo", Column("role") == "original"
    return _described(
        Suite(
            "structure",
            [
                Promise(
                    "The manifest has its columns.",
                    ExpectTableColumnsToMatchSet(column_set=columns, exact_match=False),
                ),
                Promise("There are pictures.", ExpectTableRowCountToBeBetween(min_value=1)),
                Promise(
                    "A picture is an original or a photo.",
                    ExpectColumnValuesToBeInSet(column="role", value_set=["original", "photo"]),
                ),
                Promise(
                    "No two pictures of a role have the same id.",
                    ExpectCompoundColumnsToBeUnique(column_list=["role", "picture_id"]),
                ),
                Promise("No two pictures have the same file.", ExpectColumnValuesToBeUnique(column="path")),
                Promise(
                    "A product has one original.",
                    ExpectColumnValuesToBeUnique(column="product_id", row_condition=original),
                ),
                Promise(
                    "A photo's product has an original.",
                    ExpectColumnValuesToBeInSet(column="has_original", value_set=[True], row_condition=photo),
                ),
                Promise(
                    "A photo's truth comes from the import or from a person.",
                    ExpectColumnValuesToBeInSet(
                        column="label_source", value_set=["import", "person"], row_condition=photo
                    ),
                ),
            ],
        )
    )


def pictures(limits: Validate) -> Suite:
    """Promises about each picture by itself. A few may break one: they are set aside, and the promise is kept."""
    mostly = 1 - limits.max_quarantine_share

    def between(column: str, low: float | None = None, high: float | None = None) -> Expectation:
        return ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, mostly=mostly)

    least, dark, bright = limits.min_side, limits.min_light, limits.max_light
    return _described(
        Suite(
            "pictures",
            [
                Promise(
                    "A picture decodes.",
                    ExpectColumnValuesToBeInSet(column="decodes", value_set=[True], mostly=mostly),
                    NO_PICTURE,
                    "error",
                ),
                Promise(
                    "A picture is a JPEG or a PNG.",
                    ExpectColumnValuesToBeInSet(column="format", value_set=["JPEG", "PNG"], mostly=mostly),
                    NO_FORMAT,
                ),
                Promise(
                    f"A picture is at least {least} px wide.", between("width", least), f"narrower than {least} px"
                ),
                Promise(f"A picture is at least {least} px high.", between("height", least), f"lower than {least} px"),
                Promise(
                    f"A picture's mean light is at least {dark} (0 black, 1 white).",
                    between("light_mean", dark),
                    f"too dark (mean light under {dark})",
                ),
                Promise(
                    f"A picture's mean light is at most {bright}.",
                    between("light_mean", None, bright),
                    f"too bright (mean light over {bright})",
                ),
                Promise(
                    f"A picture's light has a spread of at least {limits.min_light_spread}.",
                    between("light_spread", limits.min_light_spread),
                    f"next to empty (spread of light under {limits.min_light_spread})",
                ),
                Promise(
                    f"At most {limits.max_near_white:.1%} of a picture is near-white.",
                    between("near_white", None, limits.max_near_white),
                    f"next to empty (over {limits.max_near_white:.1%} near-white)",
                ),
                Promise(
                    f"A picture's sharpness is at least {limits.min_sharpness}.",
                    between("sharpness", limits.min_sharpness),
                    f"blurred (sharpness under {limits.min_sharpness})",
                ),
            ],
        )
    )


def leakage(limits: Validate) -> Suite:
    """Promises that no picture gives the answer away: no copies across originals and photos, or across splits."""
    photo, mostly, bits = Column("role") == "photo", 1 - limits.max_quarantine_share, limits.duplicate_distance
    return _described(
        Suite(
            "leakage",
            [
                Promise(
                    "No photo is a copy of an original, byte by byte.",
                    ExpectColumnValuesToBeInSet(
                        column="copies_original", value_set=[False], row_condition=photo, mostly=mostly
                    ),
                    "a copy of an original, not a photo",
                ),
                Promise(
                    f"No photo is equal or nearly equal to an original (perceptual hashes within {bits} bits of 64).",
                    ExpectColumnValuesToBeNull(column="near_original", row_condition=photo, mostly=mostly),
                    "equal or nearly equal to an original, not a photo",
                    "near_original",
                ),
                Promise(
                    "No photo to learn from is equal or nearly equal to one that the model is measured on "
                    f"(perceptual hashes within {bits} bits of 64).",
                    ExpectColumnValuesToBeNull(column="in_other_split", row_condition=photo, mostly=mostly),
                    "equal or nearly equal to a photo of another split",
                    "in_other_split",
                ),
            ],
        )
    )


def altogether(limits: Validate) -> Suite:
    """The promise that most pictures keep all promises, or were let in by a person."""
    share = limits.max_quarantine_share
    kept = ExpectColumnValuesToBeInSet(column="set_aside", value_set=[False], mostly=1 - share)
    return _described(Suite("altogether", [Promise(f"At most {share:.1%} of the pictures are set aside.", kept)]))


def drifting(limits: Validate, reference: drift.Reference) -> Suite:
    """Promises that the photos are like those that the champion was trained on."""
    margins = {
        "size": limits.max_drift_size,
        "light": limits.max_drift_light,
        "sharpness": limits.max_drift_sharpness,
        "photos per product": limits.max_drift_photos,
    }
    severity = FailureSeverity.CRITICAL if limits.stop_on_drift else FailureSeverity.WARNING
    promises = []
    for name, column in drift.COLUMNS.items():
        if not reference.distributions.get(name, {}).get("count"):
            continue
        noun = "products" if column == "drift_photos" else "photos"
        expectation = ExpectColumnToBeDistributedAsBefore(
            column=column,
            reference=dict(reference.distributions[name]),
            margin=margins[name],
            severity=severity,
        )
        sentence = (
            f"At most {margins[name]:.0%} of the {noun}, and what is chance, moved in {name} since the champion's data."
        )
        promises.append(Promise(sentence, expectation, is_warning=not limits.stop_on_drift))
    return _described(Suite("drift", promises))


def _described(suite: Suite) -> Suite:
    for promise in suite.promises:
        promise.expectation.description = promise.sentence
    return replace(suite, promises=tuple(suite.promises))
