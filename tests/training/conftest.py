"""What the tests of evaluation and export share."""

import pytest
from hypothesis import settings

from training.dataset.manifest import read_manifest

settings.register_profile("photoproof", deadline=None)  # an example's time says how busy the machine is
settings.load_profile("photoproof")


@pytest.fixture(scope="session")
def accepted(evaluated):
    """The rows that were evaluated."""
    return read_manifest(evaluated.root / "reports/validation/accepted.parquet")
