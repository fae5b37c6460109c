"""Vocoders: analyse a recording and synthesise it again, as the last stage of every deepfake does.

Each function takes a waveform over `time` (1-D, float32, full scale ±1) and its sampling rate [Hz], and returns a
waveform of the same length and loudness (RMS). They make the spoofed class of the training data from the *same*
recordings as the bona fide one, and the generated samples. `seed` draws the random phases, excitation and analysis
settings, so that a detector cannot learn one setting by heart.

Sources: Griffin & Lim 1984 (phase reconstruction); Makhoul 1975 (linear prediction); Morise et al. 2016 (WORLD);
Dudley 1939 (channel vocoder); McAulay & Quatieri 1986 (sinusoidal model); Flanagan & Golden 1966 (phase vocoder);
Tremain 1982 (LPC-10); Stylianou 2001 (harmonic plus noise).
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
        magnitude,
        n_iter=int(rng.integers(12, 48)),
        hop_length=n_fft // 4,
        random_state=int(rng.integers(2**31)),
        length=waveform.size,
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
        magnitude,
        n_iter=int(rng.integers(24, 48)),
        hop_length=256,
        random_state=int(rng.integers(2**31)),
        length=waveform.size,
    )
    return _finish(copy, waveform)


def _pitch(waveform: Waveform, sampling_rate: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Fundamental frequency (frame,) [Hz], whether voiced (frame,), and the hop between frames [samples]."""
    import librosa

    hop = int(0.005 * sampling_rate)
    frame = 2048 if sampling_rate > 12_000 else 1024
    f0 = librosa.yin(waveform, fmin=65, fmax=400, sr=sampling_rate, frame_length=frame, hop_length=hop)
    zero_crossings = librosa.feature.zero_crossing_rate(waveform, frame_length=frame, hop_length=hop)[0]
    return f0, (zero_crossings < 0.15) & (f0 < 390), hop


def _driver(f0: np.ndarray, voiced: np.ndarray, sampling_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Pulses at f0 (time,) [Hz] where voiced (time,), white noise elsewhere; unit RMS each."""
    phase = np.cumsum(f0 / sampling_rate)
    pulses = (np.diff(np.floor(phase), prepend=0.0) > 0) * np.sqrt(sampling_rate / f0)
    noise = rng.standard_normal(f0.size)
    return np.where(voiced, pulses + 0.05 * noise, noise)


def _excitation(waveform: Waveform, sampling_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Pulses at the fundamental frequency where the recording is voiced, white noise elsewhere; unit RMS each."""
    f0, voiced, hop = _pitch(waveform, sampling_rate)
    frame_of = np.minimum(np.arange(waveform.size) // hop, f0.size - 1)
    return _driver(f0[frame_of], voiced[frame_of], sampling_rate, rng)


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


def sinusoidal(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Peaks of the spectrum followed as sinusoids whose phases are integrated anew (McAulay & Quatieri 1986)."""
    import librosa

    rng = np.random.default_rng(seed)
    hop, width = (int(rng.uniform(*span) * sampling_rate) for span in ((0.006, 0.012), (0.024, 0.036)))
    magnitude = (
        np.abs(librosa.stft(np.pad(waveform, (0, hop)), n_fft=2048, hop_length=hop, win_length=width)) * 4 / width
    )
    steps = np.arange(hop) / hop
    copy = np.zeros((magnitude.shape[1], hop))
    frequency, amplitude, phase = np.zeros((3, 0))
    for block, spectrum in zip(copy, magnitude.T, strict=True):
        inner = spectrum[1:-1]
        peak = 1 + np.flatnonzero((inner > spectrum[:-2]) & (inner >= spectrum[2:]) & (inner > 1e-6))
        low, mid, high = (np.log(spectrum[peak + k] + 1e-9) for k in (-1, 0, 1))
        place = peak + 0.5 * (low - high) / np.minimum(low - 2 * mid + high, -1e-9)  # top of the parabola
        new, level = place * sampling_rate / 2048, spectrum[peak]
        start, onset, turn = new.copy(), np.zeros(new.size), rng.uniform(0, 2 * np.pi, new.size)
        ends = np.ones(frequency.size, dtype=bool)
        if new.size and frequency.size:
            distance = np.abs(frequency[:, None] - new)
            nearest = distance.argmin(axis=1)
            goes_on = (distance.argmin(axis=0)[nearest] == np.arange(frequency.size)) & (distance.min(axis=1) < 60)
            to = nearest[goes_on]
            start[to], onset[to], turn[to], ends = frequency[goes_on], amplitude[goes_on], phase[goes_on], ~goes_on
        first, last = np.append(start, frequency[ends]), np.append(new, frequency[ends])
        before, after = np.append(onset, amplitude[ends]), np.append(level, np.zeros(ends.sum()))
        swept = 2 * np.pi * hop / sampling_rate * (np.outer(first, steps) + np.outer((last - first) / 2, steps**2))
        swept += np.append(turn, phase[ends])[:, None]
        block[:] = np.sum((before[:, None] + np.outer(after - before, steps)) * np.cos(swept), axis=0)
        frequency, amplitude = new, level
        phase = np.mod(turn + np.pi * hop / sampling_rate * (start + new), 2 * np.pi)
    return _finish(copy.ravel()[hop:], waveform)


def phase_vocoder(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Stretched in time and back; the phases start at random and run on bin by bin (Flanagan & Golden 1966)."""
    import librosa

    rng = np.random.default_rng(seed)
    n_fft, rate = int(rng.choice([512, 1024])), float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.5)))
    copy = waveform.astype(np.float64)
    for factor in (rate, 1 / rate):
        spectra = librosa.stft(copy, n_fft=n_fft, hop_length=n_fft // 4)
        turned = spectra * np.exp(2j * np.pi * rng.random((spectra.shape[0], 1)))
        stretched = librosa.phase_vocoder(turned, rate=factor, hop_length=n_fft // 4)
        copy = librosa.istft(stretched, hop_length=n_fft // 4, length=max(1, round(copy.size / factor)))
    return _finish(copy, waveform)


def lpc10(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """A codec: pitch, gain and log-area ratios, quantised every 22.5 ms (Tremain 1982, LPC-10, 2.4 kbit/s).

    Unlike the original it keeps the bandwidth, with an order that grows with the sampling rate; at 16 kHz its codes
    have an entropy of 2.3 to 3.1 kbit/s on LibriSpeech.
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    hop, order = int(0.0225 * sampling_rate), 2 + int(sampling_rate / 1000)
    pitch_step, gain_step, area_step = 0.03, rng.uniform(1.0, 2.0), rng.uniform(0.2, 0.4)
    f0, voiced, step = _pitch(waveform, sampling_rate)
    frames = -(-waveform.size // hop)
    at = np.minimum((np.arange(frames) * hop + hop // 2) // step, f0.size - 1)
    pitch = np.exp(np.round(np.log(f0[at]) / pitch_step) * pitch_step)
    driver = _driver(np.repeat(pitch, hop), np.repeat(voiced[at], hop), sampling_rate, rng).reshape(frames, hop)
    padded = np.pad(waveform.astype(np.float64), (hop // 2, 2 * hop))
    window = np.hanning(2 * hop)
    copy, state = np.zeros((frames, hop)), np.zeros(order)
    for k in range(frames):
        power = np.abs(np.fft.rfft(padded[k * hop : k * hop + 2 * hop] * window, 4 * hop)) ** 2
        correlation = np.fft.irfft(power)[: order + 1] / np.sum(window**2) * np.append(1 + 1e-5, np.ones(order))
        error, predictor, coded = correlation[0] + 1e-10, np.ones(1), np.ones(1)
        for m in range(1, order + 1):  # Levinson's recursion, once with exact and once with coded reflections
            reflection = -predictor @ correlation[m:0:-1] / error
            predictor = np.append(predictor, 0) + reflection * np.append(predictor, 0)[::-1]
            error *= 1 - reflection**2
            rounded = np.tanh(np.round(np.arctanh(reflection) / area_step * 2) * area_step / 2)
            coded = np.append(coded, 0) + rounded * np.append(coded, 0)[::-1]
        gain = 10 ** (np.round(10 * np.log10(error) / gain_step) * gain_step / 20)
        copy[k], state = lfilter([gain], coded, driver[k], zi=state)
    return _finish(copy.ravel(), waveform)


def harmonic_noise(waveform: Waveform, sampling_rate: float, seed: int = 0) -> Waveform:
    """Harmonics up to the highest voiced frequency, noise above it and where unvoiced (Stylianou 2001)."""
    import librosa
    from scipy.ndimage import uniform_filter1d

    rng = np.random.default_rng(seed)
    highest, window = rng.uniform(3000, 6000), np.hanning(int(0.032 * sampling_rate))
    f0, voiced, hop = _pitch(waveform, sampling_rate)

    def stft(wave: np.ndarray) -> np.ndarray:
        return librosa.stft(wave, n_fft=1024, hop_length=hop, win_length=window.size)

    magnitude = np.abs(stft(waveform))
    samples, centers = np.arange(waveform.size), np.arange(f0.size) * hop
    phase = 2 * np.pi * np.cumsum(np.interp(samples, centers, f0)) / sampling_rate
    harmonics = np.zeros(waveform.size)
    for number in range(1, int(highest / f0.min()) + 1):
        place = np.minimum(number * f0 * 1024 / sampling_rate, 511)
        share, bins = place % 1, place.astype(int)
        level = (1 - share) * magnitude[bins, np.arange(f0.size)] + share * magnitude[bins + 1, np.arange(f0.size)]
        level = np.where(voiced & (number * f0 < highest), level, 0) * 2 / window.sum()
        harmonics += np.interp(samples, centers, level) * np.cos(number * phase + rng.uniform(0, 2 * np.pi))
    noise = stft(rng.standard_normal(waveform.size)) * uniform_filter1d(magnitude, 7, axis=0)
    above = librosa.fft_frequencies(sr=sampling_rate, n_fft=1024) >= highest
    noise *= np.maximum(above[:, None], ~voiced) / np.sqrt(np.sum(window**2))
    hiss = librosa.istft(noise, hop_length=hop, win_length=window.size, length=waveform.size)
    pulsed = 1 + 0.5 * np.cos(phase) * np.interp(samples, centers, voiced)
    return _finish(harmonics + pulsed * hiss, waveform)


VOCODERS: dict[str, Callable[..., Waveform]] = {
    "griffin-lim": griffin_lim,
    "mel-inversion": mel_inversion,
    "lpc": lpc,
    "world": world,
    "channel": channel,
    "sinusoidal": sinusoidal,
    "phase-vocoder": phase_vocoder,
    "lpc10": lpc10,
    "harmonic-noise": harmonic_noise,
}
