"""Training data of the audio deepfake detectors: bona fide speech and vocoded copies of the same recordings.

Layout: `speech/manifest.csv` (file, label, system, corpus, utterance, …) beside the recordings. Only LibriSpeech is
trained on; the other corpora and all published deepfakes are other domains, reported one by one.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from xai_panel.models.frontends import FrontEnd, cut
from xai_panel.signals import vocoders
from xai_panel.signals.audio import read_audio, resample
from xai_panel.training import datasets

# Share of each among the copies of an epoch: Griffin-Lim from the full magnitudes leaves the subtlest traces.
SHARES = {
    "griffin-lim": 0.3,
    "phase-vocoder": 0.2,
    "mel-inversion": 0.125,
    "sinusoidal": 0.125,
    "lpc": 0.125,
    "world": 0.125,
}
TRAINED_VOCODERS = tuple(SHARES)
WIDEST = (30 / 224, 40 / 224)  # masked band and stretch, share of the axis
HELD_OUT_VOCODERS = ("channel", "harmonic-noise", "lpc10")


@dataclass(frozen=True)
class Recording:
    """One recording with what is known about it; `generator` is "" for bona fide speech.

    samples: int16, or what reads them.
    """

    samples: NDArray[np.int16] | Callable[[], NDArray[np.int16]]
    generator: str
    corpus: str
    speaker: str
    part: str

    @property
    def waveform(self) -> NDArray[np.int16]:
        return self.samples() if callable(self.samples) else self.samples

    @property
    def label(self) -> int:
        return int(self.generator != "")


def of_item(item: datasets.Item, spoofed: bool, sampling_rate: int) -> Recording:
    """A recording of a published data set, read each time when it is heard: there may be more than memory holds."""

    def read() -> NDArray[np.int16]:
        return _integer(resample(read_audio(item.path), sampling_rate).values)

    return Recording(read, (item.generator or item.label) if spoofed else "", item.corpus, item.group, item.part)


def _integer(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)


def recordings(data: Path, cache: Path, sampling_rate: int, seed: int) -> list[Recording]:
    """All bona fide recordings, a copy of each by each vocoder, and the published deepfakes.

    Copies are kept in `cache` (.npz), for making them takes minutes; other recordings or vocoder code make new ones.
    """
    originals: list[Recording] = []
    for item in tqdm(datasets.read(data, "speech", seed=seed), desc="recordings", unit="file", mininterval=2):
        wave = _integer(resample(read_audio(item.path), sampling_rate).values)
        originals.append(Recording(wave, item.generator, item.corpus, item.group, item.part))
    sources = [r for r in originals if not r.generator]
    copies: list[Recording] = []
    code = zlib.crc32(inspect.getsource(vocoders).encode())
    for source in sources:
        code = zlib.crc32(source.waveform.tobytes(), code)
    for name, vocoder in vocoders.VOCODERS.items():
        path = cache / f"vocoded-{name}-{seed}-{code:08x}.npz"
        if path.is_file():
            with np.load(path) as stored:
                waves = [stored[str(k)] for k in range(len(sources))]
        else:
            waves = [
                _integer(vocoder(source.waveform.astype(np.float32) / 32767, sampling_rate, seed=seed + k))
                for k, source in enumerate(tqdm(sources, desc=name, unit="file", mininterval=2))
            ]
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(path, **{str(k): wave for k, wave in enumerate(waves)})
        copies += [
            Recording(wave, name, source.corpus, source.speaker, source.part)
            for wave, source in zip(waves, sources, strict=True)
        ]
    return originals + copies


def windows_of(waveform: NDArray[np.floating], frontend: FrontEnd, sampling_rate: int) -> list[NDArray[Any]]:
    """The model windows (H, W) of a waveform, as `Classifier.predict` hears them."""
    signal = xr.DataArray(
        waveform.astype(np.float32),
        dims="time",
        coords={"time": np.arange(waveform.size) / sampling_rate},
        attrs={"sampling_rate": float(sampling_rate), "modality": "audio"},
    )
    values = frontend.features(signal).values
    return [cut(values, window, frontend) for window in frontend.windows(values.shape[-1])]


def augment_waveform(
    waveform: NDArray[np.floating], sampling_rate: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Start, length, bandwidth, noise floor, level, polarity, quantisation and codec drawn alike for both classes.

    None of them may tell the classes apart: every copy has its original's, and both are changed by the same lottery.
    Polarity is no trace of a vocoder: speech and the pulses of one differ in it only as their microphones do.
    """
    wave = np.roll(waveform, int(rng.integers(waveform.size)))
    if rng.random() < 0.3:
        wave = wave[: int(rng.uniform(0.25, 1.0) * wave.size)]
    spectrum = None
    draw = rng.random()
    if draw < 0.5:
        spectrum = np.fft.rfft(wave)
        frequency = np.fft.rfftfreq(wave.size, 1 / sampling_rate)
        edge, width = (rng.uniform(3000, 8000), rng.uniform(20, 300)) if draw < 0.3 else (rng.uniform(40, 400), -20)
        spectrum *= 1 / (1 + np.exp((frequency - edge) / width))
    if rng.random() < 0.3:
        spectrum = np.fft.rfft(wave) if spectrum is None else spectrum
        frequency = np.fft.rfftfreq(wave.size, 1 / sampling_rate)
        tilt = rng.uniform(-6, 6) * np.log10((frequency + 100) / 1000)
        spectrum *= 10 ** (tilt / 20)
    if spectrum is not None:
        wave = np.fft.irfft(spectrum, wave.size)
    level = np.sqrt(np.mean(wave**2)) + 1e-9
    if rng.random() < 0.4:
        noise = rng.standard_normal(wave.size)
        if rng.random() < 0.5:
            noise = np.cumsum(noise - noise.mean()) * 0.02 + noise * 0.3
            noise /= noise.std()
        wave = wave + noise * level * 10 ** (-rng.uniform(30, 60) / 20)
    level = rng.uniform(-1, 1)
    peak = np.copysign(0.95 * 0.03 ** abs(level), level)
    wave = wave * (peak / (np.abs(wave).max() + 1e-9))
    draw = rng.random()
    if draw < 0.05:
        return _companded(wave)
    return _lossy(wave, sampling_rate, rng) if draw < 0.15 else wave


def _companded(wave: NDArray[np.floating]) -> NDArray[np.floating]:
    """µ-law telephone quantisation to 8 bits (ITU-T G.711)."""
    code = np.round(np.sign(wave) * np.log1p(255 * np.abs(wave)) / np.log(256) * 127) / 127
    return np.sign(code) * np.expm1(np.abs(code) * np.log(256)) / 255


def _lossy(wave: NDArray[np.floating], sampling_rate: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Through MP3 or Ogg Vorbis and back."""
    from io import BytesIO

    import soundfile

    container, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))[int(rng.integers(2))]
    buffer = BytesIO()
    soundfile.write(
        buffer, wave, sampling_rate, format=container, subtype=subtype, compression_level=float(rng.uniform(0.1, 0.9))
    )
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float64")
    return decoded[: wave.size]


def mask(features: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """SpecAugment (Park et al. 2019): up to two bands and two stretches set to the mean, `WIDEST` of the axis."""
    values = features.copy()
    for axis, (size, widest) in enumerate(zip(values.shape, WIDEST, strict=True)):
        for _ in range(int(rng.integers(0, 3))):
            width = int(rng.integers(1, max(2, round(widest * size))))
            start = int(rng.integers(0, size - width))
            index = [slice(None), slice(None)]
            index[axis] = slice(start, start + width)
            values[tuple(index)] = values.mean()
    return values


def epoch_batches(
    pairs: Iterable[tuple[Recording, Recording]],
    frontend: FrontEnd,
    sampling_rate: int,
    batch: int,
    rng: np.random.Generator,
    loud: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of inputs (n, …) with labels (n,), 0 for bona fide speech; one window of each recording of a pair.

    The window begins at random. `pairs`: bona fide and spoofed recordings that are as alike as can be had; loud: the
    window is one of the louder half, for pauses say little about their recording.
    """
    pads = frontend.windows(1)[0].filled == "floor"
    features, labels = [], []
    for pair in pairs:
        for recording in pair:
            wave = augment_waveform(recording.waveform / 32767.0, sampling_rate, rng)
            window, *others = windows_of(wave, frontend, sampling_rate)
            if loud and others:
                louder = sorted([window, *others], key=lambda one: -float(np.abs(one - frontend.floor).mean()))
                window = louder[int(rng.integers((len(louder) + 1) // 2))]
            if not pads:
                window = np.take(window, np.arange(frontend.shape[1]), axis=1, mode="wrap")
            features.append(mask(window, rng))
            labels.append(recording.label)
        if len(labels) >= batch:
            yield model_input(np.stack(features), frontend), torch.tensor(labels)
            features, labels = [], []


def own_copies(
    recordings: list[Recording], rounds: int, rng: np.random.Generator
) -> Iterator[tuple[Recording, Recording]]:
    """Each bona fide recording `rounds` times, with one of its own copies, drawn by `SHARES`.

    Speaker, words, room and microphone are then the same in both classes.
    """
    originals = [r for r in recordings if not r.generator]
    made = [[r for r in recordings if r.generator == name] for name in SHARES]
    for k in [k for _ in range(rounds) for k in rng.permutation(len(originals))]:
        chosen = int(rng.choice(len(made), p=list(SHARES.values())))
        yield originals[k], made[chosen][k]


def drawn_pairs(
    bona_fide: list[Recording], spoofed: list[Recording], rng: np.random.Generator
) -> Iterator[tuple[Recording, Recording]]:
    """As many pairs as the smaller class has recordings, drawn anew each time."""
    count = min(len(bona_fide), len(spoofed))
    orders = (rng.permutation(len(members))[:count] for members in (bona_fide, spoofed))
    for first, second in zip(*orders, strict=True):
        yield bona_fide[first], spoofed[second]


def model_input(features: NDArray[Any], frontend: FrontEnd) -> torch.Tensor:
    """Network input (n, …) of features (n, H, W), channels first."""
    stacked: torch.Tensor = frontend.to_input(
        torch.from_numpy(features), lambda channels: torch.stack(list(channels), dim=1)
    )
    return stacked.contiguous(memory_format=torch.channels_last) if stacked.ndim == 4 else stacked
