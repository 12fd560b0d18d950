"""Which registered models know a picture that is to be forgotten."""

import json

import numpy as np
import pandas as pd
import pytest

from pipelines.registry import artifacts, versions
from pipelines.removal.holders import find_holders
from pipelines.workspace.places import Workspace


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


NONE: frozenset[str] = frozenset()


def never(md5: str) -> bool:
    return False


def test_a_photo_is_named_with_what_each_version_did_with_it(measured, workspace, tmp_path):
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    kept = artifacts.download_part(workspace, 1, f"{artifacts.EVIDENCE}/pictures.parquet", tmp_path)
    assert kept
    pictures = pd.read_parquet(kept).query("role == 'photo'").set_index("split").picture_id
    (trained,) = find_holders(workspace, NONE, frozenset([pictures["train"].iloc[0]]), never)
    assert str(trained) == "product-encoder version 1 (champion): trained on it"
    (tested,) = find_holders(workspace, NONE, frozenset([pictures["test"].iloc[0]]), never)
    assert tested.uses == ("measured with it",)
    assert find_holders(workspace, NONE, frozenset(["unknown"]), never) == []


def test_cohort_and_golden_pairs_are_read_from_what_the_version_keeps(measured, workspace):
    decision = workspace.models / "decision"
    decision.mkdir(parents=True)
    np.savez(decision / "cohort.npz", embeddings=np.zeros((1, 4), np.float32), product_ids=np.array(["p3"]))

    def name_the_golden_pair(folder):
        path = folder / "assets.extra" / "golden.json"
        golden = json.loads(path.read_text())
        golden["pairs"][0] |= {"photo_id": "p3-5", "product_id": "p4"}
        path.write_text(json.dumps(golden))

    measured("m-one", 0.8, spoil=name_the_golden_pair)
    of_product = {one: find_holders(workspace, frozenset([one]), NONE, never)[0].uses[1:] for one in ("p2", "p3", "p4")}
    assert of_product == {"p2": (), "p3": ("in its cohort",), "p4": ("in its golden pairs",)}
    assert find_holders(workspace, NONE, frozenset(["p3-5"]), never)[0].uses[1:] == ("in its golden pairs",)


def test_a_version_without_a_list_is_named_by_its_data_version(register, workspace):
    register("m-one")
    (found,) = find_holders(workspace, NONE, frozenset(["p0-0"]), lambda md5: md5 == "d1")
    assert found.uses[0].startswith("of a data version that holds it")
    assert find_holders(workspace, NONE, frozenset(["p0-0"]), never) == []
