"""What the tests of evaluation and export share."""

import pytest

from training.manifest import read_manifest


@pytest.fixture(scope="session")
def accepted(evaluated):
    """The rows that were evaluated."""
    return read_manifest(evaluated.root / "reports/validation/accepted.parquet")
