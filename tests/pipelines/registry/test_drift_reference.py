"""The reference of drift: the distributions of the champion's data, from a real MLflow."""

import dataclasses

import numpy as np
import pytest

from pipelines.data.versioning import DataVersion
from pipelines.registry import drift_reference, versions
from training.stage import places
from training.validation import drift

NEW = DataVersion("fedcba9876543210", 5, 100)
DISTRIBUTIONS = {"light": drift.describe(np.linspace(0, 1, 11))}


@pytest.fixture
def championed(measured, workspace):
    """A champion, version 1, that says how its data (version d1) are distributed."""
    (workspace.reports / "validation").mkdir(parents=True)
    drift.write_reference(drift.Reference("d1", DISTRIBUTIONS), workspace.root / places.DISTRIBUTIONS)
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    return workspace


def reference(workspace) -> drift.Reference:
    return drift.read_reference(workspace.root / places.REFERENCE)


def test_without_a_champion_the_reference_is_an_empty_file(workspace):
    assert drift_reference.update_drift_reference(workspace, NEW) == "drift: no champion yet to compare with"
    assert reference(workspace) == drift.Reference(None, {})


def test_new_data_is_compared_with_the_champions(championed):
    line = drift_reference.update_drift_reference(championed, NEW)
    assert line == "drift: to be compared with data version d1, of version 1, the champion"
    assert reference(championed) == drift.Reference("d1", DISTRIBUTIONS)


def test_data_that_is_validated_keeps_its_reference_whoever_becomes_champion(championed):
    drift_reference.update_drift_reference(championed, NEW)
    lock = f"stages:\n  validate:\n    deps:\n    - {{path: data, md5: {NEW.md5}.dir}}\n"
    (championed.root / "dvc.lock").write_text(lock)
    versions.set_tags(championed, 1, {"data_version": "d2"})
    assert "compared with data version d1" in drift_reference.update_drift_reference(championed, NEW)
    assert drift_reference.update_drift_reference(championed, dataclasses.replace(NEW, md5="0")).startswith(
        "drift: to be compared"
    )


def test_a_champion_that_keeps_no_distributions_is_named(register, workspace):
    register("m-one")
    versions.promote(workspace, 1)
    assert "version 1, the champion, keeps no distributions of its data" in drift_reference.update_drift_reference(
        workspace, NEW
    )
