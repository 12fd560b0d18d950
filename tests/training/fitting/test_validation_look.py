from pathlib import Path

import numpy as np
import pytest

from training.fitting import validation_look
from training.fitting.catalogue import read_splits
from training.model.autoencoder import load


def test_of_a_large_catalogue_a_look_takes_some_photos_their_originals_and_some_others(
    evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, settings = read_splits(evaluated.root, evaluated.params), evaluated.params.train
    model = load(evaluated.root / "models/autoencoder")
    whole = validation_look.Look(evaluated.root, rows, model, settings)
    monkeypatch.setattr(validation_look, "MOST_ORIGINALS", 2)
    monkeypatch.setattr(validation_look, "MOST_PHOTOS", 3)
    taken = validation_look.Look(evaluated.root, rows, model, settings)
    originals, photos = ([Path(path).stem for path in paths] for paths in taken._paths)
    assert 3 <= len(originals) <= 5 < len(whole._paths[0])
    assert len(photos) == 3
    assert [originals[at] for at in taken._products] == [photo[: len("product-00")] for photo in photos]
    assert all(0.5 < auc <= 1 for auc in taken.aucs().values())
    again = validation_look.Look(evaluated.root, rows, model, settings)
    assert again._paths == taken._paths
    np.testing.assert_array_equal(again._known, [whole._known[whole._paths[0].index(path)] for path in again._paths[0]])
