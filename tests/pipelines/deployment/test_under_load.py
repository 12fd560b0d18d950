"""Deploying under a real running model server that callers ask all the time, 50 calls a second: none of them fails."""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import mlflow
import pytest

from benchmarks.callers import Callers
from photoproof import PhotoproofError, Verifier
from pipelines.deployment.addresses import known_servers
from pipelines.deployment.history import history
from pipelines.deployment.model_server import running_server
from pipelines.deployment.models_config import Served, read_config, write_config
from pipelines.deployment.observation import observe, plan_deployment
from pipelines.deployment.proving import NotProven, golden_pair
from pipelines.deployment.reconcile import deploy
from pipelines.deployment.steps import DeployFailed
from pipelines.registry import artifacts, connection
from pipelines.registry import versions as registry
from pipelines.workspace.settings import Settings
from training.saved_model import assets

pytestmark = pytest.mark.slow


@pytest.fixture
def callers(fleet, ask_served, quietly) -> Iterator[Callers]:
    """Callers of the fleet's server, which serves version 1 before and after; none of their calls may fail."""
    workspace, server, _ = fleet
    golden = golden_pair(workspace.serving / "product-encoder" / "1")
    assert golden
    calling = Callers(server.grpc, [(golden.original, golden.photo)])
    try:
        yield calling
        registry.promote(workspace, 1)
        quietly(workspace)
    finally:
        calling.end()
    assert calling.failed == []
    assert calling.calls


def labels(workspace) -> dict[str, int]:
    served = read_config(workspace.serving / "models.config")
    return dict(served.labels) if served else {}


def until(happened, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_promoting_and_rolling_back_moves_every_caller_and_fails_none(fleet, callers, quietly):
    workspace, server, _ = fleet
    until(lambda: callers.models == ["m-one"])
    for version in (2, 1):
        registry.promote(workspace, version)
        assert quietly(workspace).servers == [server.grpc]
    until(lambda: callers.models[-1] == "m-one")
    # calls on their way may be answered after later ones
    assert set(callers.models) == {"m-one", "m-two"}


def test_killed_between_any_two_steps_it_ends_in_what_the_aliases_say(fleet, callers, quietly):
    workspace, *_ = fleet
    restarted_in = set()

    class Killed(BaseException):
        pass

    for turn in itertools.count(1):
        registry.promote(workspace, 2 if labels(workspace)["stable"] == 1 else 1)
        steps = len(plan_deployment(workspace, observe(workspace, Settings())).steps)
        if turn > steps:
            break
        left = iter(range(turn - 1))

        def kill_after_some(line: str, left=left) -> None:
            if line.startswith("deploy: ") and next(left, None) is None:
                raise Killed

        with pytest.raises(Killed):
            quietly(workspace, say=kill_after_some)
        served = read_config(workspace.serving / "models.config")
        assert served and set(served.labels.values()) <= served.versions
        state = frozenset(served.versions), served.labels["stable"]
        if state not in restarted_in:
            restarted_in.add(state)
            restarts_as(workspace, *state)
        quietly(workspace)
        assert labels(workspace) == {"stable": registry.versions_by_alias(workspace)["champion"]}
    both = frozenset({1, 2})
    assert {state for state in restarted_in if len(state[0]) == 2} == {(both, 1), (both, 2)}


def restarts_as(workspace, versions: frozenset[int], stable: int) -> None:
    """A server started anew has these versions, and answers by the label as the one that it names."""
    golden = golden_pair(workspace.serving / "product-encoder" / str(stable))
    assert golden
    with running_server(workspace) as second, Verifier(second.grpc) as verifier:
        states = verifier.status().versions
        assert {state.version for state in states if state.state == "AVAILABLE"} == versions
        assert verifier.verify(golden.original, golden.photo).model_version == stable


def lie(folder):
    path = folder / "assets.extra" / "golden.json"
    golden = json.loads(path.read_text())
    golden["pairs"][0]["probability"] += 0.01
    path.write_text(json.dumps(golden))


def truncate(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("model_id", "spoil", "words"), [("m-three", truncate, "does not load"), ("m-four", lie, "golden pair")]
)
def test_a_version_that_gets_past_its_proof_and_fails_on_the_server_is_taken_back(
    fleet, callers, quietly, model_id, spoil, words
):
    workspace, _, register = fleet
    version = register(model_id, spoil).version
    registry.promote(workspace, version)
    with pytest.raises(DeployFailed, match=words):
        quietly(workspace)
    assert labels(workspace) == {"stable": 1}
    assert history(workspace)[-1].outcome == "failed"
    assert words in registry.tags_of(workspace, version)["deployment"]
    until(lambda: callers.models[-1] == "m-one")


def test_a_file_that_left_the_server_behind_is_mended_and_fails_no_call(fleet, callers, quietly):
    workspace, server, _ = fleet
    registry.promote(workspace, 2)
    quietly(workspace)
    registry.promote(workspace, 1)
    quietly(workspace)  # both folders are there, and version 1 serves
    # what deploy writes where no server seems to run
    refused = Served(frozenset({2}), {"stable": 2})
    write_config(workspace.serving / "models.config", refused, workspace.serving / "product-encoder")
    until(lambda: b"not currently available" in server.log.read_bytes(), 20)
    registry.promote(workspace, 2)
    assert quietly(workspace).servers == [server.grpc]
    assert labels(workspace) == {"stable": 2}
    until(lambda: callers.models[-1] == "m-two")
    newest = history(workspace)[-1]
    assert (newest.from_version, newest.to_version, newest.outcome) == (1, 2, "deployed")


def test_a_sick_canary_holds_up_no_way_back_and_is_no_fault_of_the_good_version(fleet, callers, quietly):
    workspace, _, register = fleet
    sick = register("m-eight", truncate).version
    registry.promote(workspace, 2)
    quietly(workspace)
    registry.promote(workspace, sick, "challenger")
    with pytest.raises(DeployFailed, match="does not load"):
        quietly(workspace)
    served = Served(frozenset({2, sick}), {"stable": 2, "canary": sick})  # as if it had become sick since
    write_config(workspace.serving / "models.config", served, workspace.serving / "product-encoder")
    registry.promote(workspace, 1)
    quietly(workspace)
    assert labels(workspace)["stable"] == 1
    assert registry.tags_of(workspace, 1)["deployment"].startswith("deployed as stable")
    until(lambda: callers.models[-1] == "m-one")
    # for the tests that follow
    mlflow.MlflowClient().delete_registered_model_alias(registry.MODEL, "challenger")
    write_config(
        workspace.serving / "models.config",
        Served(frozenset({1}), {"stable": 1}),
        workspace.serving / "product-encoder",
    )


def test_a_version_that_did_not_load_is_tried_again_from_mlflow_s_bytes(fleet, callers, quietly):
    workspace, _, register = fleet
    version = register("m-nine").version
    registry.promote(workspace, version)
    folder = workspace.serving / "product-encoder" / str(version)

    def spoilt(line: str) -> None:
        if line.startswith("deploy: fetch"):
            truncate(folder)

    with pytest.raises(DeployFailed, match="does not load"):
        quietly(workspace, say=spoilt)
    assert labels(workspace) == {"stable": 1}
    assert quietly(workspace, retry=True).labels == {"stable": version}
    until(lambda: callers.models[-1] == "m-nine")


def bomb(folder):
    """A SavedModel that ends whichever process loads it, by SIGABRT."""
    import tensorflow as tf

    class Bomb(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

        def _initialize(self):
            with tf.control_dependencies([tf.raw_ops.Abort(error_msg="this model ends its server")]):
                key = tf.constant([1], tf.int64)
                tf.raw_ops.LookupTableImportV2(table_handle=self.resource_handle, keys=key, values=key)

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.bomb = Bomb()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def encode(self, image_bytes):
            size = tf.raw_ops.LookupTableSizeV2(table_handle=self.bomb.resource_handle)
            return {"embedding": tf.cast(size, tf.float32) + tf.zeros(tf.shape(image_bytes))}

    model = Model()
    for part in ("variables", "saved_model.pb", "fingerprint.pb"):
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    tf.saved_model.save(model, str(folder), signatures={"encode": model.encode})


def replace_in_mlflow(workspace, registered, spoil) -> None:
    """Spoil a registered version: MLflow loads what it registers, which a bomb would not survive."""
    for facts in (workspace.state / "mlflow" / "artifacts").rglob("model.json"):
        folder = facts.parents[1]
        if json.loads(facts.read_text())["model_id"] == registered.model_id:
            spoil(folder)
            registry.set_tags(workspace, registered.version, {"saved_model_sha256": assets.folder_sha256(folder)})


def without_verify(folder):
    """The model without the signature that callers need."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    del model.meta_graphs[0].signature_def["verify"]
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model_id", "spoil", "words"),
    [
        ("m-five", bomb, ["the local model server", "ended by SIGABRT"]),
        ("m-five-b", without_verify, ["it is not a Photoproof model", "verify"]),
    ],
)
def test_a_version_that_fails_its_proof_never_meets_the_real_server(fleet, callers, model_id, spoil, words):
    workspace, server, register = fleet
    registered = register(model_id)
    replace_in_mlflow(workspace, registered, spoil)
    registry.promote(workspace, registered.version)
    with pytest.raises(NotProven) as raised:
        deploy(workspace, Settings(), say=lambda line: None)
    begin = f"version {registered.version} fails in a model server of its own: {words[0]}"
    assert str(raised.value).startswith(begin) and words[1] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert registry.tags_of(workspace, registered.version)["deployment"].startswith(f"failed: {begin}")
    assert not (workspace.serving / "product-encoder" / str(registered.version)).exists()
    assert server.process.poll() is None


def test_a_full_disk_is_one_line_and_what_served_serves(fleet, callers, quietly):
    workspace, _, register = fleet
    if not workspace.serving.is_mount():
        pytest.skip("this machine lets nobody mount a small disk")
    version = register("m-six").version
    ballast = workspace.serving / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    registry.promote(workspace, version)
    with pytest.raises(artifacts.NoRoom, match=f"could not fetch version {version} to .*No space left on device"):
        quietly(workspace)
    assert labels(workspace) == {"stable": 1}
    assert "No space left" in registry.tags_of(workspace, version)["deployment"]
    ballast.unlink()
    assert quietly(workspace, retry=True).labels == {"stable": version}


def test_the_champions_version_deleted_or_the_whole_registry_empty_takes_nothing_out_of_service(
    fleet, callers, quietly, monkeypatch, empty_store, tmp_path
):
    workspace, _, register = fleet
    version = register("m-seven").version
    registry.promote(workspace, version)
    quietly(workspace)
    lines: list[str] = []
    with monkeypatch.context() as empty:
        shutil.copyfile(empty_store, tmp_path / "empty.db")
        empty.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'empty.db'}")
        assert quietly(workspace, say=lines.append).labels == {"stable": version}
    assert len(lines) == 1 and f"version {version} serves on as stable" in lines.pop()
    with connection.client_of(workspace) as client:
        client.delete_model_version(registry.MODEL, str(version))
    assert quietly(workspace, say=lines.append).labels == {"stable": version}
    assert len(lines) == 1 and f"version {version} serves on as stable" in lines[0]
    until(lambda: callers.models[-1] == "m-seven")


def test_mlflow_down_and_an_alias_deleted_take_nothing_out_of_service(fleet, callers, quietly, monkeypatch):
    workspace, *_ = fleet
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(connection.RegistryUnreachable):
            quietly(workspace)
    registry.promote(workspace, 2)
    quietly(workspace)
    client = mlflow.MlflowClient()
    client.delete_registered_model_alias(registry.MODEL, "champion")
    lines = []
    assert quietly(workspace, say=lines.append).labels == {"stable": 2}
    assert len(lines) == 1 and "serves on" in lines[0]


def test_a_server_in_the_list_that_lags_is_named_and_no_label_moves(fleet, callers, quietly, monkeypatch):
    workspace, server, _ = fleet
    registry.promote(workspace, 2)
    with monkeypatch.context() as two:
        two.setenv("PHOTOPROOF_SERVERS", f"{server.grpc},grpc://localhost:9")
        two.setenv("PHOTOPROOF_LOAD_SECONDS", "3")
        with pytest.raises(DeployFailed, match="grpc://localhost:9 did not load version"):
            quietly(workspace)
    assert labels(workspace) == {"stable": 1}


def test_serve_says_which_server_and_where_and_stops_on_sigterm_with_its_child(
    workspace, register, quietly, ask_served
):
    register("m-one")
    registry.promote(workspace, 1)
    quietly(workspace)
    command = [
        sys.executable,
        "-c",
        "from pipelines.workspace.places import Workspace; from pipelines.deployment.model_server import serve; ",
    ]
    command[2] += "from pipelines.workspace.ports import free_port as f; serve(Workspace.here(), f(), f())"
    process = subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    assert "model server" in line and "grpc://localhost:" in line and "stable is version 1" in line
    (address,) = known_servers(workspace, Settings())
    assert address in line
    process.terminate()
    assert process.wait(40) == 0
    process.stdout.close()
    with Verifier(address, timeout=2, retries=0) as verifier, pytest.raises(PhotoproofError):
        verifier.status()
