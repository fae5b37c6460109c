"""Generated samples: the same each time, what they claim to be, and their known answers where they claim them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xai_panel.signals import vocoders
from xai_panel.signals.audio import sampling_rate
from xai_panel.signals.phantom import SIZE, Box, Ellipse, Thorax, thorax
from xai_panel.signals.read import read_signal
from xai_panel.signals.synthetic import encode, load_sample, sample, samples, speech, truth_mask

RECORDINGS = [item.id for item in samples() if item.modality == "audio"]
PHANTOMS = [item.id for item in samples() if item.modality == "radiograph"]


def on_grid(pixels: int, spacing: float, units: str) -> xr.DataArray:
    """An empty image on pixel centers."""
    centers = (np.arange(pixels) + 0.5) * spacing
    image = xr.DataArray(np.zeros((pixels, pixels)), dims=("y", "x"), coords={"y": centers, "x": centers})
    image["y"].attrs["units"] = image["x"].attrs["units"] = units
    return image


def levels(wave: np.ndarray, seconds: float = 0.02, rate: int = 16_000) -> np.ndarray:
    """Level (frame,) [dBFS] of non-overlapping frames."""
    frames = wave[: len(wave) // int(seconds * rate) * int(seconds * rate)].reshape(-1, int(seconds * rate))
    return 10 * np.log10(np.mean(frames.astype(float) ** 2, axis=1) + 1e-12)


# speech ------------------------------------------------------------------------------------------------------------


def test_speech_is_reproducible_and_seeds_differ():
    first = speech(3, 2.0)
    np.testing.assert_array_equal(first, speech(3, 2.0))
    assert first.shape == (32_000,)
    assert abs(first).max() == pytest.approx(10 ** (-3 / 20))
    assert abs(np.corrcoef(first, speech(4, 2.0))[0, 1]) < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_speech_has_pauses_syllables_and_a_falling_spectrum(seed: int):
    wave = speech(seed, 5.0)
    level = levels(wave)
    loud = level > level.max() - 30
    assert 0.3 < loud.mean() < 0.9
    quiet_runs = "".join("1" if quiet else "0" for quiet in level < level.max() - 45).split("0")
    assert max(map(len, quiet_runs)) >= 8  # 0.16 s
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / 16_000)

    def band(low: float, high: float) -> float:
        return spectrum[(frequency >= low) & (frequency < high)].mean()

    assert band(200, 1000) > 10 * band(2000, 4000) > 10 * band(5000, 8000)


def test_voiced_speech_is_periodic_at_a_human_pitch():
    import librosa

    for seed in (1, 2, 5):
        wave = speech(seed, 4.0)
        pitch, voiced, _ = librosa.pyin(wave, fmin=60, fmax=400, sr=16_000)
        assert voiced.mean() > 0.25
        assert 80 < np.nanmedian(pitch) < 260
        assert np.nanstd(12 * np.log2(pitch / np.nanmedian(pitch))) > 0.8  # it has a melody


# recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", RECORDINGS)
def test_recordings_are_short_files_with_an_answer(id: str):
    item = sample(id)
    signal = load_sample(id)
    assert item.file.stat().st_size <= 300_000
    assert 4 <= signal.attrs["duration"] <= 8
    assert sampling_rate(signal) == 16_000
    assert json.loads(signal.attrs["truth"]) == item.truth
    assert signal.attrs["sample"] == id
    assert "no person's data" in item.description
    for start, stop in item.truth["intervals"]:
        assert 0 <= start < stop <= signal.attrs["duration"]


def test_a_copy_says_the_same_and_is_not_the_same():
    original = load_sample("speech").values
    for id in ("speech-griffin-lim", "speech-lpc"):
        copy = load_sample(id).values
        assert copy.shape == original.shape
        loud = levels(original) > -40
        assert np.corrcoef(levels(original)[loud], levels(copy)[loud])[0, 1] > 0.9
        assert np.sqrt(np.mean((copy - original) ** 2)) > 0.3 * np.sqrt(np.mean(original**2))


def test_the_spoofed_stretch_is_where_it_is_said_to_be():
    signal = load_sample("speech-spoofed-stretch")
    original = speech(2, 6.0)
    ((start, stop),) = sample("speech-spoofed-stretch").truth["intervals"]
    difference = abs(signal.values - original)
    time = signal["time"].values
    outside = (time < start - 0.02) | (time > stop + 0.02)
    assert difference[outside].max() < 2**-15
    inside = (time > start + 0.02) & (time < stop - 0.02)
    assert np.sqrt(np.mean(difference[inside] ** 2)) > 0.3 * np.sqrt(np.mean(original[inside] ** 2))
    assert (levels(original[inside]) > -35).mean() > 0.5  # there is speech in it to be spoofed


def test_the_truth_of_a_recording_on_the_axes_of_its_features():
    features = xr.DataArray(
        np.zeros((4, 601)), dims=("frequency", "time"), coords={"frequency": [1, 2, 3, 4], "time": np.arange(601) / 100}
    )
    mask = truth_mask("speech-spoofed-stretch", features)
    assert (mask.dims, mask.dtype) == (features.dims, bool)
    expected = (features["time"].values >= 2.1) & (features["time"].values <= 3.7)
    np.testing.assert_array_equal(mask.values, np.broadcast_to(expected, (4, 601)))
    assert not truth_mask("speech", features).any()
    assert truth_mask("speech-lpc", features).sel(time=slice(0, 5)).all()
    np.testing.assert_array_equal(
        truth_mask("speech-lpc", features.T).values, truth_mask("speech-lpc", features).values.T
    )


# phantoms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", PHANTOMS)
def test_phantoms_are_small_files_with_an_answer(id: str):
    item = sample(id)
    image = load_sample(id)
    assert item.file.stat().st_size <= 400_000
    assert min(image.shape) >= 512
    assert json.loads(image.attrs["truth"]) == item.truth
    assert "no person's data" in item.description
    mask = truth_mask(item, image)
    assert mask.sizes == image.sizes
    assert bool(mask.any()) == bool(item.truth["mask"])
    assert image["y"].attrs["units"] == item.truth["units"]


def test_a_thorax_has_the_anatomy_of_a_thorax():
    image = xr.DataArray(thorax(Thorax(7), 256, noise=0), dims=("y", "x"), coords=on_grid(256, SIZE / 256, "mm").coords)

    def grey(y: float, x: float) -> float:
        around = dict(y=slice(y - 4, y + 4), x=slice(x - 4, x + 4))
        return float(image.sel(around).mean())

    middle = SIZE / 2
    air, right_lung, left_lung = grey(8, 10), grey(160, middle - 75), grey(140, middle + 80)
    heart, liver, spine = grey(215, middle + 35), grey(320, middle - 60), grey(320, middle)
    assert air < 0.02 < min(right_lung, left_lung)
    assert max(right_lung, left_lung) + 0.25 < min(heart, liver, spine)
    assert spine > liver
    assert grey(215, middle + 60) > grey(215, middle - 60) + 0.2  # the heart lies to the patient's left
    assert grey(75, middle) < grey(75, middle + 14)  # air in the trachea
    gas = grey(287, middle + 74)
    assert gas < grey(287, middle + 30) - 0.05  # in the stomach, under the left dome


def test_a_planted_opacity_changes_the_image_inside_its_ellipse_only():
    ellipse = Ellipse((200.0, 95.0), (30.0, 22.0), 20.0)
    clear, ill = thorax(Thorax(4), 256), thorax(Thorax(4, (ellipse,)), 256)
    axes = on_grid(256, SIZE / 256, "mm")
    depth = ellipse.depth(axes["y"].values[:, None], axes["x"].values[None, :])
    change = ill - clear
    assert change[depth > 0.6].min() > 0.1
    assert abs(change[depth < -0.1]).max() < 1e-6


def test_the_two_thoraxes_of_the_samples_differ_in_the_truth_only():
    clear, ill = load_sample("thorax-clear"), load_sample("thorax-opacity")
    change = abs(ill - clear)
    mask = truth_mask("thorax-opacity", ill)
    assert float(change.where(mask).sum()) > 0.999 * float(change.sum()) > 0
    assert float(change.where(mask).mean()) > 20  # of 255


def test_the_marker_is_the_brightest_thing_and_in_its_box():
    image = load_sample("thorax-marker")
    mask = truth_mask("thorax-marker", image)
    letter = image.where(mask)
    assert float(letter.max()) > 240
    corner = image.isel(y=slice(0, 110), x=slice(600, 768))
    assert float(corner.where(~mask.isel(y=slice(0, 110), x=slice(600, 768))).max()) < 60


def test_the_dicom_phantom_is_in_millimeters_and_names_nobody():
    image = load_sample("thorax-bilateral")
    assert image["x"].attrs["units"] == "mm"
    assert float(image["x"][-1] - image["x"][0]) == pytest.approx(SIZE * 511 / 512)
    assert (image.attrs["body_part"], image.attrs["view"], image.attrs["bits"]) == ("CHEST", "PA", 12)
    mask = truth_mask("thorax-bilateral", image)
    middle = SIZE / 2
    assert bool(mask.sel(x=slice(None, middle)).any())
    assert bool(mask.sel(x=slice(middle, None)).any())
    surface = np.pi * (22 * 24 + 26 * 17)
    assert float(mask.sum()) * (SIZE / 512) ** 2 == pytest.approx(surface, rel=0.01)


def test_the_truth_of_an_image_on_a_coarser_grid_of_the_same_axes():
    image = load_sample("thorax-opacity")
    coarse = on_grid(224, 768 / 224, "px")
    share = truth_mask("thorax-opacity", coarse).values.mean()
    assert share == pytest.approx(truth_mask("thorax-opacity", image).values.mean(), rel=0.02)
    with pytest.raises(ValueError, match="in px, the features' axes are in mm"):
        truth_mask("thorax-opacity", on_grid(224, 1.5, "mm"))


def test_an_ellipse_and_a_box_know_what_they_contain():
    ellipse = Ellipse((10.0, 20.0), (6.0, 3.0), 90.0)  # turned: long in x
    assert ellipse.contains(np.array([10.0, 10.0, 14.0]), np.array([25.5, 26.5, 20.0])).tolist() == [True, False, False]
    box = Box((1.0, 2.0), (3.0, 6.0))
    assert box.contains(np.array([1.0, 3.1, 2.0]), np.array([2.0, 3.0, 7.0])).tolist() == [True, False, False]


def test_an_unknown_sample_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no sample «speach»; there are speech, "):
        load_sample("speach")


@pytest.mark.slow
@pytest.mark.parametrize("id", [item.id for item in samples()])
def test_the_files_are_what_the_code_makes(id: str):
    """Up to one step of the stored values: other versions of the mathematics libraries round differently."""
    item = sample(id)
    made, stored = read_signal(encode(item)), read_signal(item.file)
    step = 2**-15 if item.modality == "audio" else 1.0
    assert made.shape == stored.shape
    different = abs(made.values - stored.values)
    assert np.quantile(different, 0.999) <= step


def test_the_samples_are_in_the_folder_of_assets():
    files = {path.name for path in Path(sample("speech").file).parent.iterdir() if path.suffix != ".md"}
    assert files == {Path(item.path).name for item in samples()}


def test_every_vocoder_that_makes_samples_keeps_the_length():
    wave = speech(0, 1.0)
    for vocode in (vocoders.griffin_lim, vocoders.lpc):
        assert vocode(wave, 16_000, seed=0).shape == wave.shape
