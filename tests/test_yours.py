"""Classifiers of one's own: from Python, and added by a card."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from questions import radiograph
from tiny import PlainFrontEnd
from torch import nn

import xai_panel as xp
from xai_panel.cli import main
from xai_panel.models.card import CardError
from xai_panel.models.errors import CodeError, ModelError
from xai_panel.models.frontends import LogMel, RadiographImage, build_frontend, describe
from xai_panel.views.session import Session

TABLE = {"kind": "radiograph", "size": 16, "mean": [0.5], "std": [0.5]}
CARD = """
id = "mine"
title = "Mine"
summary = "A classifier of my own."
modality = "radiograph"
framework = "torch"
architecture = "xai_panel:custom-cnn"
labels = ["normal", "pneumonia"]
weights = "mine.pth"
[frontend]
kind = "radiograph"
size = 16
mean = [0.5]
std = [0.5]
"""


def network(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XAI_PANEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def card(tmp_path) -> Path:
    """A card with its weights beside it."""
    return write(tmp_path / "given", CARD)


def write(folder: Path, text: str, content: object = None) -> Path:
    from xai_panel.models.architectures import build

    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.save(build("xai_panel:custom-cnn", 1).state_dict() if content is None else content, folder / "mine.pth")
    (folder / "card.toml").write_text(text, encoding="utf-8")
    return folder / "card.toml"


# --- from Python


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_module_is_a_classifier_in_one_line(outputs):
    module = network(outputs)
    mine = xp.Classifier.from_torch(module, labels=["normal", "pneumonia"], frontend=TABLE, title="Mine", positive=1)
    assert (mine.card.modality, mine.card.framework, mine.card.title, mine.digest) == (
        "radiograph",
        "torch",
        "Mine",
        "",
    )
    features = torch.tensor(mine.features(radiograph()).values)
    with torch.no_grad():
        answer = module(((features - 0.5) / 0.5)[None, None])[0].numpy()
    expected = answer if outputs == 2 else [-answer[0], answer[0]]
    np.testing.assert_allclose(mine.predict(radiograph()).logits, expected, rtol=1e-5)
    assert all(answer is True for answer in xp.compatible(mine).values())
    ds = xp.explain(mine, radiograph(), ["grad-cam", "lime", "integrated-gradients"], store=False)
    assert list(ds["method"].values) == ["grad-cam", "lime", "integrated-gradients"]
    np.testing.assert_allclose(ds["logits"], expected, rtol=1e-4)


def test_a_front_end_may_be_an_object_of_ones_own():
    mine = xp.Classifier.from_torch(network(), labels=["a", "b"], frontend=PlainFrontEnd((16, 16)))
    assert mine.card.frontend == {"kind": "PlainFrontEnd", "shape": (16, 16), "modality": "radiograph", "floor": 0.0,
                                  "units": "1"}  # fmt: skip
    for frontend in (LogMel(bands=64, mean=(0.5,), std=(0.25,)), RadiographImage(32)):
        assert build_frontend(describe(frontend)) == frontend


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b", "c"]}, r"field «labels» names 3 classes \(a, b, c\); the network has 2"),
        ({"labels": "ab"}, "field «labels» is 'ab'; a list of texts"),
        ({"target_layer": "head"}, "field «target_layer» is 'head'; layers with a spatial grid: 0, 1"),
        ({"temperature": -1.0}, "field «temperature»"),
        ({"frontend": {"kind": "radiograph", "sise": 16}}, "parameter «sise» is unknown"),
        ({"frontend": {"kind": "radiograph", "size": 16}}, r"cannot take the front end's input \(1, 3, 16, 16\)"),
        ({"module": network().double()}, r"parameter «0.weight» is torch.float64 on cpu; float32 on the CPU"),
    ],
)
def test_what_does_not_fit_a_module_is_named(changes, message):
    given = {"module": network(), "labels": ["a", "b"], "frontend": TABLE, **changes}
    with pytest.raises(ValueError, match=message):
        xp.Classifier.from_torch(given.pop("module"), **given)


def test_a_keras_model_is_a_classifier_in_one_line():
    keras = pytest.importorskip("keras", reason="needs the extra «tensorflow»")
    pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
    inputs = keras.Input((16, 16, 1))
    grid = keras.layers.Conv2D(3, 3, activation="relu", name="grid")(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(grid))
    model = keras.Model(inputs, outputs)
    mine = xp.Classifier.from_keras(model, labels=["a", "b"], frontend=TABLE, target_layer="grid")
    assert (mine.card.framework, mine.card.target_layer) == ("tensorflow", "grid")
    features = mine.features(radiograph()).values
    expected = model(((features - 0.5) / 0.5)[None, ..., None]).numpy()[0]
    np.testing.assert_allclose(mine.predict(radiograph()).logits, expected, rtol=1e-4)
    assert all(answer is True for answer in xp.compatible(mine).values())
    with pytest.raises(ValueError, match=r"cannot take the front end's input \(1, 16, 16, 3\)"):
        xp.Classifier.from_keras(model, labels=["a", "b"], frontend={"kind": "radiograph", "size": 16})


# --- from ONNX


def onnx_file(path: Path, *, last: bool = False, outputs: int = 2, end: str = "", batch: str | int = "n") -> Path:
    """The network above as an ONNX graph: channels first or last, and with what its end is called."""
    pytest.importorskip("onnxruntime", reason="needs the extra «onnx»")
    onnx = pytest.importorskip("onnx", reason="needs the package onnx to write a file")
    make, weights = onnx.helper, {k: v.numpy() for k, v in network(outputs).state_dict().items()}
    nodes = [make.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        make.make_node("Conv", ["first" if last else "x", "0.weight", "0.bias"], ["grid"]),
        make.make_node("Relu", ["grid"], ["active"]),
        make.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        make.make_node("Flatten", ["pooled"], ["flat"]),
        make.make_node("Gemm", ["flat", "4.weight", "4.bias"], ["logits"], transB=1),
    ]
    nodes += [make.make_node(end, ["logits"], ["probabilities"])] if end else []
    shape = [batch, 16, 16, 1] if last else [batch, 1, 16, 16]
    graph = make.make_graph(
        nodes,
        "tiny",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [make.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, [batch, outputs])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "options", [{}, {"last": True}, {"outputs": 1}, {"batch": 1}, {"batch": 3}], ids=["", "last", "one", "by 1", "by 3"]
)
def test_an_onnx_file_answers_like_the_module(tmp_path, options):
    path = onnx_file(tmp_path / "mine.onnx", **options)
    mine = xp.Classifier.from_onnx(path, labels=["a", "b"], frontend=TABLE)
    same = xp.Classifier.from_torch(network(options.get("outputs", 2)), labels=["a", "b"], frontend=TABLE)
    batch = np.random.default_rng(0).random((4, 16, 16), np.float32)
    np.testing.assert_allclose(mine.backend.logits(batch), same.backend.logits(batch), atol=1e-5)
    expected = same.predict(radiograph()).probabilities
    np.testing.assert_allclose(mine.predict(radiograph()).probabilities, expected, atol=1e-5)


def test_an_onnx_file_is_explained_by_the_methods_that_only_ask_for_logits(tmp_path):
    mine = xp.Classifier.from_onnx(onnx_file(tmp_path / "mine.onnx"), labels=["a", "b"], frontend=TABLE)
    answers = xp.compatible(mine)
    allowed = [id for id, answer in answers.items() if answer is True]
    assert allowed == ["occlusion", "lime", "kernel-shap", "consensus"]
    refused = {answer for answer in answers.values() if answer is not True}
    assert refused == {"onnxruntime answers with logits only"}
    with pytest.raises(ValueError, match="onnxruntime answers with logits only"):
        xp.explain(mine, radiograph(), ["grad-cam"], store=False)
    ds = xp.explain(mine, radiograph(), store=False)
    same = xp.Classifier.from_torch(network(), labels=["a", "b"], frontend=TABLE)
    expected = xp.explain(same, radiograph(), allowed, store=False)
    assert list(ds["method"].values) == allowed
    for id in ("occlusion", "lime", "kernel-shap"):
        one, other = ds.xai.map(id).values, expected.xai.map(id).values
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(other).max())


def test_an_onnx_file_is_added_by_a_card(home, tmp_path):
    (tmp_path / "given").mkdir()
    onnx_file(tmp_path / "given" / "mine.onnx")
    path = tmp_path / "given" / "card.toml"
    text = (
        CARD.replace("mine.pth", "mine.onnx").replace('"torch"', '"onnxruntime"').replace("xai_panel:custom-cnn", "own")
    )
    path.write_text(text)
    xp.add_model(path)
    assert xp.load_model("mine").predict(radiograph()).labels == ("normal", "pneumonia")
    xp.remove_model("mine")
    path.write_text(text.replace('["normal", "pneumonia"]', '["a", "b", "c"]'))
    with pytest.raises(CardError, match="field «labels» names 3 classes"):
        xp.add_model(path)


def test_an_onnx_file_that_does_not_fit_is_named(tmp_path):
    table = {"kind": "radiograph", "size": 16}
    with pytest.raises(ValueError, match=r"takes \['n', 1, 16, 16\] and cannot take the \(1, 3, 16, 16\)"):
        xp.Classifier.from_onnx(onnx_file(tmp_path / "a.onnx"), labels=["a", "b"], frontend=table)
    for end, outputs in (("Softmax", 2), ("Sigmoid", 1)):
        path = onnx_file(tmp_path / "b.onnx", end=end, outputs=outputs)
        with pytest.raises(ValueError, match=r"b.onnx answers with probabilities; logits are expected"):
            xp.Classifier.from_onnx(path, labels=["a", "b"], frontend=TABLE)
    (tmp_path / "c.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"c.onnx cannot be read as an ONNX file"):
        xp.Classifier.from_onnx(tmp_path / "c.onnx", labels=["a", "b"], frontend=TABLE)


def test_without_onnx_runtime_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"mine.onnx needs ONNX Runtime: pip install xai-panel\[onnx\]"):
        xp.Classifier.from_onnx(tmp_path / "mine.onnx", labels=["a", "b"], frontend=TABLE)


# --- added by a card


def test_an_added_classifier_is_listed_loaded_and_removed(home, card, capsys):
    before = [c.id for c in xp.models()]
    assert main(["models", "add", str(card)]) == 0
    assert capsys.readouterr().out == "added mine: normal / pneumonia\n"
    assert sorted(c.id for c in xp.models()) == sorted([*before, "mine"])
    assert "mine" in [c.id for c in Session(modality="radiograph").cards]  # the pages
    kept = xp.load_model("mine").card
    assert kept.digest == hashlib.sha256((home / "mine" / "mine.pth").read_bytes()).hexdigest()
    for path in card.parent.iterdir():  # the copy is complete
        path.unlink()
    classifier = xp.load_model("mine")
    assert classifier is xp.load_model("mine") and classifier.backend.one_logit
    ds = xp.explain("mine", radiograph(size=40), ["grad-cam"], store=False)
    assert ds.attrs["weights_digest"] == kept.digest
    assert main(["models", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "xai_panel:custom-cnn"
    assert main(["models", "remove", "mine"]) == 0
    assert [c.id for c in xp.models()] == before and list(home.iterdir()) == []
    with pytest.raises(ValueError, match="no classifier 'mine'"):
        xp.load_model("mine")


def test_another_process_sees_what_was_added(home, card):
    xp.add_model(card)
    code = "import xai_panel as xp; print('mine' in [card.id for card in xp.models()])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_the_card_of_the_readme_is_a_card(home, tmp_path):
    from xai_panel.models.architectures import build

    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    text = readme.split("```toml\n")[1].split("```")[0]
    xp.add_model(write(tmp_path / "given", text, build("torchvision:densenet121", 1).state_dict()))
    assert xp.load_model("thorax-mine").frontend == RadiographImage()


def test_a_replaced_classifier_is_loaded_anew(home, card, tmp_path):
    from xai_panel.models.architectures import build

    xp.add_model(card)
    assert xp.load_model("mine").backend.one_logit
    xp.remove_model("mine")
    xp.add_model(write(tmp_path / "other", CARD, build("xai_panel:custom-cnn", 2).state_dict()))
    assert not xp.load_model("mine").backend.one_logit


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "mine"', 'id = "../mine"', "field «id» may have letters"),
        ('id = "mine"\n', "", "field «id» is missing; a text is expected"),
        ('id = "mine"', "id = 3", "field «id» is 3; a text is expected"),
        ('["normal", "pneumonia"]', '"normal"', "field «labels» is 'normal'; a list of texts"),
        ('["normal", "pneumonia"]', '["a", "b", "c"]', "1 outputs, field «labels» of the card names 3"),
        ('"radiograph"\nframework', '"video"\nframework', "field «modality» is 'video'; one of audio, radiograph"),
        ('framework = "torch"', 'framework = "jax"', "field «framework»"),
        ("xai_panel:custom-cnn", "xai_panel:custom", "field «architecture».*did you mean xai_panel:custom-cnn"),
        ('weights = "mine.pth"', 'weights = "../mine.pth"', "field «weights» is '../mine.pth'; the name of a"),
        ('weights = "mine.pth"', 'weights = "other.pth"', "field «weights» is 'other.pth'"),
        ('weights = "mine.pth"', 'weights = "mine.pth"\ntarget_layer = "x"', "field «target_layer» is 'x'"),
        ('weights = "mine.pth"', 'weights = "mine.pth"\ntemperature = "warm"', "field «temperature» is 'warm'"),
        ('weights = "mine.pth"', f'weights = "mine.pth"\ndigest = "{"0" * 64}"', "is not the file of its card"),
        ('weights = "mine.pth"', 'weights = "mine.pth"\nruns_code = true', "field «runs_code»"),
        ("size = 16", "sise = 16", "field «frontend»: front end radiograph: parameter «sise» is unknown"),
        ("mean = [0.5]\nstd = [0.5]", "", r"mine.pth: the network cannot take the front end's input \(1, 3, 16, 16\)"),
        ('title = "Mine"', 'titel = "Mine"', "unknown field «titel»"),
        ('title = "Mine"', "title = Mine", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_card_gets_an_error_that_names_the_field(home, tmp_path, old, new, message):
    assert old in CARD
    with pytest.raises((CardError, ModelError), match=message):
        xp.add_model(write(tmp_path / "given", CARD.replace(old, new)))
    assert not home.exists() or list(home.iterdir()) == []  # nothing is left behind


def test_an_id_that_is_taken_is_refused(home, card, tmp_path):
    xp.add_model(card)
    with pytest.raises(ModelError, match="a classifier mine already; `xai-panel models remove mine`"):
        xp.add_model(card)
    with pytest.raises(ModelError, match="a classifier xray-mobilenetv2 already"):
        xp.add_model(write(tmp_path / "shipped", CARD.replace('"mine"', '"xray-mobilenetv2"')))
    with pytest.raises(ValueError, match="no added classifier 'xray-mobilenetv2'; there are: mine"):
        xp.remove_model("xray-mobilenetv2")


def test_weights_that_run_code_need_the_flag(home, tmp_path, capsys):
    from xai_panel.models.architectures import build

    path = write(tmp_path / "given", CARD, build("xai_panel:custom-cnn", 2))
    with pytest.raises(CodeError, match=r"it runs \S+CustomCNN when it is read"):
        xp.add_model(path)
    assert main(["models", "add", str(path)]) == 1
    assert "if you trust its author: --allow-code" in capsys.readouterr().err
    assert main(["models", "add", str(path), "--allow-code"]) == 0
    assert xp.load_model("mine").card.runs_code
    xp.remove_model("mine")
    harmless = xp.add_model(write(tmp_path / "given", CARD), allow_code=True)
    assert not harmless.runs_code  # only where it is needed


def test_no_page_can_add_a_classifier():
    package = Path(xp.__file__).parent
    pages = [*package.glob("views/*.py"), *(package.parent / "apps").glob("*.py")]
    assert len(pages) > 10
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("add_model", "models.added", "allow_code", "read_state")), path


def test_a_network_of_ones_own_comes_by_its_import_path(home, tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n\ndef net(outputs):\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = CARD.replace("xai_panel:custom-cnn", "python:my_networks:net")
    xp.add_model(write(tmp_path / "given", text, network(2).state_dict()))
    np.testing.assert_allclose(
        xp.load_model("mine").predict(radiograph()).logits,
        xp.Classifier.from_torch(network(2), labels=["a", "b"], frontend=TABLE).predict(radiograph()).logits,
        rtol=1e-6,
    )


def test_a_card_that_has_gone_wrong_does_not_hide_the_others(home, card, caplog):
    xp.add_model(card)
    (home / "broken").mkdir()
    (home / "broken" / "card.toml").write_text('id = "broken"\n')
    assert "mine" in [c.id for c in xp.models()]
    assert "broken is left out: card.toml: field «title» is missing" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "none.toml"], 1, "none.toml: No such file or directory"),
        (["add"], 2, "no classifier 'add'"),
        (["remove", "mine"], 2, "no added classifier 'mine'; there are: none"),
        (["add", "a", "b"], 2, "models takes one ID"),
    ],
)
def test_what_was_meant_is_said_in_one_line(home, arguments, code, message, capsys):
    assert main(["models", *arguments]) == code
    stderr = capsys.readouterr().err.splitlines()
    assert len(stderr) == 1 and message in stderr[0]
