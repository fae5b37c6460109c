"""SavedModel folders: explained as the Keras model that they were exported from, and read without running anything."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from questions import radiograph
from test_tensorflow_backend import Mixed, keras_copy, mixed_copy
from tiny import ConvNet, PlainFrontEnd, window

import xai_panel as xp
from xai_panel.methods import compatible
from xai_panel.models.backends.savedmodel import SavedModelBackend
from xai_panel.models.backends.tensorflow import TensorFlowBackend
from xai_panel.models.card import CardError
from xai_panel.models.classifier import Classifier
from xai_panel.models.errors import ModelError
from xai_panel.models.registry import digest_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is not installed: pip install xai-panel[tensorflow]",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CARD = """
id = "folder"
title = "Folder"
summary = "A SavedModel."
modality = "radiograph"
framework = "tensorflow"
architecture = "own"
labels = ["normal", "pneumonia"]
weights = "exported"
[frontend]
kind = "radiograph"
size = 16
mean = [0.5]
std = [0.5]
"""
TABLE = {"kind": "radiograph", "size": 16, "mean": [0.5], "std": [0.5]}


def three(x: Any) -> Any:
    return x[..., None] * np.array([1, 2, 3], np.float32)


def one(x: Any) -> Any:
    return x[..., None]


def with_end(model: Any, activation: str | None) -> Any:
    from tensorflow import keras

    if activation is None:
        return model
    return keras.Model(model.inputs[0], keras.layers.Activation(activation)(model.outputs[0]))


def export(model: Any, folder: Path) -> Path:
    model.export(folder, verbose=False)
    return folder


def module(folder: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 16, 16, 1)) -> Path:
    """A SavedModel of a TensorFlow function."""
    import tensorflow as tf

    own = tf.Module()
    own.serve = tf.function(function, [tf.TensorSpec(shape, tf.float32)])
    own.kept = getattr(function, "variables", [])
    tf.saved_model.save(own, str(folder), signatures={"serving_default": own.serve})
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_PANEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


# --- the same answers as the Keras model


@pytest.mark.parametrize(("gap", "smooth", "activation"), [(True, False, "softmax"), (False, True, None)])
def test_an_export_answers_as_its_keras_model(tmp_path: Path, gap: bool, smooth: bool, activation: str | None) -> None:
    model = with_end(mixed_copy(Mixed(gap, smooth)), activation)
    keras = TensorFlowBackend(model, three, (24, 24))
    saved = SavedModelBackend(export(model, tmp_path / "exported"), three, (24, 24))
    assert (saved.classes, saved.one_logit, saved.framework) == (2, False, "tensorflow")
    assert keras.default_layer() == "active3" and saved.default_layer().split("/")[0].startswith("active3")
    batch = np.stack([window(seed, (24, 24)) for seed in range(3)])
    assert_allclose(saved.logits(batch), keras.logits(batch), atol=1e-4)
    for layer in ("norm1", "active3"):
        same = next(name for name in saved.layers() if name.startswith(layer))
        expected, found = keras.gradients(batch, 1, layer), saved.gradients(batch, 1, same)
        for name in ("logits", "inputs", "activations", "layer"):
            values = getattr(expected, name)
            assert_allclose(getattr(found, name), values, atol=1e-4 * np.abs(values).max(), err_msg=f"{layer} {name}")
        alone, whole = saved.activations(batch, same), keras.activations(batch, layer)
        assert alone.target == whole.target
        assert_allclose(alone.values, whole.values, atol=1e-4 * np.abs(whole.values).max())
        assert_allclose(alone.gradients, whole.gradients, atol=1e-4 * np.abs(whole.gradients).max())


@pytest.mark.parametrize("outputs", [1, 2])
def test_every_method_gives_the_map_of_the_keras_model(tmp_path: Path, outputs: int) -> None:
    model = with_end(keras_copy(ConvNet(classes=outputs)), "sigmoid" if outputs == 1 else "softmax")
    given: dict[str, Any] = {"labels": ["a", "b"], "frontend": PlainFrontEnd((16, 16))}
    keras = Classifier.from_keras(model, **given)
    saved = Classifier.from_saved_model(export(model, tmp_path / "exported"), **given)
    assert saved.backend.one_logit == (outputs == 1)
    answers = compatible(saved)
    assert all(answer is True for answer in answers.values()) and len(answers) == 12
    answer = model(radiograph().values[None, ..., None]).numpy()[0]
    expected = answer if outputs == 2 else [1 - answer[0], answer[0]]
    assert_allclose(saved.predict(radiograph()).probabilities, expected, atol=1e-5)
    budget = {"coalitions": 60, "positions": 36, "noise": 4, "steps": 8}
    one, other = (xp.explain(m, radiograph(), target=1, store=False, budget=budget) for m in (keras, saved))
    for id in one["method"].values:
        values = one.xai.map(id).values
        scale = np.abs(values).max()
        assert scale > 0
        tolerance = 0.02 if id == "consensus" else 1e-4 * scale  # ranks differ where values are as good as equal
        assert_allclose(other.xai.map(id).values, values, atol=tolerance, err_msg=id)


def test_a_layer_that_is_passed_by_has_the_gradient_of_its_own_way(tmp_path: Path) -> None:
    from tensorflow import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    inner = keras.Sequential([keras.Input((16, 16, 4)), layers.Conv2D(4, 3, activation="silu", name="deep")], name="in")
    joined = inner(layers.Add(name="joined")([first, second, inputs]))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(joined)))
    plain = TensorFlowBackend(model, one, (16, 16))
    saved = SavedModelBackend(export(model, tmp_path / "exported"), one, (16, 16))
    batch = np.stack([window(seed) for seed in range(2)])
    for layer in ("first", "joined"):
        same = [name for name in saved.layers() if name.startswith(layer)][-1]
        expected, found = plain.gradients(batch, 2, layer), saved.gradients(batch, 2, same)
        for name in ("inputs", "activations", "layer"):
            assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5, err_msg=f"{layer} {name}")
    assert_allclose(saved.gradients(batch, 2, saved.default_layer()).layer, plain.gradients(batch, 2, "in").layer)
    with pytest.raises(ValueError, match="no layer 'head' with a spatial grid; there are: "):
        saved.gradients(batch, 0, "head")


def test_layers_are_the_last_operations_of_their_scopes(tmp_path: Path) -> None:
    saved = SavedModelBackend(export(keras_copy(ConvNet()), tmp_path / "exported"), one, (16, 16))
    found = [name.split("/") for name in saved.layers()]
    assert [scope.removesuffix("_1") for scope, _ in found] == ["pad1", "conv1", "relu1", "pad2", "conv2", "relu2"]
    assert [operation for _, operation in found] == ["Pad", "BiasAdd", "Relu", "Pad", "BiasAdd", "Relu"]


def test_a_function_of_tensorflow_is_a_network(tmp_path: Path) -> None:
    import tensorflow as tf

    weights = tf.Variable(np.random.default_rng(0).standard_normal((3, 3, 1, 2)).astype(np.float32))

    def network(x: Any) -> Any:
        return tf.nn.softmax(tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME")), axis=(1, 2)))

    network.variables = [weights]  # type: ignore[attr-defined]
    saved = SavedModelBackend(module(tmp_path / "exported", network), one, (16, 16))
    expected = tf.nn.relu(tf.nn.conv2d(window()[None, ..., None], weights, 1, "SAME")).numpy()
    assert saved.layers() == ["Conv2D", "Relu"]
    answer = saved.gradients(window()[None], 1, "Relu")
    assert_allclose(answer.logits, expected.mean(axis=(1, 2)), atol=1e-6)
    assert_allclose(answer.activations, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert_allclose(answer.layer[0, 1], 1 / 256)
    assert (answer.layer[0, 0] == 0).all()


# --- nothing is run that is not arithmetic


def test_operations_that_reach_outside_are_refused_and_not_run(tmp_path: Path) -> None:
    import tensorflow as tf

    ran = tmp_path / "ran"

    def touch(x: Any) -> Any:
        ran.write_text("yes")
        return x

    def python(x: Any) -> Any:
        return tf.reduce_mean(tf.ensure_shape(tf.numpy_function(touch, [x], tf.float32), x.shape), axis=(1, 2))

    def write(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(ran), "yes")]):
            return tf.reduce_mean(x, axis=(1, 2))

    @tf.function
    def inner(x: Any) -> Any:
        tf.print(x)
        return x

    def hidden(x: Any) -> Any:
        return tf.reduce_mean(inner(x), axis=(1, 2))

    def asset(x: Any) -> Any:
        return tf.reduce_mean(x, axis=(1, 2)) + tf.strings.to_number(tf.io.read_file(str(ran)))

    for name, function, operation in (
        ("python", python, "PyFunc"),
        ("write", write, "WriteFile"),
        ("hidden", hidden, "StringFormat|PrintV2"),
        ("read", asset, "ReadFile|StringToNumber"),
    ):
        folder = module(tmp_path / name, function)
        with pytest.raises(ModelError, match=rf"{name} holds the operation ({operation}) \(«.*»\), which is none of"):
            SavedModelBackend(folder, one, (16, 16))
    assert not ran.exists()


def test_what_the_network_does_not_need_is_not_run(tmp_path: Path) -> None:
    """An initialiser, or a second function, of a folder from elsewhere."""
    import tensorflow as tf

    ran = tmp_path / "ran"

    class Own(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 1))])
        def serve(self, x: Any) -> Any:
            return tf.reduce_mean(x, axis=(1, 2))

        @tf.function(input_signature=[])
        def start(self) -> Any:
            tf.io.write_file(str(ran), "yes")
            return tf.constant(0)

    own = Own()
    tf.saved_model.save(own, str(tmp_path / "exported"), {"serving_default": own.serve, "start": own.start})
    saved = SavedModelBackend(tmp_path / "exported", one, (4, 4))
    assert_allclose(saved.logits(window(0, (4, 4))[None]).ravel()[1], window(0, (4, 4)).mean(), rtol=1e-5)
    assert not ran.exists()


def test_variables_are_read_by_reading_only(tmp_path: Path) -> None:
    """The way in which the folder says that its variables are read could be anything."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = export(keras_copy(ConvNet()), tmp_path / "exported")
    path = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saver = content.meta_graphs[0].saver_def
    saver.restore_op_name = saver.save_tensor_name.partition(":")[0]
    path.write_bytes(content.SerializeToString())
    before = digest_of(folder)
    with pytest.raises(ModelError, match=r"holds the operation (\w+) .*nothing of it was run"):
        SavedModelBackend(folder, one, (16, 16))
    assert digest_of(folder) == before


def test_a_folder_that_does_not_fit_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty has no saved_model.pb; a SavedModel folder is expected"):
        SavedModelBackend(tmp_path / "empty", one, (16, 16))
    (tmp_path / "empty" / "saved_model.pb").write_bytes(b"nothing at all")
    with pytest.raises(ModelError, match=r"saved_model.pb is no SavedModel|no graph tagged «serve»"):
        SavedModelBackend(tmp_path / "empty", one, (16, 16))
    folder = export(keras_copy(ConvNet()), tmp_path / "exported")
    with pytest.raises(ValueError, match=r"takes \(None, 16, 16, 1\) and cannot take the front end's input \(3, 16, 1"):
        SavedModelBackend(folder, three, (16, 16))
    for name, function, shape, message in (
        ("sound", lambda x: x, (None, 100), r"takes float32 \[-1, 100\]; float32 of any number of windows"),
        (
            "single",
            lambda x: tf.reduce_mean(x, (1, 2)),
            (1, 4, 4, 1),
            r"takes float32 \[1, 4, 4, 1\]; float32 of any number",
        ),
        (
            "image",
            lambda x: 2 * x,
            (None, 4, 4, 1),
            r"answers with shape \(None, 4, 4, 1\); \(n, classes\) is expected",
        ),
        ("two", lambda x: {"a": x, "b": x}, (None, 4, 4, 1), r"has inputs x and outputs a, b; one of each is expected"),
        ("soft", lambda x: 1 / (1 + tf.exp(-tf.reduce_mean(x, (1, 2)))), (None, 4, 4, 1), "with probabilities that no"),
    ):
        with pytest.raises((ValueError, ModelError), match=message):
            SavedModelBackend(module(tmp_path / name, function, shape), one, (4, 4))
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(ModelError, match="exported cannot be read as a SavedModel: "):
        SavedModelBackend(folder, one, (16, 16))


# --- cards that name a folder


def small() -> Any:
    from tensorflow import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def test_a_folder_is_added_by_a_card(home: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    model = small()
    export(model, given / "exported")
    (given / "card.toml").write_text(CARD)
    card = xp.add_model(given / "card.toml")
    assert card.digest == digest_of(given / "exported") == digest_of(home / "folder" / "exported")
    shutil.rmtree(given)  # the copy is complete
    features = xp.load_model("folder").features(radiograph()).values
    expected = model(((features - 0.5) / 0.5)[None, ..., None]).numpy()[0]
    assert_allclose(xp.load_model("folder").predict(radiograph()).probabilities, expected, atol=1e-5)
    assert xp.explain("folder", radiograph(), ["grad-cam"], store=False).attrs["weights_digest"] == card.digest
    xp.remove_model("folder")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_with_softmax_is_added_by_a_card(home: Path, tmp_path: Path, suffix: str) -> None:
    small().save(tmp_path / f"exported{suffix}")
    (tmp_path / "card.toml").write_text(CARD.replace('"exported"', f'"exported{suffix}"'))
    xp.add_model(tmp_path / "card.toml")
    assert all(answer is True for answer in compatible("folder").values())


def test_the_digest_of_a_folder_covers_paths_and_contents(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return digest_of(tmp_path / name)

    files = {"saved_model.pb": "graph", "variables/variables.index": "index"}
    digests = [
        made("a", files),
        made("b", {**files, "saved_model.pb": "other"}),
        made("c", {**files, "assets/more": ""}),
        made("d", {"saved_model.pb": "graph", "variables.index": "index"}),
        made("e", {"saved_model.pb": "index", "variables/variables.index": "graph"}),
    ]
    assert len(set(digests)) == 5
    assert made("f", dict(reversed(files.items()))) == digests[0]


def test_links_are_not_followed(home: Path, tmp_path: Path) -> None:
    folder = export(small(), tmp_path / "exported")
    (tmp_path / "card.toml").write_text(CARD)
    (folder / "assets" / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="link in exported is a link"):
        xp.add_model(tmp_path / "card.toml")
    (folder / "assets" / "link").unlink()
    folder.rename(tmp_path / "real")
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(ModelError, match="exported in exported is a link"):
        xp.add_model(tmp_path / "card.toml")
    assert list(home.iterdir()) == []


def test_a_changed_folder_is_not_loaded(home: Path, tmp_path: Path) -> None:
    export(small(), tmp_path / "exported")
    (tmp_path / "card.toml").write_text(CARD)
    xp.add_model(tmp_path / "card.toml")
    (home / "folder" / "exported" / "assets").mkdir(exist_ok=True)
    (home / "folder" / "exported" / "assets" / "more").write_text("")
    with pytest.raises(ModelError, match="exported is not the file of its card"):
        xp.load_model("folder")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'weights = "exported"',
            'weights = ".."',
            r"field «weights» is '\.\.'; the name of a file, or of a SavedModel",
        ),
        ('framework = "tensorflow"', 'framework = "onnxruntime"', "exported is a folder; a file is expected of onnx"),
        ('["normal", "pneumonia"]', '["a", "b", "c"]', "field «labels» names 3 classes"),
    ],
)
def test_a_wrong_card_of_a_folder_gets_an_error(home: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    export(small(), tmp_path / "exported")
    (tmp_path / "card.toml").write_text(CARD.replace(old, new))
    with pytest.raises((CardError, ModelError), match=message):
        xp.add_model(tmp_path / "card.toml")
    assert not home.exists() or list(home.iterdir()) == []


def test_a_recording_of_any_length_is_heard_as_it_is(tmp_path) -> None:
    from xai_panel.models.architectures import build_keras
    from xai_panel.models.frontends import LogMel

    model = build_keras("xai_panel:keras-length-free", 2)
    model.export(tmp_path / "folder", verbose=False)
    frontend = LogMel(bands=24, frames=40, mean=(0.5,), std=(0.25,), padded=False)
    saved = Classifier.from_saved_model(tmp_path / "folder", labels=("bona fide", "spoof"), frontend=frontend)
    batch = np.random.default_rng(0).uniform(-80, 0, (2, 24, 17)).astype(np.float32)
    keras = Classifier.from_keras(model, labels=("bona fide", "spoof"), frontend=frontend)
    np.testing.assert_allclose(saved.backend.logits(batch), keras.backend.logits(batch), rtol=1e-4, atol=1e-4)
    assert saved.backend.gradients(batch, 0, saved.backend.default_layer()).inputs.shape == batch.shape
