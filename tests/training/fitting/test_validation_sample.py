from pathlib import Path

import numpy as np
import pytest

from training.fitting import validation_sample
from training.fitting.catalogue import read_splits
from training.fitting.validation_sample import ValidationSample
from training.model.autoencoder import load


def test_of_a_large_catalogue_a_sample_has_some_photos_their_originals_and_some_others(
    evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, settings = read_splits(evaluated.root, evaluated.params), evaluated.params.train
    model = load(evaluated.root / "models/autoencoder")
    whole = ValidationSample(evaluated.root, rows, model, settings)
    monkeypatch.setattr(validation_sample, "MOST_ORIGINALS", 2)
    monkeypatch.setattr(validation_sample, "MOST_PHOTOS", 3)
    sample = ValidationSample(evaluated.root, rows, model, settings)
    originals, photos = ([Path(path).stem for path in paths] for paths in sample._paths)
    assert 3 <= len(originals) <= 5 < len(whole._paths[0])
    assert len(photos) == 3
    assert [originals[number] for number in sample._products] == [photo[: len("product-00")] for photo in photos]
    assert all(0.5 < auc <= 1 for auc in sample.measure_aucs().values())
    repeated = ValidationSample(evaluated.root, rows, model, settings)
    assert repeated._paths == sample._paths
    np.testing.assert_array_equal(
        repeated._known, [whole._known[whole._paths[0].index(path)] for path in repeated._paths[0]]
    )
