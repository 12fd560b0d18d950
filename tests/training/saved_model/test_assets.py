import subprocess
import sys

import pytest

from training.saved_model.assets import golden_pairs, golden_pictures, read_golden, write_golden
from training.saved_model.golden import MEASURED
from training.stage.errors import BadInput


def test_a_saved_model_holds_the_pairs_that_evaluation_chose(evaluated):
    pairs = golden_pairs(evaluated.root / "models/saved_model")
    assert pairs == read_golden(evaluated.root / "models/decision/golden.json")
    assert len(pairs) == evaluated.params.evaluate.golden_pairs
    assert all(isinstance(pair[name], float) for pair in pairs for name in MEASURED)


def test_a_golden_pairs_pictures_are_the_bytes_of_the_data(evaluated, accepted):
    (pair, *_) = golden_pairs(evaluated.root / "models/saved_model")
    paths = accepted.set_index("picture_id").path
    expected = [(evaluated.root / "data" / paths[pair[key]]).read_bytes() for key in ("product_id", "photo_id")]
    assert list(golden_pictures(pair)) == expected


def test_what_is_written_is_read(tmp_path):
    write_golden(tmp_path / "golden.json", [{"photo_id": "p"}])
    assert read_golden(tmp_path / "golden.json") == [{"photo_id": "p"}]


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_file_without_golden_pairs_is_bad_input_that_names_it(tmp_path, text):
    (tmp_path / "golden.json").write_text(text)
    with pytest.raises(BadInput, match=r"golden\.json holds no golden pairs"):
        read_golden(tmp_path / "golden.json")


def test_a_missing_file_is_bad_input_that_says_what_to_run(tmp_path):
    with pytest.raises(BadInput, match="dvc repro export"):
        golden_pairs(tmp_path)


def test_importing_the_assets_and_the_tolerance_imports_no_tensorflow():
    code = "import sys, training.saved_model.assets, training.saved_model.golden; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
