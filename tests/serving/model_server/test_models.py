import shutil
import threading
import time

import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server import servable, warmup
from serving.model_server.models import LoadOptions, Models
from serving.model_server.status import StatusError
from serving.model_server.versions import State
from serving.model_server.warmup import warm_up


class Gate:
    """Loads for real, but waits where a version is held."""

    def __init__(self):
        self.held: dict[int, threading.Event] = {}
        self.attempts: list[int] = []

    def hold(self, number):
        self.held[number] = threading.Event()
        return self.held[number]

    def load(self, name, number, folder):
        self.attempts.append(number)
        if number in self.held:
            assert self.held[number].wait(20)
        loaded = servable.load(name, number, folder, config_pb2.ConfigProto())
        warm_up(loaded, folder)
        return loaded


class Served:
    """Models over a folder of versions."""

    def __init__(self, folder, toy_model, **loading):
        self.folder = folder
        self.toy_model = toy_model
        self.gate = Gate()
        self.models = Models(LoadOptions(load=self.gate.load, **{"retries": 0, **loading}))

    def add(self, *numbers):
        for number in numbers:
            shutil.copytree(self.toy_model, self.folder / str(number))

    def config(self, policy="", labels=None):
        text = f'name: "toy" base_path: "{self.folder}" model_platform: "tensorflow" {policy}'
        for label, number in (labels or {}).items():
            text += f' version_labels {{ key: "{label}" value: {number} }}'
        return text_format.Parse(
            f"model_config_list {{ config {{ {text} }} }}", model_server_config_pb2.ModelServerConfig()
        )

    def states(self):
        return {v.number: v.state for v in self.models.states(model_pb2.ModelSpec(name="toy"))}

    def until(self, **states):
        wanted = {int(number.strip("v")): state for number, state in states.items()}
        deadline = time.monotonic() + 20
        while (states := {n: self.states().get(n) for n in wanted}) != wanted:
            assert time.monotonic() < deadline, f"{states} instead of {wanted}"
            time.sleep(0.01)

    def number(self, **spec):
        with self.models.lease(spec_of(**spec)) as version:
            return version.number


def spec_of(version=None, label=None):
    spec = model_pb2.ModelSpec(name="toy")
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


@pytest.fixture
def served(tmp_path, toy_model):
    served = Served(tmp_path, toy_model)
    served.add(1)
    yield served
    served.models.stop(0)


@pytest.fixture
def lenient(tmp_path, toy_model):
    """As with --allow_version_labels_for_unavailable_models."""
    served = Served(tmp_path, toy_model, labels_for_unavailable=True)
    served.add(1)
    yield served
    served.models.stop(0)


def test_a_new_version_serves_before_the_old_one_goes(served):
    served.models.reload(served.config())
    opened = served.gate.hold(2)
    served.add(2)
    served.models.poll()
    served.until(v1=State.AVAILABLE, v2=State.LOADING)
    assert served.number() == 1

    opened.set()

    served.until(v1=State.END, v2=State.AVAILABLE)
    assert served.number() == 2


def test_a_call_ends_on_the_version_that_it_started_on(served):
    served.models.reload(served.config())
    served.add(2)
    with served.models.lease(spec_of()) as version:
        served.models.poll()
        served.until(v1=State.UNLOADING, v2=State.AVAILABLE)
        assert version.run_alone(version.signatures["encode"], ["image_bytes"], ["decoded"], [[b"bad"]], 0) == {
            "decoded": [False]
        }
    served.until(v1=State.END)


def test_a_version_that_does_not_load_is_reported_and_the_old_one_stays(served):
    served.models.reload(served.config())
    (served.folder / "2").mkdir()
    served.models.poll()
    served.until(v1=State.AVAILABLE, v2=State.END)

    error = served.models.states(spec_of(2))[0].error
    assert error is not None and "Could not find SavedModel" in str(error)
    assert served.number() == 1


@pytest.mark.parametrize(
    "file", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
)
def test_a_half_copied_version_is_not_served(served, file):
    served.models.reload(served.config())
    served.add(2)
    broken = served.folder / "2" / file
    broken.write_bytes(broken.read_bytes()[:-9])
    served.models.poll()

    served.until(v1=State.AVAILABLE, v2=State.END)
    assert served.number() == 1


def test_a_version_copied_while_it_is_loaded_serves_after_a_retry(tmp_path, toy_model):
    served = Served(tmp_path, toy_model, retries=100, retry_seconds=0.05)
    served.add(1)
    served.models.reload(served.config())
    (tmp_path / "2").mkdir()
    served.models.poll()
    shutil.copytree(toy_model, tmp_path / "2", dirs_exist_ok=True)

    served.until(v1=State.END, v2=State.AVAILABLE)
    served.models.stop(0)


def test_a_version_that_failed_is_not_tried_again_until_it_has_been_away(served):
    served.models.reload(served.config())
    (served.folder / "2").mkdir()
    served.models.poll()
    served.until(v2=State.END)
    served.models.poll()
    assert served.gate.attempts.count(2) == 1

    (served.folder / "2").rmdir()
    served.models.poll()
    served.add(2)
    served.models.poll()

    served.until(v2=State.AVAILABLE)


def test_retries_of_a_version_end_when_it_is_taken_away(tmp_path, toy_model):
    served = Served(tmp_path, toy_model, retries=5, retry_seconds=60)
    served.add(1)
    served.models.reload(served.config())
    (tmp_path / "2").mkdir()
    served.models.poll()
    served.until(v2=State.LOADING)
    (tmp_path / "2").rmdir()

    served.models.poll()

    served.until(v1=State.AVAILABLE, v2=State.END)
    served.models.stop(0)


def test_a_base_path_that_goes_away_changes_nothing(served):
    served.models.reload(served.config())
    served.folder.rename(served.folder.with_name("elsewhere"))

    served.models.poll()

    assert served.number() == 1


def test_specific_versions_are_served_side_by_side(served):
    served.add(2, 3)
    served.models.reload(served.config("model_version_policy { specific { versions: 1 versions: 3 } }"))

    served.until(v1=State.AVAILABLE, v3=State.AVAILABLE)
    assert (served.number(), served.number(version=1)) == (3, 1)
    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Specific\(toy, 2\)"):
        served.number(version=2)


def test_a_model_that_is_not_there_is_not_found(served):
    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Latest\(toy\)"):
        served.number()
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find any versions of model toy"):
        served.states()


def test_a_model_that_leaves_the_configuration_is_unloaded(served):
    served.models.reload(served.config())
    served.models.reload(text_format.Parse("model_config_list {}", model_server_config_pb2.ModelServerConfig()))

    served.until(v1=State.END)


def test_labels_at_the_start_are_refused_unless_allowed(served):
    with pytest.raises(StatusError) as refused:
        served.models.reload(served.config(labels={"stable": 1}))

    assert str(refused.value) == (
        "FAILED_PRECONDITION: Request to assign label to version 1 of model toy, which is not currently available "
        "for inference"
    )


def test_labels_are_allowed_once_their_version_serves(served):
    served.models.reload(served.config())
    served.models.reload(served.config(labels={"stable": 1}))

    assert served.number(label="stable") == 1
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: Unrecognized servable version label: canary"):
        served.number(label="canary")


def test_a_new_label_of_a_version_that_is_not_there_is_taken_and_not_found(lenient):
    lenient.models.reload(lenient.config(labels={"stable": 1, "canary": 7}))

    assert lenient.number(label="stable") == 1
    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Specific\(toy, 7\)"):
        lenient.number(label="canary")


def test_a_label_does_not_move_to_a_version_that_is_not_there(lenient):
    lenient.models.reload(lenient.config(labels={"stable": 1}))

    with pytest.raises(StatusError, match="FAILED_PRECONDITION: Request to assign label to version 7"):
        lenient.models.reload(lenient.config(labels={"stable": 7}))

    assert lenient.number(label="stable") == 1


def test_dropping_a_version_that_a_label_names_makes_the_label_not_found(lenient):
    lenient.add(2)
    both = "model_version_policy { specific { versions: 1 versions: 2 } }"
    lenient.models.reload(lenient.config(both, {"stable": 1}))
    lenient.until(v1=State.AVAILABLE, v2=State.AVAILABLE)
    lenient.models.reload(lenient.config("model_version_policy { specific { versions: 2 } }", {"stable": 1}))
    lenient.until(v1=State.END)

    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Specific\(toy, 1\)"):
        lenient.number(label="stable")


def test_a_refused_configuration_leaves_versions_as_they_were(served):
    served.models.reload(served.config())
    served.add(2)
    with pytest.raises(StatusError):
        served.models.reload(served.config("model_version_policy { specific { versions: 2 } }", labels={"stable": 2}))

    served.until(v1=State.AVAILABLE)


@pytest.mark.parametrize(
    "text, message",
    [
        ('config { name: "a" base_path: "/a" }', "Illegal setting neither ModelServerConfig::model_type"),
        ('config { name: "a" base_path: "a" model_platform: "tensorflow" }', "to have an absolute path or URI"),
        ('config { name: "a" base_path: "/a" model_platform: "x" }', "requests unsupported platform x"),
        ('config { name: "a" base_path: "/a" model_platform: "tensorflow" }' * 2, "Illegal to list model a multiple"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(served, text, message):
    config = text_format.Parse(f"model_config_list {{ {text} }}", model_server_config_pb2.ModelServerConfig())

    with pytest.raises(StatusError, match=message):
        served.models.reload(config)


def test_a_model_none_of_whose_versions_loads_is_an_error_at_the_start(served):
    shutil.rmtree(served.folder / "1" / "variables")

    with pytest.raises(StatusError, match=r"UNKNOWN: 1 model\(s\) did not become available: \{\{\{name: toy"):
        served.models.reload(served.config())


def test_the_start_waits_for_the_first_version(served):
    shutil.rmtree(served.folder / "1")
    starting = threading.Thread(target=served.models.reload, args=(served.config(),))
    starting.start()
    starting.join(0.2)
    assert starting.is_alive()

    served.add(1)
    served.models.poll()
    starting.join(20)

    assert served.number() == 1


def test_warm_up_requests_run_before_a_version_serves(served):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    entry = prediction_log_pb2.PredictionLog()
    request = entry.predict_log.request
    request.model_spec.name = "toy"
    request.model_spec.signature_name = "no such signature"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"x"]))
    served.models.reload(served.config())
    served.add(2)
    (served.folder / "2" / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(served.folder / "2" / warmup.WARMUP_FILE)) as writer:
        writer.write(entry.SerializeToString())
    served.models.poll()

    served.until(v1=State.AVAILABLE, v2=State.END)
    assert 'Serving signature key "no such signature" not found.' in str(served.models.states(spec_of(2))[0].error)
