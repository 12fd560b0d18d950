"""A version in a throw-away model server: a real exported model passes, and what is wrong with others is said."""

import json
import shutil

import pytest

from pipelines.deployment.model_server import running_server
from pipelines.deployment.proving import NotProven, check, golden_pair, prove
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings

LATENCY_MS = Settings().latency_ms


@pytest.fixture
def model(evaluated, tmp_path):
    """A copy of the real exported model, which a test may spoil."""
    return shutil.copytree(evaluated.root / "models" / "saved_model", tmp_path / "fetched" / "saved_model")


@pytest.fixture(scope="module")
def served(evaluated, tmp_path_factory):
    """The real exported model behind a real model server: its address."""
    from pipelines.deployment.models_config import Served, write_config

    workspace = Workspace(tmp_path_factory.mktemp("served"))
    shutil.copytree(evaluated.root / "models" / "saved_model", workspace.serving / "product-encoder" / "1")
    write_config(
        workspace.serving / "models.config",
        Served(frozenset({1}), {"stable": 1}),
        workspace.serving / "product-encoder",
    )
    with running_server(workspace) as server:
        yield server.grpc


def spoil_golden(folder, **changes):
    path = folder / "assets.extra" / "golden.json"
    golden = json.loads(path.read_text())
    golden["pairs"][-1] |= changes
    path.write_text(json.dumps(golden))


def test_what_evaluation_measured_is_what_the_server_answers(served, model):
    check(served, model, LATENCY_MS)


def test_a_golden_score_that_is_not_reproduced_is_named(served, model):
    spoil_golden(model, distance=0.5)
    with pytest.raises(NotProven, match=r"golden pair \d+ of \d+: distance [\d.]+, evaluation measured 0.500000"):
        check(served, model, LATENCY_MS)


def test_a_verdict_that_takes_too_long_is_refused(served, model):
    with pytest.raises(NotProven, match=r"takes \d+ ms in the median, more than 0.001 \(PHOTOPROOF_LATENCY_MS\)"):
        check(served, model, latency_ms=0.001)


def test_a_golden_pair_that_the_client_would_call_a_copy_proves_nothing(model):
    path = model / "assets.extra" / "golden.json"
    pair = json.loads(path.read_text())["pairs"][0]
    path.write_text(json.dumps({"pairs": [pair | {"photo_bytes": pair["original_bytes"]}]}))
    assert golden_pair(model) is None


@pytest.mark.slow
def test_a_version_that_does_not_load_fails_alone_and_its_folder_and_log_stay(model, tmp_path):
    variables = model / "variables" / "variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:100])
    workspace = Workspace(tmp_path / "workspace")
    with pytest.raises(NotProven, match="version 7 fails in a model server of its own"):
        prove(workspace, model, 7, LATENCY_MS)
    assert sorted(path.name for path in model.parent.iterdir()) == ["saved_model"]
    assert (workspace.logs / "prove-7.log").is_file()


@pytest.mark.slow
def test_a_version_that_takes_broken_pictures_for_decoded_ones_is_refused(exported, tmp_path):
    model = shutil.copytree(exported("m-one"), tmp_path / "fetched" / "saved_model")
    with pytest.raises(NotProven, match="takes broken pictures for decoded ones"):
        prove(Workspace(tmp_path / "workspace"), model, 1, LATENCY_MS)
