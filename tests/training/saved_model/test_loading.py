import numpy as np
import pytest
import tensorflow as tf

from training.saved_model import loading


class Doubler(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(tf.constant(2.0))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def encode(self, image_bytes):
        length = tf.cast(tf.strings.length(image_bytes), tf.float32)
        return {"length": self.factor * length, "same": image_bytes, "again": image_bytes}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64, "seconds")])
    def spin(self, seconds):
        end = tf.timestamp() + seconds
        return {"end": tf.while_loop(lambda now: now < end, lambda _: tf.timestamp(), [tf.timestamp()])[0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubler")
    model = Doubler()
    tf.saved_model.save(
        model, str(folder), signatures={"serving_default": model.encode, "encode": model.encode, "spin": model.spin}
    )
    return folder


@pytest.fixture(scope="module")
def model(folder):
    with loading.load(folder, threads=1) as model:
        yield model


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_a_signature_says_what_it_takes_and_gives(model):
    signature = model.signatures["encode"]

    assert set(model.signatures) == {"serving_default", "encode", "spin"}
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["image_bytes"][0] == tf.string
    assert signature.outputs["length"][0] == tf.float32
    assert signature.outputs["length"][1].as_list() == [None]


def test_bytes_go_in_and_come_out_whole(model):
    values = strings(b"\0", b"", b"a\0b\0")

    outputs = model.run("encode", {"image_bytes": values})

    assert outputs["length"].tolist() == [2, 0, 8]
    assert outputs["same"].tolist() == outputs["again"].tolist() == values.tolist()


def test_an_empty_batch_has_empty_outputs(model):
    assert model.run("encode", {"image_bytes": strings()})["length"].shape == (0,)


def test_an_input_by_another_name_is_refused(model):
    with pytest.raises(KeyError, match="image_bytes"):
        model.run("encode", {"picture": strings(b"a")})


def test_a_run_over_its_time_is_ended(model):
    spin = model.step(model.signatures["spin"], ["seconds"], ["end"], timeout_ms=100)

    with pytest.raises(tf.errors.DeadlineExceededError):
        spin([np.array(1.0)])


def test_a_folder_without_a_saved_model_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="does not exist"):
        loading.load(tmp_path)


def test_a_model_whose_variables_tensorflow_serving_would_not_find_fails_here_too(tmp_path):
    import keras

    class Holder(tf.Module):
        """Merely holds a Keras model, so its variables are saved but not found: tf.saved_model.load would run it."""

        def __init__(self):
            super().__init__()
            self.model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def call(self, x):
            return {"y": self.model(x)}

    holder = Holder()
    tf.saved_model.save(holder, str(tmp_path / "1"), signatures={"serving_default": holder.call})

    with (
        loading.load(tmp_path / "1") as model,
        pytest.raises(tf.errors.FailedPreconditionError, match="Could not find variable"),
    ):
        model.run("serving_default", {"x": np.ones((1, 2), np.float32)})
