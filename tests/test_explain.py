"""The one entry point: known answers on linear models, sharing, reuse, progress, cancellation, errors."""

from __future__ import annotations

import threading
import weakref
import zipfile

import numpy as np
import pytest
import xarray as xr
from questions import HOP, CountingBackend, Frames, Seer, listener, make_card, radiograph, recording, seer

from xai_panel.engine import run as run_module
from xai_panel.engine.explain import Cancelled, Progress, explain
from xai_panel.evidence.evidence import Evidence
from xai_panel.explanation.store import Store
from xai_panel.methods import compatible
from xai_panel.models.classifier import Classifier
from xai_panel.signals.errors import SignalError

SINGLE_PASS = ["saliency", "input-x-gradient", "cam", "grad-cam", "grad-cam++", "layer-cam"]


def weights(bands: int = 4, frames: int = 8) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((bands, frames)).astype(np.float32)


def pieces(signal: xr.DataArray, bands: int = 4) -> np.ndarray:
    """Features of `questions.Frames`, computed another way: band b of frame t is sample 10 t + b."""
    return np.array([[signal.values[10 * t + b] for t in range(signal.size // 10)] for b in range(bands)])


def same_maps(one: xr.Dataset, other: xr.Dataset) -> None:
    np.testing.assert_array_equal(one["method"], other["method"])
    np.testing.assert_array_equal(one["attribution"], other["attribution"])


# --- known answers


def test_input_x_gradient_of_a_linear_model_is_weight_times_feature():
    w, signal = weights(), recording(0.8)
    ds = explain(listener(w), signal, ["input-x-gradient"], target="spoof", baseline="floor", store=False)
    np.testing.assert_allclose(ds["attribution"].sel({"method": "input-x-gradient"}), w * pieces(signal), rtol=1e-5)
    assert ds["attribution"].sum().item() == pytest.approx(ds["logits"].sel(label="spoof").item(), rel=1e-4)


def test_overlapping_windows_are_averaged_on_the_axis_of_the_recording():
    w, signal = weights(), recording(2.1)  # 21 frames: windows at 0, 4, 8, 12 and, ending with it, 13
    ds = explain(listener(w), signal, ["input-x-gradient"], target=1, baseline="floor", store=False)
    x = pieces(signal)
    expected = np.zeros((4, 21))
    triangle = np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 8 + 1e-3  # a window counts less towards its edges
    for t in range(21):
        covering = [start for start in (0, 4, 8, 12, 13) if start <= t < start + 8]
        shares = [triangle[t - start] for start in covering]
        expected[:, t] = np.average([w[:, t - start] * x[:, t] for start in covering], axis=0, weights=shares)
    np.testing.assert_allclose(ds["attribution"][0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ds["time"], HOP * np.arange(21))
    np.testing.assert_allclose(ds["window_start"], [0, 0.4, 0.8, 1.2, 1.3])
    np.testing.assert_allclose(ds["window_stop"], [0.8, 1.2, 1.6, 2.0, 2.1])
    logits = [(w * x[:, s : s + 8]).sum() for s in (0, 4, 8, 12, 13)]
    np.testing.assert_allclose(ds["window_logit"], logits, rtol=1e-4)
    assert ds["logits"].sel(label="spoof").item() == pytest.approx(np.mean(logits), rel=1e-4)


def test_the_padding_of_a_short_recording_is_cut_off():
    w, signal = weights(), recording(0.5)
    ds = explain(listener(w), signal, ["input-x-gradient", "occlusion"], target="spoof", baseline="floor", store=False)
    assert dict(ds["attribution"].sizes) == {"method": 2, "frequency": 4, "time": 5}
    np.testing.assert_allclose(ds["attribution"][0], w[:, :5] * pieces(signal), rtol=1e-5)


def test_maps_of_a_coarse_grid_lie_on_the_axes_of_the_input():
    signal = radiograph(units="mm")
    ds = explain(seer(), signal, ["grad-cam", "saliency"], target=0, store=False)
    assert ds["attribution"].dims == ("method", "y", "x")
    assert list(ds["grid"].values) == ["8×8", "16×16"]
    assert ds["y"].attrs["units"] == "mm"
    np.testing.assert_array_equal(ds["y"], signal["y"])
    np.testing.assert_array_equal(ds["input"], signal)


def test_the_predicted_class_is_explained_unless_another_is_asked_for():
    classifier, signal = seer(), radiograph()
    predicted = classifier.predict(signal)
    ds = explain(classifier, signal, ["saliency"], store=False)
    assert (ds.attrs["target"], ds.attrs["target_label"]) == (predicted.index, predicted.label)
    np.testing.assert_allclose(ds["probability"], predicted.probabilities)
    other = explain(classifier, signal, ["saliency"], target=1 - predicted.index, store=False)
    assert other.attrs["target_label"] != predicted.label


def test_what_was_asked_is_recorded():
    ds = explain(
        seer(), radiograph(), ["lime"], seed=7, layer="conv", baseline="blur", budget={"coalitions": 40}, store=False
    )
    recorded = {name: ds.attrs[name] for name in ("seed", "target_layer", "baseline", "model", "modality")}
    assert recorded == {
        "seed": 7, "target_layer": "conv", "baseline": "blur", "model": "tiny", "modality": "radiograph",
    }  # fmt: skip
    assert '"coalitions": 40' in ds.attrs["params"]
    assert ds["evaluations"].item() == 42  # the window itself, the baseline and the coalitions


# --- evidence once, whatever the order


def test_six_methods_read_one_forward_and_backward_pass():
    classifier = seer()
    ds = explain(classifier, radiograph(), SINGLE_PASS, store=False)
    assert ds["evaluations"].sum().item() == ds["backward"].sum().item() == 1


def test_activation_methods_read_the_pass_of_the_verdict(tmp_path):
    classifier, store = seer(), Store(tmp_path)
    compatible(classifier)  # asks the model about its head, once
    before = classifier.backend.windows
    first = explain(classifier, radiograph(), ["grad-cam"], store=store)
    assert first["evaluations"].item() == 0
    assert classifier.backend.windows == before + 1
    later = explain(classifier, radiograph(), ["layer-cam"], store=store)  # the store has the verdict
    assert later["evaluations"].item() == 1
    fresh = explain(seer(), radiograph(), ["layer-cam"], store=False)
    np.testing.assert_array_equal(later["attribution"], fresh["attribution"])


def test_activation_methods_alone_go_back_no_further_than_their_layer_in_every_window_of_a_long_recording():
    backend = CountingBackend(Seer(0), lambda x: x[:, None], (8, 16))
    classifier = Classifier(make_card("audio", "f" * 64), Frames((8, 16)), backend)
    signal, ids = recording(10.0), ["grad-cam", "layer-cam"]
    alone = explain(classifier, signal, ids, store=False)
    windows = alone.sizes["window"]
    assert windows > 8 and alone["evaluations"].values.tolist() == [windows, 0] and not alone["backward"].any()
    among = explain(classifier, signal, ["saliency", *ids], store=False)
    assert among["backward"].sum().item() == windows
    np.testing.assert_allclose(alone["attribution"], among["attribution"][1:], rtol=1e-4, atol=1e-6)


def test_lime_and_kernel_shap_read_the_same_coalitions():
    both = explain(seer(), radiograph(), ["lime", "kernel-shap"], store=False)
    assert both["evaluations"].values.tolist()[1] == 0
    one = explain(seer(), radiograph(), ["kernel-shap"], store=False)
    np.testing.assert_array_equal(both["attribution"].sel({"method": "kernel-shap"}), one["attribution"][0])


def test_the_order_of_the_request_is_the_order_of_the_result_and_changes_no_map():
    ids = ["occlusion", "consensus", "saliency", "lime", "smoothgrad"]
    ds = explain(seer(), radiograph(), ids, store=False)
    assert ds["method"].values.tolist() == ids
    again = explain(seer(), radiograph(), ids[::-1], store=False)
    same_maps(ds, again.sel({"method": ids}))


def test_the_same_seed_gives_the_same_maps_and_another_seed_others():
    ids = ["smoothgrad", "lime", "kernel-shap"]
    asked = {"target": 0, "store": False}
    one, same, other = (explain(seer(), radiograph(), ids, seed=seed, **asked) for seed in (3, 3, 4))
    same_maps(one, same)
    for id in ids:
        assert not np.array_equal(one["attribution"].sel({"method": id}), other["attribution"].sel({"method": id}))


def test_consensus_is_the_mean_rank_of_the_real_part():
    from scipy.stats import rankdata

    ds = explain(listener(weights()), recording(0.5), ["saliency", "input-x-gradient", "consensus"], store=False)
    maps = ds["attribution"].values
    ranks = np.stack([(rankdata(m).reshape(m.shape) - 0.5) / m.size for m in maps[:2]])
    np.testing.assert_allclose(maps[2], ranks.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(ds["spread"], ranks.std(axis=0), atol=1e-6)


def test_all_compatible_methods_are_the_default():
    ids = explain(seer(pool=2), radiograph(), store=False, budget={"coalitions": 20})["method"].values.tolist()
    assert "cam" not in ids
    assert {*SINGLE_PASS} - {"cam"} < set(ids)
    assert ids[-1] == "consensus"


# --- the store


def test_a_second_request_asks_the_model_nothing(tmp_path):
    store, ids = Store(tmp_path), ["saliency", "grad-cam", "lime", "consensus"]
    first = explain(seer(), radiograph(), ids, store=store)
    classifier, events = seer(), []
    second = explain(classifier, radiograph(), ids, store=store, progress=events.append)
    assert classifier.backend.windows == 2  # the inputs of the test for CAM
    same_maps(first, second)
    np.testing.assert_array_equal(first["spread"], second["spread"])
    for name in ("error", "evaluations", "backward", "seconds", "grid", "error_kind"):
        np.testing.assert_array_equal(first[name], second[name])
    assert events[-1].done == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"target": 1},
        {"baseline": "floor"},
        {"layer": "conv"},
        {"budget": {"coalitions": 30}},
        {"signal": radiograph(1)},
        {"model": seer(1, digest="c" * 64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_not_answered_from_the_store(tmp_path, change):
    store = Store(tmp_path)
    asked = {"model": seer(), "signal": radiograph(), "methods": ["lime"], "target": 0, "store": store}
    explain(**asked)
    stored = explain(**{**asked, **change})
    fresh = explain(**{**asked, **change, "store": False})
    same_maps(stored, fresh)
    maps = [path for path in tmp_path.glob("maps/*/*.zip") if "values" in str(zipfile.ZipFile(path).namelist())]
    assert len(maps) == 2


def test_a_crop_that_keeps_the_attributes_of_the_file_is_another_signal(tmp_path):
    store, signal, classifier = Store(tmp_path), recording(0.8), listener(weights())
    signal.attrs["digest"] = "d" * 64
    explain(classifier, signal, ["input-x-gradient"], target=1, store=store)
    later = signal.isel(time=slice(10, None))
    ds = explain(classifier, later, ["input-x-gradient"], target=1, baseline="floor", store=store)
    np.testing.assert_allclose(ds["attribution"][0], weights()[:, :7] * pieces(later), rtol=1e-5)


def test_a_model_without_digest_is_never_answered_from_the_store(tmp_path):
    for seed in (0, 1):
        explain(seer(seed, digest=""), radiograph(), ["saliency"], store=Store(tmp_path))
    assert not list(tmp_path.rglob("*.zip"))


def test_identical_requests_at_the_same_time_are_computed_once(tmp_path):
    alone = seer()
    explain(alone, radiograph(), ["saliency", "lime"], store=Store(tmp_path / "alone"))
    shared, results, store = seer(), [], Store(tmp_path / "shared")
    compatible(shared)  # kept with the classifier; threads that come at the same time would each find it out
    shared.backend.windows = 2  # as many as the first request of the other classifier needed for it
    verdicts = threading.Barrier(3)
    original = shared.prediction

    def together(*args):
        prediction = original(*args)
        verdicts.wait(10)
        return prediction

    shared.prediction = together

    def ask():
        results.append(explain(shared, radiograph(), ["saliency", "lime"], store=store))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 <= shared.backend.windows - alone.backend.windows <= 2  # verdicts may be given at the same time
    assert len(results) == 3
    for other in results[1:]:
        same_maps(results[0], other)


def test_an_unwritable_store_costs_a_warning_not_the_explanation(tmp_path, caplog):
    (tmp_path / "file").write_text("a file where the folder should be")
    ds = explain(seer(), radiograph(), ["saliency"], store=Store(tmp_path / "file"))
    assert np.isfinite(ds["attribution"]).all()
    assert "cannot be kept" in caplog.text


# --- long recordings


def test_a_long_recording_keeps_the_evidence_of_a_few_windows_at_a_time(monkeypatch):
    alive: weakref.WeakSet[Evidence] = weakref.WeakSet()
    most = 0

    class Counted(Evidence):
        def __init__(self, *args, **kwargs):
            nonlocal most
            super().__init__(*args, **kwargs)
            alive.add(self)
            most = max(most, len(alive))

    monkeypatch.setattr(run_module, "Evidence", Counted)
    w, signal = weights(), recording(60.0)
    ids = ["saliency", "input-x-gradient", "lime", "kernel-shap"]
    ds = explain(listener(w), signal, ids, target=1, baseline="floor", budget={"coalitions": 20}, store=False)
    assert most <= run_module.BLOCK + 1
    assert ds.sizes["window"] == 149
    # the second lane asks the window's own logit again, which is cheaper than keeping all evidence
    assert ds["evaluations"].values.tolist() == [149, 0, 149 * 22, 0]
    # away from the ends frame t is covered by two windows, at its place and half a window further
    # and the nearer a window's edge, the less it counts
    triangle = np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 8 + 1e-3
    w_mean = np.stack(
        [np.average(w[:, [t % 4, t % 4 + 4]], axis=1, weights=triangle[[t % 4, t % 4 + 4]]) for t in range(600)], axis=1
    )
    np.testing.assert_allclose(
        ds["attribution"][1, :, 8:590], (w_mean * pieces(signal))[:, 8:590], rtol=1e-4, atol=1e-6
    )


def test_maps_of_a_long_recording_come_from_the_store_unchanged(tmp_path):
    asked = {"methods": ["saliency", "occlusion", "consensus"], "target": 1, "store": Store(tmp_path)}
    first = explain(listener(weights()), recording(12.0), **asked)
    same_maps(first, explain(listener(weights()), recording(12.0), **asked))


# --- progress, maps as they come, cancellation


def test_progress_never_goes_back_and_ends_at_one():
    events: list[Progress] = []
    explain(seer(), radiograph(), progress=events.append, store=False)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert done[0] >= 0 and done[-1] == 1.0
    assert "LIME: 192 of 400 masked inputs" in [event.message for event in events]


def test_progress_of_a_long_recording_names_the_window():
    events: list[Progress] = []
    explain(listener(weights()), recording(3.0), ["saliency", "lime"], progress=events.append, store=False)
    assert any(event.message == "LIME, window 2 of 7" for event in events)
    assert [event.done for event in events] == sorted(event.done for event in events)


def test_each_map_is_handed_over_as_soon_as_it_is_there():
    arrived = {}
    ds = explain(
        seer(),
        radiograph(),
        ["lime", "saliency", "consensus"],
        store=False,
        on_map=lambda id, one: arrived.update({id: one}),
    )
    assert list(arrived) == ["saliency", "lime", "consensus"]
    for id, one in arrived.items():
        np.testing.assert_array_equal(one["attribution"], ds["attribution"].sel({"method": [id]}))


@pytest.mark.parametrize("id", ["lime", "occlusion", "smoothgrad", "integrated-gradients"])
def test_cancelling_takes_effect_within_one_batch(id):
    classifier, cancel, calls = seer(), threading.Event(), []

    def stop(progress: Progress) -> None:
        if " of " in progress.message:
            cancel.set()
            calls.append(classifier.backend.calls)

    with pytest.raises(Cancelled):
        explain(classifier, radiograph(), [id], progress=stop, cancel=cancel, store=False)
    assert classifier.backend.calls - calls[0] <= 1


def test_a_cancelled_request_leaves_nothing_locked(tmp_path):
    store, cancel = Store(tmp_path), threading.Event()

    def stop(progress: Progress) -> None:
        if progress.method == "lime" and " of " in progress.message:
            cancel.set()

    with pytest.raises(Cancelled):
        explain(seer(), radiograph(), ["saliency", "lime"], progress=stop, cancel=cancel, store=store)
    assert explain(seer(), radiograph(), ["saliency", "lime"], store=store).sizes["method"] == 2


def test_cancelled_before_it_began():
    cancel = threading.Event()
    cancel.set()
    classifier = seer()
    with pytest.raises(Cancelled):
        explain(classifier, radiograph(), ["saliency"], cancel=cancel, store=False)
    assert classifier.backend.calls == 0


# --- errors


def test_a_radiograph_given_to_an_audio_model_names_both():
    with pytest.raises(SignalError, match=r"noise\.png: this is a radiograph .*tiny.* accepted: a recording"):
        explain(listener(weights()), radiograph(), ["saliency"], store=False)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"methods": ["grad-cm"]}, "did you mean grad-cam"),
        ({"methods": ["cam"], "model": seer(pool=2)}, "CAM cannot explain tiny: the head behind layer pool"),
        ({"methods": "saliency"}, r"expected a list of ids, such as \['saliency'\]"),
        ({"methods": []}, "no method was asked for"),
        ({"methods": ["consensus", "saliency"]}, "two or more"),
        ({"target": "tumour"}, "0 = normal, 1 = pneumonia"),
        ({"target": 5}, "0 = normal, 1 = pneumonia"),
        ({"layer": "conv9"}, "its layers: conv, relu"),
        ({"model": "no-such-model"}, "no classifier 'no-such-model'"),
        ({"budget": {"samples": 3}}, "samples not known"),
        ({"baseline": "pink"}, "pink"),
    ],
)
def test_errors_say_what_is_accepted(change, message):
    asked = {"model": seer(), "signal": radiograph(), "methods": ["saliency"], "store": False}
    with pytest.raises(ValueError, match=message):
        explain(**{**asked, **change})


def test_a_plain_array_is_refused_with_the_way_to_read_it():
    with pytest.raises(TypeError, match="read_signal"):
        explain(seer(), np.zeros((16, 16)), ["saliency"], store=False)
