"""The same network with the same weights in PyTorch and in Keras is explained by the same maps."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from tiny import ConvNet, PlainFrontEnd, card, classifier, read_all, window
from torch import nn

from xai_panel.engine.explain import explain
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, compatible
from xai_panel.models.backends.tensorflow import TensorFlowBackend
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.classifier import Classifier

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is not installed: pip install xai-panel[tensorflow]",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def keras_copy(network: ConvNet) -> Any:
    """The layers of `ConvNet` with its weights; padded by hand, as Keras would pad a stride of two at one end only."""
    from tensorflow import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.ZeroPadding2D(1, name="pad1"),
            layers.Conv2D(6, 3, name="conv1"),
            layers.ReLU(name="relu1"),
            layers.ZeroPadding2D(1, name="pad2"),
            layers.Conv2D(8, 3, strides=2, name="conv2"),
            layers.ReLU(name="relu2"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(network.head.out_features, name="head"),
        ]
    )
    for name in ("conv1", "conv2", "head"):
        weights, bias = (p.detach().numpy() for p in getattr(network, name).parameters())
        order = (2, 3, 1, 0) if weights.ndim == 4 else (1, 0)
        model.get_layer(name).set_weights([weights.transpose(order), bias])
    return model


def keras_backend(network: ConvNet) -> TensorFlowBackend:
    return TensorFlowBackend(keras_copy(network), lambda x: x[..., None], (16, 16))


def pair(classes: int = 3) -> tuple[Classifier, Classifier]:
    backend = keras_backend(ConvNet(classes=classes))
    keras = Classifier(card(backend.classes, "tensorflow"), PlainFrontEnd((16, 16)), backend)
    return classifier(ConvNet(classes=classes), (16, 16)), keras


@pytest.mark.parametrize("classes", [1, 3])
def test_every_method_gives_the_same_map_in_both_frameworks(classes: int) -> None:
    torch_model, keras_model = pair(classes)
    for target in (0, 1):
        one, other = (Evidence(model, window(), target, baseline="floor") for model in (torch_model, keras_model))
        maps, others = read_all(one), read_all(other)
        for id in set(METHODS) - {"consensus"}:  # ranks of equal maps may differ where values are as good as equal
            scale = np.abs(maps[id].values).max()
            assert scale > 0
            assert_allclose(others[id].values, maps[id].values, atol=1e-4 * scale, err_msg=id)
        assert_allclose(others["consensus"].values, maps["consensus"].values, atol=0.02)
        assert one.evaluations == other.evaluations


class Mixed(nn.Module):
    """What real networks have besides: batch normalisation, grouped layers, pooling, several channels.

    smooth: without kinks, at which the frameworks' rounding decides between two gradients.
    """

    def __init__(self, gap: bool, smooth: bool) -> None:
        super().__init__()
        torch.manual_seed(5)  # every method finds something
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 6, 1)
        self.active1, self.active2 = (nn.SiLU(), nn.SiLU()) if smooth else (nn.ReLU(), nn.ReLU6())
        self.active3 = nn.SiLU() if smooth else nn.ReLU()
        self.pool = nn.AvgPool2d(2) if smooth else nn.MaxPool2d(2)
        self.head = nn.Linear(6 if gap else 6 * 12 * 12, 2)
        self.gap, self.smooth = gap, smooth
        for norm in (self.norm1, self.norm2):
            for values in (norm.weight.data, norm.running_var):
                values.uniform_(0.5, 2)
            for values in (norm.bias.data, norm.running_mean):
                values.normal_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.active1(self.norm1(self.conv1(x)))
        x = self.active2(self.norm2(self.conv2(x)))
        x = self.active3(self.conv3(self.pool(x)))
        return self.head(x.mean(dim=(2, 3)) if self.gap else x.flatten(1))


def mixed_copy(network: Mixed) -> Any:
    from tensorflow import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(epsilon=1e-5, name="norm1"),
            layers.Activation("silu") if network.smooth else layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(epsilon=1e-5, name="norm2"),
            layers.Activation("silu") if network.smooth else layers.ReLU(max_value=6),
            layers.AveragePooling2D(2) if network.smooth else layers.MaxPooling2D(2),
            layers.Conv2D(6, 1, name="conv3"),
            layers.Activation("silu", name="active3") if network.smooth else layers.ReLU(name="active3"),
            layers.GlobalAveragePooling2D() if network.gap else layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    head = state["head.weight"]
    if not network.gap:  # channels last
        head = head.reshape(2, 6, 12, 12).transpose(0, 2, 3, 1).reshape(2, -1)
    model.get_layer("conv1").set_weights([state["conv1.weight"].transpose(2, 3, 1, 0)])
    model.get_layer("conv2").set_weights([state["conv2.weight"].transpose(2, 3, 0, 1)])
    model.get_layer("conv3").set_weights([state["conv3.weight"].transpose(2, 3, 1, 0), state["conv3.bias"]])
    model.get_layer("head").set_weights([head.T, state["head.bias"]])
    for name in ("norm1", "norm2"):
        parts = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(name).set_weights([state[f"{name}.{part}"] for part in parts])
    return model


@pytest.mark.parametrize("gap", [True, False])
def test_kinks_have_the_same_gradients(gap: bool) -> None:
    network = Mixed(gap, smooth=False)
    one = TorchBackend(network, lambda x: torch.stack([x, 2 * x, 3 * x], dim=1), (24, 24))
    other = TensorFlowBackend(mixed_copy(network), lambda x: x[..., None] * np.array([1, 2, 3], np.float32), (24, 24))
    batch = np.stack([window(seed, (24, 24)) for seed in range(3)])
    for layer in ("active3", "conv1"):
        expected, found = (backend.gradients(batch, 1, layer) for backend in (one, other))
        for name in ("logits", "inputs", "activations", "layer"):
            values = getattr(expected, name)
            assert_allclose(getattr(found, name), values, atol=1e-4 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("gap", [True, False])
def test_a_recording_is_explained_alike_from_the_file_to_the_map(gap: bool) -> None:
    """Three normalised channels, several windows, each framework's own target layer."""
    given: dict[str, Any] = {
        "labels": ["bona fide", "spoof"],
        "frontend": {"kind": "log-mel", "bands": 24, "frames": 24},
    }
    network = Mixed(gap, smooth=True)
    models = [Classifier.from_torch(network, **given), Classifier.from_keras(mixed_copy(network), **given)]
    assert [model.backend.default_layer() for model in models] == ["active3", "active3"]
    one, other = (compatible(model) for model in models)
    assert one == other and (one["cam"] is True) == gap
    time = np.arange(8000) / 16_000
    sound = xr.DataArray(
        np.random.default_rng(0).standard_normal(8000).astype(np.float32) * np.exp(-3 * time).astype(np.float32),
        dims="time",
        coords={"time": ("time", time, {"units": "s"})},
        attrs={"modality": "audio", "sampling_rate": 16_000.0, "source": "noise"},
    )
    methods = [id for id, answer in one.items() if answer is True]
    budget = {"coalitions": 60, "positions": 36, "noise": 4, "steps": 8}
    expected, found = (explain(m, sound, methods, target=0, store=False, budget=budget) for m in models)
    assert expected.sizes["window"] > 2
    assert_allclose(found["logits"], expected["logits"], atol=1e-4)
    assert_allclose(found["probability"], expected["probability"], atol=1e-4)
    for id in methods:
        values = expected.xai.map(id).values
        scale = np.abs(values).max()
        assert scale > 0, id
        tolerance = 0.02 if id == "consensus" else 1e-4 * scale  # ranks differ where values are as good as equal
        assert_allclose(found.xai.map(id).values, values, atol=tolerance, err_msg=id)
        error = float(expected["error"].sel({"method": id}))
        assert_allclose(float(found["error"].sel({"method": id})), error, atol=1e-3 * scale, err_msg=id)


def test_one_forward_and_backward_pass_answers_like_torch() -> None:
    torch_model, keras_model = pair()
    batch = np.stack([window(seed) for seed in range(5)])
    expected, found = (model.backend.gradients(batch, 2, "relu1") for model in (torch_model, keras_model))
    assert found.activations.shape == (5, 6, 16, 16)  # channels first
    for name in ("logits", "inputs", "activations", "layer"):
        assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5, err_msg=name)
    assert_allclose(keras_model.backend.logits(batch), expected.logits, atol=1e-5)


def test_activations_alone_are_those_of_the_whole_pass() -> None:
    torch_model, keras_model = pair()
    batch = np.stack([window(seed) for seed in range(5)])
    for target in (None, 2):
        expected, found = (model.backend.activations(batch, "relu1", target) for model in (torch_model, keras_model))
        whole = keras_model.backend.gradients(batch, expected.target, "relu1")
        assert found.target == expected.target
        for name, other in (("logits", whole.logits), ("values", whole.activations), ("gradients", whole.layer)):
            assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5, err_msg=name)
            assert_allclose(getattr(found, name), other, atol=1e-6, err_msg=name)


def test_without_a_layer_only_input_gradients_come_back() -> None:
    answer = keras_backend(ConvNet()).gradients(window()[None], 0)
    assert answer.activations is None and answer.layer is None and answer.inputs.shape == (1, 16, 16)


def test_layers_with_a_grid_in_forward_order() -> None:
    backend = keras_backend(ConvNet())
    assert backend.layers() == ["pad1", "conv1", "relu1", "pad2", "conv2", "relu2"]
    assert backend.default_layer() == "relu2"
    with pytest.raises(ValueError, match="no layer 'head' with a spatial grid; there are: pad1, conv1"):
        backend.gradients(window()[None], 0, "head")


@pytest.mark.parametrize("pool", ["GlobalAveragePooling2D", "Flatten"])
def test_the_target_layer_is_the_last_one_with_a_grid_and_after_its_activation(pool: str) -> None:
    """Of a Keras network as people write it: activations inside the layers, pooling and dropout behind them."""
    from tensorflow import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    entry = keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, activation="relu", name="first")(entry)
    x = layers.MaxPooling2D(name="halved")(x)
    x = layers.Conv2D(6, 3, activation="relu", name="second")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = getattr(layers, pool)(name="pooled")(x)
    model = keras.Model(entry, layers.Dense(3, name="head")(layers.Dense(8, activation="relu", name="hidden")(x)))
    backend = TensorFlowBackend(model, lambda x: x[..., None], (16, 16))
    assert backend.default_layer() == "drop"
    answer = backend.activations(window()[None], "drop", 1)
    assert answer.values.shape == (1, 6, 5, 5) and answer.values.min() == 0 < answer.values.max()
    rest = keras.Model(model.get_layer("drop").output, model.output)  # sees nothing else
    assert_allclose(rest(answer.values.transpose(0, 2, 3, 1)), answer.logits, atol=1e-5)


def test_a_single_logit_is_two_classes() -> None:
    backend = keras_backend(ConvNet(classes=1))
    assert backend.one_logit and backend.classes == 2
    logits = backend.logits(window()[None])
    assert_array_equal(logits[:, 0], -logits[:, 1])
    assert_array_equal(backend.gradients(window()[None], 0).inputs, -backend.gradients(window()[None], 1).inputs)


def test_every_method_is_compatible() -> None:
    assert all(answer is True for answer in compatible(pair()[1]).values())


def test_a_model_inside_a_model_is_a_layer() -> None:
    from tensorflow import keras

    inner = keras_copy(ConvNet())
    inner = keras.Model(inner.inputs[0], inner.get_layer("relu2").output, name="inner")
    for build in ("functional", "sequential"):
        head = [keras.layers.Flatten(), keras.layers.Dense(2)]
        inputs = keras.Input((16, 16, 1))
        outputs = inner(inputs)
        for layer in head:
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs) if build == "functional" else keras.Sequential([inputs, inner, *head])
        backend = TensorFlowBackend(model, lambda x: x[..., None], (16, 16))
        answer = backend.gradients(window()[None], 1, "inner")
        assert_allclose(answer.activations, inner(window()[None, ..., None]).numpy().transpose(0, 3, 1, 2), atol=1e-6)
        kernel = head[1].get_weights()[0][:, 1].reshape(8, 8, 8)  # rows, columns, channels
        assert_allclose(answer.layer[0], kernel.transpose(2, 0, 1), atol=1e-6)


def ends() -> dict[str, Callable[[Any, Any], Any]]:
    """Ways of ending a Keras model with probabilities: from the features and the head to the output."""
    from tensorflow import keras

    layers = keras.layers

    def dense(activation: Any, **options: Any) -> Callable[[Any, Any], Any]:
        def end(x: Any, head: Any) -> Any:
            last = layers.Dense(head.units, activation=activation, name="last", **options)
            y = last(x)
            last.set_weights(head.get_weights()[: len(last.weights)])
            return y

        return end

    def model(x: Any, head: Any) -> Any:
        inputs = keras.Input(x.shape[1:])
        return keras.Model(inputs, dense("softmax")(inputs, head), name="classifier")(x)

    return {
        "dense": dense("softmax"),
        "sigmoid": dense("sigmoid"),
        "a layer as activation": dense(layers.Softmax()),
        "without bias": dense("softmax", use_bias=False),
        "activation": lambda x, head: layers.Activation("sigmoid")(head(x)),
        "softmax": lambda x, head: layers.Softmax()(layers.Dropout(0.5)(head(x))),
        "operation": lambda x, head: keras.ops.softmax(head(x)),
        "float32": lambda x, head: layers.Activation("linear")(layers.Activation("softmax")(head(x))),
        "inside a model": model,
    }


SOFTMAX = ["dense", "a layer as activation", "without bias", "softmax", "operation", "float32", "inside a model"]


@pytest.mark.parametrize(
    ("end", "classes"),
    [*((end, 3) for end in SOFTMAX), *((end, n) for end in ("sigmoid", "activation") for n in (1, 3))],
)
def test_probabilities_at_the_end_are_taken_off(end: str, classes: int) -> None:
    from tensorflow import keras

    plain = keras_copy(ConvNet(classes=classes))
    head = plain.get_layer("head")
    if end == "without bias":
        head.set_weights([head.get_weights()[0], np.zeros(classes)])
    model = keras.Model(plain.inputs[0], ends()[end](plain.get_layer("pool").output, head))
    batch = np.stack([window(seed) for seed in range(3)])
    before, config = model(batch[..., None]).numpy(), model.get_config()
    one, other = (TensorFlowBackend(m, lambda x: x[..., None], (16, 16)) for m in (plain, model))
    assert (other.one_logit, other.classes, other.layers()) == (one.one_logit, one.classes, one.layers())
    assert_allclose(other.logits(batch), one.logits(batch), atol=1e-6)
    expected, found = (backend.gradients(batch, 1, "relu1") for backend in (one, other))
    for name in ("logits", "inputs", "activations", "layer"):
        assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6, err_msg=name)
    assert_allclose(other.activations(batch, "relu2").gradients, one.activations(batch, "relu2").gradients, atol=1e-6)
    assert_array_equal(model(batch[..., None]), before)
    assert model.get_config() == config  # the model is the person's own


def test_a_sequential_model_with_probabilities_says_the_same_as_the_model() -> None:
    from tensorflow import keras

    for outputs, activation in ((2, "softmax"), (1, "sigmoid")):
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(outputs, activation=activation)])
        mine = Classifier.from_keras(model, labels=["a", "b"], frontend=PlainFrontEnd((16, 16)))
        answer = model(window()[None, ..., None]).numpy()[0]
        batch = mine.probabilities(mine.backend.logits(window()[None]))[0]
        assert_allclose(batch, answer if outputs == 2 else [1 - answer[0], answer[0]], atol=1e-6)


def test_training_goes_on_behind_the_logits() -> None:
    from tensorflow import keras

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    backend = TensorFlowBackend(model, lambda x: x[..., None], (4, 4))
    model.layers[-1].set_weights([np.ones((16, 2)), np.array([0.0, 1.0])])
    assert_allclose(backend.logits(np.ones((1, 4, 4), np.float32)), [[16, 17]])


def test_probabilities_that_cannot_be_taken_off_are_refused() -> None:
    from tensorflow import keras

    class Own(keras.layers.Dense):
        pass

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), Own(2, activation="softmax", name="own")])
    with pytest.raises(ValueError, match=r"ends with softmax inside of the layer own \(Own\), whose logits cannot"):
        TensorFlowBackend(model, lambda x: x[..., None], (4, 4))


def test_a_model_with_two_outputs_is_refused() -> None:
    from tensorflow import keras

    inputs = keras.Input((4, 4, 1))
    outputs = [keras.layers.Dense(2)(keras.layers.Flatten()(inputs)) for _ in range(2)]
    with pytest.raises(ValueError, match="1 inputs and 2 outputs; one of each is expected"):
        TensorFlowBackend(keras.Model(inputs, outputs), lambda x: x[..., None], (4, 4))


def test_a_subclassed_model_is_refused() -> None:
    from tensorflow import keras

    class Own(keras.Model):
        def call(self, x: Any, training: bool = False) -> Any:
            return keras.ops.mean(x, axis=(1, 2))

    with pytest.raises(ValueError, match="a functional or sequential one is expected"):
        TensorFlowBackend(Own(), lambda x: x[..., None], (4, 4))


def test_threads_on_one_model_do_not_disturb_each_other() -> None:
    backend = keras_backend(ConvNet())
    windows = [window(seed)[None] for seed in range(12)]
    jobs = [(w, seed % 3, ("relu1", "relu2", "conv2")[seed % 3]) for seed, w in enumerate(windows)]
    serial = [backend.gradients(*job) for job in jobs]
    fresh = keras_backend(ConvNet())
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda job: fresh.gradients(*job), jobs))
    for one, other in zip(serial, threaded, strict=True):
        assert_allclose(other.inputs, one.inputs, atol=1e-6)
        assert_allclose(other.layer, one.layer, atol=1e-6)


def test_a_recording_of_any_length_is_heard_as_it_is() -> None:
    """Nothing is added to a short recording, and every map has its length; a long one is heard in windows."""
    from xai_panel.models.architectures import build_keras
    from xai_panel.models.frontends import LogMel

    model = build_keras("xai_panel:keras-length-free", 2)
    frontend = LogMel(bands=24, frames=40, mean=(0.5,), std=(0.25,), padded=False)
    listener = Classifier.from_keras(model, labels=("bona fide", "spoof"), frontend=frontend)
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for samples, windows in ((144 * 17, 1), (144 * 100, 4)):
        signal = xr.DataArray(
            wave[:samples],
            dims="time",
            coords={"time": np.arange(samples) / 16_000},
            attrs={"sampling_rate": 16_000.0, "modality": "audio"},
        )
        features = listener.features(signal)
        assert features.shape == (24, samples // 144)
        prediction = listener.predict(signal)
        assert len(prediction.window_logits) == windows
        if windows == 1:
            own = model(((features.values[None, ..., None] / 80 + 1) - 0.5) / 0.25, training=False).numpy()
            assert_allclose(prediction.logits, own[0], rtol=1e-4, atol=1e-5)
        maps = explain(
            listener,
            signal,
            ["grad-cam", "integrated-gradients", "lime"],
            store=False,
            budget={"steps": 4, "coalitions": 40},
        )
        for id in maps["method"].values.tolist():
            assert maps.xai.map(id).shape == features.shape and np.isfinite(maps.xai.map(id)).all(), id


@pytest.mark.parametrize("kind", ["waveform", "cqt"])
def test_front_ends_that_only_pytorch_can_follow_say_so(kind: str) -> None:
    with pytest.raises(ValueError, match=f"front end {kind} is for PyTorch networks; .* says tensorflow"):
        Classifier.from_keras(keras_copy(ConvNet()), labels=("a", "b"), frontend={"kind": kind})
