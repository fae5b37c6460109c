"""Vocoders: analyse a recording and synthesise it again, as the last stage of every deepfake does.

Each function takes a waveform over `time` (1-D, float32, full scale ±1) and its sampling rate [Hz], and returns a
waveform of the same length and loudness (RMS). They make the spoofed class of the training data from the *same*
recordings as the bona fide one, and the generated samples. `seed` draws the random phases, excitation and analysis
settings, so that a detector cannot learn one setting by heart.

Sources: Griffin & Lim 1984 (phase reconstruction); Makhoul 1975 (linear prediction); Morise et al. 2016 (WORLD);
Dudley 1939 (channel vocoder).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


def _finish(copy: np.ndarray, original: np.ndarray) -> Waveform:
    """`copy` with the original's length and loudness (RMS), so that neither tells the classes apart."""
    copy = np.asarray(copy, dtype=np.float64)[: original.size]
    copy = np.pad(copy, (0, original.size - copy.size))
    copy = copy * np.sqrt(np.mean(original.astype(np.float64) ** 2) / (np.mean(copy**2) + 1e-20))
    return np.clip(copy, -1.0, 1.0).astype(np.float32)


def griffin_lim(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Keep the STFT magnitude, forget the phase, and search for one that fits (Griffin & Lim 1984)."""
    import librosa

    rng = np.random.default_rng(seed)
    n_fft = int(rng.choice([512, 1024]))
    magnitude = np.abs(librosa.stft(waveform, n_fft=n_fft, hop_length=n_fft // 4))
    copy = librosa.griffinlim(
        magnitude, n_iter=int(rng.integers(12, 48)), hop_length=n_fft // 4, random_state=int(rng.integers(2**31))
    )
    return _finish(copy, waveform)


def mel_inversion(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Keep a mel spectrogram, as text-to-speech models predict it; spread it over the STFT bins, run Griffin-Lim."""
    import librosa

    rng = np.random.default_rng(seed)
    bands = int(rng.choice([64, 80, 100]))
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=sampling_rate, n_fft=1024, hop_length=256, n_mels=bands, power=1.0
    )
    basis = librosa.filters.mel(sr=sampling_rate, n_fft=1024, n_mels=bands)
    magnitude = np.maximum(np.linalg.pinv(basis) @ mel, 0.0)
    copy = librosa.griffinlim(
        magnitude, n_iter=int(rng.integers(24, 48)), hop_length=256, random_state=int(rng.integers(2**31))
    )
    return _finish(copy, waveform)


def _excitation(waveform: Waveform, sampling_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Pulses at the fundamental frequency where the recording is voiced, white noise elsewhere; unit RMS each."""
    import librosa

    hop = int(0.005 * sampling_rate)
    frame = 2048 if sampling_rate > 12_000 else 1024
    f0 = librosa.yin(waveform, fmin=65, fmax=400, sr=sampling_rate, frame_length=frame, hop_length=hop)
    zero_crossings = librosa.feature.zero_crossing_rate(waveform, frame_length=frame, hop_length=hop)[0]
    voiced = (zero_crossings < 0.15) & (f0 < 390)
    frame_of = np.minimum(np.arange(waveform.size) // hop, f0.size - 1)
    phase = np.cumsum(f0[frame_of] / sampling_rate)
    pulses = (np.diff(np.floor(phase), prepend=0.0) > 0) * np.sqrt(sampling_rate / f0[frame_of])
    noise = rng.standard_normal(waveform.size)
    return np.where(voiced[frame_of], pulses + 0.05 * noise, noise)


def lpc(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """All-pole filters, one every 10 ms, driven by pulses or noise instead of the true residual (Makhoul 1975)."""
    from scipy.linalg import solve_toeplitz
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    order = int(rng.integers(16, 33))
    hop = int(0.010 * sampling_rate)
    width = 3 * hop
    window = np.hanning(width)
    padded = np.pad(waveform.astype(np.float64), (width, 2 * width))
    driver = np.pad(_excitation(waveform, sampling_rate, rng), (width, 2 * width))
    copy = np.zeros_like(padded)
    overlap = np.zeros_like(padded)
    for start in range(0, padded.size - width, hop):
        frame = padded[start : start + width] * window
        spectrum = np.fft.rfft(frame, 2 * width)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: order + 1]
        if correlation[0] < 1e-9:
            overlap[start : start + width] += window
            continue
        correlation[0] *= 1.0 + 1e-5  # white-noise correction keeps the filter stable
        coefficients = solve_toeplitz(correlation[:-1], correlation[1:])
        synthesised = lfilter([1.0], np.concatenate([[1.0], -coefficients]), driver[start : start + width])
        gain = np.sqrt(np.sum(frame**2) / (np.sum((synthesised * window) ** 2) + 1e-12))
        copy[start : start + width] += gain * synthesised * window
        overlap[start : start + width] += window
    copy = copy / np.maximum(overlap, 0.1)
    return _finish(copy[width : width + waveform.size], waveform)


def world(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Fundamental frequency, smooth envelope and aperiodicity, and synthesis from them (Morise et al. 2016).

    Needs pyworld, in the extra `train`.
    """
    import pyworld

    rng = np.random.default_rng(seed)
    wave, rate = waveform.astype(np.float64), int(sampling_rate)
    f0, times = pyworld.dio(wave, rate, frame_period=5.0)
    f0 = pyworld.stonemask(wave, f0, times, rate)
    envelope = pyworld.cheaptrick(wave, f0, times, rate)
    aperiodicity = pyworld.d4c(wave, f0, times, rate)
    f0 = f0 * np.exp(rng.normal(0.0, 0.005, f0.shape))
    return _finish(pyworld.synthesize(f0, envelope, aperiodicity, rate, 5.0), waveform)


def channel(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Band levels of the recording laid on pulses and noise (Dudley's channel vocoder, 1939)."""
    import librosa

    rng = np.random.default_rng(seed)
    bands = int(rng.integers(32, 65))
    basis = librosa.filters.mel(sr=sampling_rate, n_fft=1024, n_mels=bands, norm=None)
    spread = basis.T / (basis.sum(axis=0)[:, None] + 1e-6)

    def stft(wave: np.ndarray) -> np.ndarray:
        return librosa.stft(wave, n_fft=1024, hop_length=128, win_length=512)

    driver = stft(_excitation(waveform, sampling_rate, rng))
    level = basis @ np.abs(stft(waveform)) ** 2
    driver_level = basis @ np.abs(driver) ** 2
    gain = np.sqrt(spread @ (level / (driver_level + 1e-9)))
    return _finish(librosa.istft(driver * gain, hop_length=128, win_length=512, length=waveform.size), waveform)


VOCODERS: dict[str, Callable[..., Waveform]] = {
    "griffin-lim": griffin_lim,
    "mel-inversion": mel_inversion,
    "lpc": lpc,
    "world": world,
    "channel": channel,
}
