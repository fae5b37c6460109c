"""The table of methods × classifiers, cell by cell: each is really run, and each refusal is what the caller is told."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from xai_panel.cli import main
from xai_panel.engine.explain import explain
from xai_panel.methods import METHODS, compatible
from xai_panel.models.registry import load_model, models
from xai_panel.signals.audio import waveform
from xai_panel.signals.synthetic import load_sample

SAMPLES = {"audio": "speech-lpc", "radiograph": "thorax-opacity"}
LITTLE: dict[str, Any] = {"segments": 4, "coalitions": 8, "positions": 16, "noise": 2, "steps": 2}
CARDS = [card.id for card in models()]


@cache
def sample(modality: str) -> xr.DataArray:
    """A generated signal; of the recording one second and a half."""
    signal = load_sample(SAMPLES[modality])
    return signal.isel(time=slice(0, 24_000)) if modality == "audio" else signal


@pytest.mark.parametrize("method", [id for id in METHODS if id != "consensus"])
@pytest.mark.parametrize("model", CARDS)
def test_a_cell_is_true(model: str, method: str) -> None:
    classifier = load_model(model)
    signal, answer = sample(classifier.card.modality), compatible(classifier)[method]
    if answer is not True:
        with pytest.raises(ValueError, match="cannot explain") as refusal:
            explain(classifier, signal, [method], store=False)
        assert str(answer) in str(refusal.value)
        return
    ds = explain(classifier, signal, [method], budget=LITTLE, store=False)
    values = ds["attribution"].values
    assert np.isfinite(values).all() and np.ptp(values) > 0


@pytest.mark.parametrize("model", CARDS)
def test_the_consensus_reads_two_others(model: str) -> None:
    assert compatible(model)["consensus"] is True
    others = [id for id in METHODS if compatible(model)[id] is True][:2]
    ds = explain(model, sample(load_model(model).card.modality), [*others, "consensus"], budget=LITTLE, store=False)
    assert 0 < float(ds["attribution"].sel({"method": "consensus"}).mean()) < 1


@pytest.mark.parametrize("model", [card.id for card in models() if card.modality == "audio"])
def test_a_minute_is_heard_and_explained_from_its_beginning_to_its_end(model: str) -> None:
    wave = np.resize(load_sample("speech-spoofed-stretch").values, 960_000)
    signal = waveform(wave, 16_000, source="minute.wav", digest="d" * 64)
    method = next(id for id in ("grad-cam", *METHODS) if compatible(model)[id] is True)
    ds = explain(model, signal, [method], budget=LITTLE, store=False)
    step = float(ds["time"][1] - ds["time"][0])
    assert ds["window_start"][0] == 0.0 and float(ds["window_stop"][-1]) == pytest.approx(60.0, abs=2 * step)
    assert (ds["window_start"][1:].values <= ds["window_stop"][:-1].values).all()
    assert float(ds["time"][-1]) == pytest.approx(60.0, abs=2 * step)
    logit = float(ds["logits"][ds.attrs["target"]])
    assert logit == pytest.approx(float(ds["window_logit"].mean()), abs=1e-4) and np.isfinite(logit)
    values = ds["attribution"].values
    assert np.isfinite(values).all() and np.ptp(values) > 0


@pytest.mark.parametrize("command", ["methods", "models"])
def test_the_readme_has_the_table(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--table"]) == 0
    printed = capsys.readouterr().out.strip()
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert printed in readme
