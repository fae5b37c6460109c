"""Front ends of networks that hear the waveform itself, or its constant-Q transform. Their networks are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xai_panel.models.windows import Window, even_rows, overlapping

SCALES = ("mel", "linear")
BLOCK = 4096  # frames that are transformed at once


def resampled(signal: xr.DataArray, rate: float, hop: int) -> tuple[NDArray[np.float32], int]:
    """The recording's samples (time,) at `rate` [Hz], and its number of frames, one every `hop` samples."""
    from xai_panel.signals.audio import resample

    wave = np.asarray(resample(signal, rate).values, dtype=np.float32)
    return wave, max(1, wave.size // hop)


def labelled(
    values: NDArray[Any],
    signal: xr.DataArray,
    frequencies: NDArray[np.float64],
    step: float,
    units: str,
    name: str,
    delay: float = 0.0,
) -> xr.DataArray:
    """Features (frequency, time) on the axes of the signal; `step` from frame to frame and `delay` of the first [s]."""
    start = delay + (float(signal["time"][0]) if signal.sizes["time"] else 0.0)
    times = start + np.arange(values.shape[1]) * step
    return xr.DataArray(
        values,
        dims=("frequency", "time"),
        coords={
            "frequency": ("frequency", frequencies, {"units": "Hz", "long_name": "Frequency"}),
            "time": ("time", times, {"units": "s", "long_name": "Time"}),
        },
        name="level" if units == "dB" else "spectrum",
        attrs={**signal.attrs, "units": units, "long_name": name},
    )


@dataclass(frozen=True)
class Waveform:
    """Short-time Fourier transform of the waveform, complex, (frequency [Hz], time [s]); the model hears its inverse.

    Card: kind = "waveform". A model of raw waveforms is thus explained on the same axes as one of spectrograms. The
    inverse transform is exact: of features that nobody changed the model hears the recording, sample by sample, at
    `sampling_rate`, in windows of `samples` samples that overlap by half, with no other normalisation. A recording that
    is shorter than one window is repeated until the window is full, as Jung et al. 2021 (AASIST) and Hua et al. 2021
    (TSSDNet) do; less than one hop at its end is left out, nothing of the 64 600 and 96 000 samples that they publish.

    Each bin is a complex number and stands for both of its parts: a masked bin is at its baseline with both, and a map
    has one value a bin. Signed maps add what the two parts do, Re(conj(change) · gradient), so that the sum over
    frequency of integrated gradients is what each moment adds to the logit, and the sum over all bins the whole of it;
    maps of magnitudes are the Euclidean norm of the two.

    Frames are centred at k · hop_length / sampling_rate under a periodic Hann window; before and after the recording
    there is silence. A layer's map over time alone is shown at its moment at all frequencies alike. The rows of a
    layer's map over bands and time, and the segments that are masked together, divide 0 Hz to half the sampling rate
    evenly on the frequency `scale`, "mel" or "linear". Mel is right for AASIST, whose encoder keeps the order of its
    mel-spaced sinc bands, but for the seventieth band, which its pooling by three leaves out, and shifts by half a row
    where a kernel of even height is not centred.

    Raises `ValueError` for another scale, or a hop that leaves samples between the frames.
    """

    samples: int = 64_600
    sampling_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 100
    scale: str = "mel"

    modality: ClassVar[str] = "audio"
    dims: ClassVar[tuple[str, str]] = ("frequency", "time")
    units: ClassVar[str] = "1"
    floor: ClassVar[float] = 0.0
    flipped: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"parameter «scale» is {self.scale!r}; one of {', '.join(SCALES)} is expected")
        if not 0 < self.hop_length <= self.n_fft // 4:
            raise ValueError(
                f"parameter «hop_length» is {self.hop_length}; 1…{self.n_fft // 4}, a quarter of n_fft, is expected"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return (self.n_fft // 2 + 1, -(-self.samples // self.hop_length))

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        wave, count = resampled(signal, self.sampling_rate, self.hop_length)
        padded = np.pad(wave, (self.n_fft // 2, self.n_fft))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop_length]
        values = np.empty((self.shape[0], count), dtype=np.complex64)
        for first in range(0, count, BLOCK):
            block = slice(first, min(first + BLOCK, count))
            values[:, block] = np.fft.rfft(frames[block] * self._taper(), axis=1).T
        frequencies = np.arange(self.shape[0]) * self.sampling_rate / self.n_fft
        step = self.hop_length / self.sampling_rate
        return labelled(values, signal, frequencies, step, self.units, "Short-time Fourier transform")

    def _taper(self) -> NDArray[np.float32]:
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)).astype(np.float32)

    def windows(self, width: int) -> list[Window]:
        """Windows that overlap by half; a short recording is repeated."""
        return overlapping(width, self.shape[1], filled="copies")

    def rows(self, count: int) -> NDArray[np.float64]:
        """Places of the bins on the `count` rows of a layer's grid, in rows; row r is centred at r."""
        frequency = np.arange(self.shape[0]) / (self.shape[0] - 1)
        if self.scale == "mel":
            frequency = np.log1p(frequency * self.sampling_rate / 1400) / np.log1p(self.sampling_rate / 1400)
        return frequency * count - 0.5

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        """Waveforms (n, samples) from windows (n, frequency, time): the inverse transform, repeated until full."""
        import torch

        length = min(self.samples, batch.shape[-1] * self.hop_length)
        waves = torch.istft(
            batch.to(torch.complex64),
            self.n_fft,
            self.hop_length,
            window=torch.from_numpy(self._taper()).to(batch.device),
            length=length,
        )
        return waves.repeat(1, -(-self.samples // length))[:, : self.samples]


@dataclass(frozen=True)
class ConstantQ:
    """Constant-Q transform: (frequency [Hz], logarithmic, time [s]) in dB re the recording's maximum, at least −80 dB.

    Card: kind = "cqt". Schörkhuber & Klapuri 2010, by librosa; by default the 432 bins of nine octaves below 8 kHz at a
    hop of 16 ms, and the 400 frames, that Hua et al. 2021 use. Networks see −80…0 dB as 0…1, (n, frequency, time).
    Longer recordings are heard in windows that overlap by half, shorter ones are repeated until the window is full.
    Frame k is centred at k·hop/rate; recordings are worked through in blocks.
    """

    sampling_rate: int = 16_000
    hop_length: int = 256
    bins: int = 432
    bins_per_octave: int = 48
    fmin: float = 15.625
    frames: int = 400

    modality: ClassVar[str] = "audio"
    dims: ClassVar[tuple[str, str]] = ("frequency", "time")
    units: ClassVar[str] = "dB"
    floor: ClassVar[float] = -80.0
    flipped: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        return (self.bins, self.frames)

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        import librosa

        wave, count = resampled(signal, self.sampling_rate, self.hop_length)
        longest = self.sampling_rate / self.fmin / (2 ** (1 / self.bins_per_octave) - 1)  # samples of the lowest filter
        margin = -(-int(longest) // self.hop_length)  # frames: half of it would do without the filters of decimation
        padded = np.pad(wave, (margin * self.hop_length, (margin + 1) * self.hop_length))
        magnitude = np.empty((self.bins, count), dtype=np.float32)
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            transform = librosa.cqt(
                padded[first * self.hop_length : (last + 2 * margin) * self.hop_length],
                sr=self.sampling_rate,
                hop_length=self.hop_length,
                fmin=self.fmin,
                n_bins=self.bins,
                bins_per_octave=self.bins_per_octave,
            )
            magnitude[:, first:last] = np.abs(transform[:, margin : margin + last - first])
        level = librosa.amplitude_to_db(magnitude, ref=np.max, top_db=-self.floor).astype(np.float32)
        frequencies = self.fmin * 2.0 ** (np.arange(self.bins) / self.bins_per_octave)
        step = self.hop_length / self.sampling_rate
        return labelled(level, signal, frequencies, step, self.units, "Level re maximum")

    def windows(self, width: int) -> list[Window]:
        """Windows that overlap by half; a short recording is repeated."""
        return overlapping(width, self.frames, filled="copies")

    def rows(self, count: int) -> NDArray[np.float64]:
        """Places of the bins on the `count` rows of a layer's grid, which divide the bins evenly."""
        return even_rows(self.bins, count)

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        """Levels (n, frequency, time) as 0…1, repeated until full."""
        return batch[:, :, np.arange(self.frames) % batch.shape[-1]] / -self.floor + 1.0
