"""Vocoders and codecs: the same words with the same length, loudness, pitch and envelope, in other samples."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.signal import stft

from xai_panel.signals.speech import speech
from xai_panel.signals.vocoders import VOCODERS, Waveform

pytestmark = pytest.mark.filterwarnings("ignore:n_fft=.* is too large")

RATE = 16_000
NAMES = pytest.mark.parametrize("name", VOCODERS)
SPEECH = speech(3, 2.0, RATE)


@pytest.fixture(autouse=True)
def extra(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["name"] == "world":
        pytest.importorskip("pyworld", reason="the WORLD vocoder needs the extra «train»")


def rms(wave: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def vowel(f0: float, seconds: float = 1.0) -> Waveform:
    """Harmonics of f0 [Hz] with two resonances, over a little noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = 0.002 * np.random.default_rng(3).standard_normal(time.size)
    for harmonic in np.arange(f0, 7500, f0):
        level = 0.005 + 1 / (1 + ((harmonic - 600) / 150) ** 2) + 0.2 / (1 + ((harmonic - 1500) / 200) ** 2)
        wave += 0.05 * level * np.cos(2 * np.pi * harmonic * time + harmonic)
    return wave.astype(np.float32)


def pitch(wave: Waveform) -> float:
    """Fundamental frequency [Hz]: the first of the highest peaks of the autocorrelation, 60 to 400 Hz."""
    power = np.abs(np.fft.rfft(wave, 2 * wave.size)) ** 2
    lags = np.fft.irfft(power)[RATE // 400 : RATE // 60]
    peaks = (lags[1:-1] >= lags[:-2]) & (lags[1:-1] > lags[2:]) & (lags[1:-1] > 0.8 * lags.max())
    return RATE / (RATE // 400 + 1 + np.flatnonzero(peaks)[0])


def envelope(wave: Waveform) -> np.ndarray:
    """Level [dB] in bands of 250 Hz and frames of 32 ms, at most 50 dB below the loudest."""
    power = np.abs(stft(wave, RATE, nperseg=512)[2][:256]) ** 2
    level = 10 * np.log10(power.reshape(32, 8, -1).mean(axis=1) + 1e-12)
    return np.maximum(level, level.max() - 50)


@NAMES
def test_a_copy_has_the_length_the_loudness_and_the_envelope_but_not_the_samples(name: str) -> None:
    VOCODERS[name](SPEECH[:RATE], RATE)  # what is compiled on first use does not count
    started = time.perf_counter()
    copy = VOCODERS[name](SPEECH, RATE, seed=5)
    assert time.perf_counter() - started < 2.0  # it takes 0.1 s on a quiet machine
    assert copy.shape == SPEECH.shape and copy.dtype == np.float32
    assert rms(copy) == pytest.approx(rms(SPEECH), rel=0.02)  # peaks are clipped at full scale
    assert abs(np.corrcoef(copy, SPEECH)[0, 1]) < 0.5
    assert np.corrcoef(envelope(copy).ravel(), envelope(SPEECH).ravel())[0, 1] > 0.9


@NAMES
def test_the_seed_draws_the_copy(name: str) -> None:
    copy = VOCODERS[name](SPEECH, RATE, seed=5)
    np.testing.assert_array_equal(copy, VOCODERS[name](SPEECH, RATE, seed=5))
    assert not np.array_equal(copy, VOCODERS[name](SPEECH, RATE, seed=6))


@NAMES
@pytest.mark.parametrize("f0", [95.0, 210.0])
def test_the_pitch_of_a_vowel_is_kept(name: str, f0: float) -> None:
    assert pitch(vowel(f0)) == pytest.approx(f0, rel=0.01)
    assert pitch(VOCODERS[name](vowel(f0), RATE, seed=2)) == pytest.approx(f0, rel=0.05)


@NAMES
def test_silence_stays_silent_and_the_shortest_recordings_survive(name: str) -> None:
    silence = VOCODERS[name](np.zeros(RATE, np.float32), RATE)
    assert silence.shape == (RATE,) and not silence.any()
    shortest = SPEECH[RATE : RATE + RATE // 10]
    assert rms(VOCODERS[name](shortest, RATE)) == pytest.approx(rms(shortest), rel=0.02)
    for count in (1, 100):
        copy = VOCODERS[name](shortest[:count], RATE)
        assert copy.shape == (count,) and np.isfinite(copy).all()


@NAMES
def test_a_copy_does_not_end_in_digital_silence(name: str) -> None:
    """Frames end before most recordings do; zeros there would tell the classes apart."""
    wave = vowel(140.0)[: RATE - 101]
    for seed in range(4):
        copy = VOCODERS[name](wave, RATE, seed=seed)
        assert np.count_nonzero(copy[-100:] == 0) < 10
        assert rms(copy[-300:]) > 0.3 * rms(wave[-300:])
