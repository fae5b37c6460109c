"""Generated speech: a source-filter synthesizer that babbles syllables in phrases with pauses.

A glottal pulse train and noise pass through eight resonances whose frequencies move from phoneme to phoneme (Klatt
1980, «Software for a cascade/parallel formant synthesizer»; formants of vowels: Peterson & Barney 1952). No person's
voice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter, resample_poly

_FRAME = 0.005  # time between two sets of formants [s]
_OVERSAMPLING = 4  # of the glottal pulses, whose closing edges would alias

_VOWELS = {  # F1, F2, F3 [Hz] of men
    "i": (270, 2290, 3010),
    "ɪ": (390, 1990, 2550),
    "ɛ": (530, 1840, 2480),
    "æ": (660, 1720, 2410),
    "ɑ": (730, 1090, 2440),
    "ɔ": (570, 840, 2410),
    "ʊ": (440, 1020, 2240),
    "u": (300, 870, 2240),
    "ʌ": (640, 1190, 2390),
    "ə": (500, 1450, 2450),
}
_SONORANTS: dict[str, tuple[tuple[float, float, float], float]] = {  # F1, F2, F3 [Hz], voicing (relative amplitude)
    "m": ((270, 1000, 2200), 0.30),
    "n": ((270, 1450, 2500), 0.30),
    "l": ((360, 1100, 2700), 0.55),
    "r": ((420, 1250, 1650), 0.60),
    "w": ((300, 650, 2200), 0.55),
    "j": ((270, 2200, 2950), 0.55),
}
_FRICATIVES = {  # center and width of the noise [Hz], its level, voicing, locus of F2 [Hz]
    "s": (6200, 2600, 0.30, 0.0, 1750),
    "ʃ": (3600, 1900, 0.28, 0.0, 1900),
    "f": (5200, 6000, 0.07, 0.0, 1050),
    "z": (6200, 2600, 0.16, 0.25, 1750),
    "v": (5200, 6000, 0.04, 0.35, 1050),
}
_STOPS = {  # center and width of the burst [Hz], its level, aspiration after it [s], locus of F2 [Hz]
    "p": (900, 1800, 0.25, 0.040, 900),
    "t": (4600, 3200, 0.40, 0.045, 1800),
    "k": (1900, 1300, 0.35, 0.055, 2000),
    "b": (800, 1600, 0.14, 0.004, 900),
    "d": (4200, 3200, 0.20, 0.006, 1800),
    "g": (1800, 1300, 0.20, 0.008, 2000),
}
_UPPER = (3500.0, 4500.0, 5500.0, 6500.0, 7400.0)  # F4 to F8 [Hz]; they hardly move
_BANDWIDTHS = (70.0, 90.0, 130.0, 220.0, 300.0, 400.0, 500.0, 600.0)


@dataclass
class _Tracks:
    """What drives the synthesizer, segment after segment; one list per quantity."""

    seconds: list[float] = field(default_factory=list)
    formants: list[tuple[float, float, float]] = field(default_factory=list)
    voicing: list[float] = field(default_factory=list)
    aspiration: list[float] = field(default_factory=list)
    noise: list[tuple[float, float, float]] = field(default_factory=list)  # center [Hz], width [Hz], level
    accent: list[float] = field(default_factory=list)  # raises the pitch [semitones]

    def add(
        self,
        seconds: float,
        formants: tuple[float, float, float],
        voicing: float = 0.0,
        aspiration: float = 0.0,
        noise: tuple[float, float, float] = (4000.0, 3000.0, 0.0),
        accent: float = 0.0,
    ) -> None:
        self.seconds.append(seconds)
        self.formants.append(formants)
        self.voicing.append(voicing)
        self.aspiration.append(aspiration)
        self.noise.append(noise)
        self.accent.append(accent)

    def syllable(self, rng: np.random.Generator, stress: float, last: bool) -> None:
        """An onset, a vowel that glides for half of the time, now and then a final consonant."""
        vowel = _VOWELS[str(rng.choice(list(_VOWELS)))]
        self._onset(rng, vowel)
        seconds = rng.uniform(0.07, 0.12) * (1 + 0.5 * stress) * (1.5 if last else 1.0)
        accent = 3.0 * stress + rng.normal(0, 0.5)
        self.add(seconds, vowel, 0.8 + 0.2 * stress, 0.01, accent=accent)
        if rng.random() < 0.4:
            glide = _VOWELS[str(rng.choice(["ɪ", "ʊ", "ə"]))]
            self.add(0.5 * seconds, glide, 0.7, 0.01, accent=0.5 * accent)
            vowel = glide
        if rng.random() < 0.35:
            coda = str(rng.choice(["n", "m", "l", "s", "z"]))
            if coda in _SONORANTS:
                formants, voicing = _SONORANTS[coda]
                self.add(rng.uniform(0.05, 0.08), formants, voicing)
            else:
                self._fricative(rng, coda, vowel)

    def _onset(self, rng: np.random.Generator, vowel: tuple[float, float, float]) -> None:
        kind = rng.choice(["stop", "fricative", "sonorant", "none"], p=[0.42, 0.26, 0.24, 0.08])
        if kind == "stop":
            name = str(rng.choice(list(_STOPS)))
            center, width, level, aspiration, locus = _STOPS[name]
            place = (250.0, _towards(locus, vowel[1]), vowel[2])
            self.add(rng.uniform(0.045, 0.075), place, 0.06 if name in "bdg" else 0.0)
            self.add(0.010, place, noise=(center, width, level))
            self.add(aspiration, (vowel[0], *place[1:]), aspiration=0.06)
        elif kind == "fricative":
            self._fricative(rng, str(rng.choice(list(_FRICATIVES))), vowel)
        elif kind == "sonorant":
            formants, voicing = _SONORANTS[str(rng.choice(list(_SONORANTS)))]
            self.add(rng.uniform(0.05, 0.08), formants, voicing)

    def _fricative(self, rng: np.random.Generator, name: str, vowel: tuple[float, float, float]) -> None:
        center, width, level, voicing, locus = _FRICATIVES[name]
        place = (330.0, _towards(locus, vowel[1]), vowel[2])
        self.add(rng.uniform(0.07, 0.12), place, voicing, noise=(center, width, level))

    def pause(self, seconds: float) -> None:
        self.add(seconds, self.formants[-1] if self.formants else _VOWELS["ə"], accent=0.0)


def _towards(locus: float, formant: float) -> float:
    """Second formant at a consonant's closure: its locus, half-way drawn to the vowel that follows."""
    return 0.55 * locus + 0.45 * formant


def speech(seed: int, seconds: float = 5.0, sampling_rate: int = 16_000) -> NDArray[np.float32]:
    """Babble (time,) float32 of the given length, loudest sample at −3 dBFS, the same for the same arguments.

    The seed draws the syllables, their melody and the speaker (length of the vocal tract, pitch, breathiness).
    """
    rng = np.random.default_rng([seed, 1])
    size = rng.uniform(0.0, 1.0)  # 0 long vocal tract and low voice, 1 short and high
    tracks, ends = _phrases(rng, seconds)
    count = round(seconds * sampling_rate)
    frames = int(np.ceil(seconds / _FRAME)) + 1
    segment = np.minimum(
        np.searchsorted(np.cumsum(tracks.seconds), np.arange(frames) * _FRAME, side="right"), len(tracks.seconds) - 1
    )

    def track(values: list, smoothing: float) -> np.ndarray:
        """Targets (frame, …) that move smoothly from segment to segment, as articulators do."""
        steps = np.asarray(values, float)[segment]
        width = round(smoothing / _FRAME) | 1
        window = np.hanning(width + 2)[1:-1]
        padded = np.pad(steps.reshape(frames, -1), ((width // 2, width // 2), (0, 0)), mode="edge")
        smooth = [np.convolve(column, window / window.sum(), mode="valid") for column in padded.T]
        return np.stack(smooth, axis=1).reshape(steps.shape)

    lower = track(tracks.formants, 0.055) * (1.0 + 0.17 * size)
    upper = np.broadcast_to(np.array(_UPPER) * (1.0 + 0.06 * size), (frames, len(_UPPER)))
    formants = np.minimum(np.concatenate([lower, upper], axis=1), 0.48 * sampling_rate)
    pitch = _pitch(rng, 105.0 * 1.9**size, track(tracks.accent, 0.12), ends)

    def at_samples(values: np.ndarray) -> np.ndarray:
        return np.interp(np.arange(count) / sampling_rate, np.arange(frames) * _FRAME, values)

    voice = _glottis(rng, at_samples(pitch), sampling_rate) * at_samples(track(tracks.voicing, 0.025))
    breath = rng.standard_normal(count) * at_samples(track(tracks.aspiration, 0.015))
    wave = _resonate(voice + breath, formants, sampling_rate)
    wave += _frication(rng, at_samples, track([list(noise) for noise in tracks.noise], 0.012), count, sampling_rate)
    return _room(rng, wave, sampling_rate)


def _phrases(rng: np.random.Generator, seconds: float) -> tuple[_Tracks, list[tuple[float, float]]]:
    """Phrases of three to eight syllables with pauses between them, and when each phrase starts and ends [s]."""
    tracks, spans = _Tracks(), []
    tracks.pause(rng.uniform(0.12, 0.25))
    while True:
        start = sum(tracks.seconds)
        remaining = seconds - start - 0.15
        if remaining < 0.5:
            break
        syllables = int(rng.integers(3, 9))
        for index in range(syllables):
            last = index == syllables - 1 or seconds - 0.15 - sum(tracks.seconds) < 0.55
            tracks.syllable(rng, stress=float(index % 2 == 0) * rng.uniform(0.4, 1.0), last=last)
            if last:
                break
        spans.append((start, sum(tracks.seconds)))
        tracks.pause(rng.uniform(0.22, 0.5))
    tracks.pause(seconds)
    return tracks, spans


def _pitch(rng: np.random.Generator, base: float, accent: np.ndarray, phrases: list[tuple[float, float]]) -> np.ndarray:
    """Fundamental frequency (frame,) [Hz]: falls through each phrase, rises on accents, wavers a little."""
    times = np.arange(len(accent)) * _FRAME
    semitones = accent.copy()
    for start, end in phrases:
        inside = (times >= start) & (times <= end + 0.1)
        place = np.clip((times[inside] - start) / (end - start), 0, 1)
        semitones[inside] += 2.5 - 4.5 * place - 2.5 * np.clip((place - 0.8) / 0.2, 0, 1)
    waver = lfilter([0.02], [1, -0.98], rng.standard_normal(len(accent)))
    return base * 2 ** ((semitones + 2.0 * waver) / 12)


def _glottis(rng: np.random.Generator, pitch: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Derived glottal flow (time,): 2 p − 3 p² in the open phase (Rosenberg 1971), jitter 0.8 %, shimmer 4 %."""
    fine = np.repeat(pitch, _OVERSAMPLING) / (sampling_rate * _OVERSAMPLING)
    cycles = np.cumsum(fine)
    turns = int(cycles[-1]) + 2
    cycles += np.interp(cycles, np.arange(turns), np.cumsum(rng.normal(0, 0.008, turns)))
    phase, turn = np.mod(cycles, 1.0), np.clip(np.floor(cycles).astype(int), 0, turns - 1)
    place = np.minimum(phase / 0.6, 1.0)
    flow = np.where(phase < 0.6, 2 * place - 3 * place**2, 0.0) * (1 + rng.normal(0, 0.04, turns))[turn]
    flow += 0.03 * rng.standard_normal(len(flow)) * np.sin(np.pi * place) ** 2  # breath through the open glottis
    return lfilter([0.45], [1, -0.55], resample_poly(flow, 1, _OVERSAMPLING)[: len(pitch)])  # soft closing: less treble


def _resonate(source: np.ndarray, formants: np.ndarray, sampling_rate: int) -> np.ndarray:
    """The source (time,) through resonances (frame, formant) [Hz] in cascade, unit gain at 0 Hz (Klatt 1980, eq. 2–4).

    Overlapping pieces of the source each ring through the resonances of their own moment; a recursive filter whose
    coefficients change would click.
    """
    hop, size = round(_FRAME * sampling_rate), 1024
    window = np.hanning(2 * hop + 1)[:-1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    radius = np.exp(-np.pi * np.array(_BANDWIDTHS) / sampling_rate)
    padded = np.pad(source, (hop, 2 * hop))
    wave = np.zeros(len(padded) + size)
    for frame, start in enumerate(range(0, len(source) + hop, hop)):
        second = -2 * radius * np.cos(2 * np.pi * formants[min(frame, len(formants) - 1)] / sampling_rate)
        below = 1 + second * turn[:, None] + (radius * turn[:, None]) ** 2
        response = np.prod((1 + second + radius**2) / below, axis=1)
        piece = np.fft.rfft(window * padded[start : start + 2 * hop], size)
        wave[start : start + size] += np.fft.irfft(response * piece, size)
    return wave[hop : hop + len(source)]


def _frication(rng: np.random.Generator, at_samples, noise: np.ndarray, count: int, sampling_rate: int) -> np.ndarray:
    """Noise (time,) shaped in short overlapping frames by bands (frame, [center, width, level])."""
    size = 256
    window = np.sqrt(np.hanning(size + 1)[:-1])
    frequencies = np.fft.rfftfreq(size, 1 / sampling_rate)
    center, width, level = (at_samples(column) for column in noise.T)
    padded = np.zeros(count + 2 * size)
    white = rng.standard_normal(len(padded))
    for start in range(0, count + size // 2, size // 2):
        middle = min(start, count - 1)
        if level[middle] > 1e-3:
            band = np.exp(-0.5 * ((frequencies - center[middle]) / (0.5 * width[middle])) ** 2)
            band *= level[middle] / np.sqrt(np.mean(band**2))
            part = slice(start, start + size)
            padded[part] += window * np.fft.irfft(band * np.fft.rfft(window * white[part]))
    return padded[size // 2 : size // 2 + count]


def _room(rng: np.random.Generator, wave: np.ndarray, sampling_rate: int) -> NDArray[np.float32]:
    """What a recording adds: a little reverberation and background noise; loudest sample at −3 dBFS."""
    times = np.arange(int(0.25 * sampling_rate)) / sampling_rate
    echo = rng.standard_normal(len(times)) * np.exp(-times / 0.035) * (times > 0.004)
    echo *= 0.22 / np.sqrt(np.sum(echo**2))
    echo[0] = 1.0
    wave = fftconvolve(wave, echo)[: len(wave)]
    wave = wave / np.abs(wave).max()
    hum = lfilter([1.0], [1, -0.9], rng.standard_normal(len(wave)))
    wave = wave + 10 ** (-62 / 20) * hum
    return (10 ** (-3 / 20) * wave / np.abs(wave).max()).astype(np.float32)
