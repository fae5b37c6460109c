"""Recordings at the resolution of the screen: waveform envelopes, spectrograms of what is in view, frequency scales.

Plain functions on arrays, so that two hours cost no more on screen than four seconds: at most `COLUMNS` columns
are computed for whatever stretch is in view, and again when the view changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

COLUMNS = 900  # columns of a picture: about the pixels of a plot's width
ROWS = 224
BLOCK = 256  # samples per entry of the coarse envelope
WINDOW_SECONDS = 0.064  # Hann window; the detector's own is as long
WINDOWS_PER_COLUMN = 6  # of a long recording, where a column spans more than one window
DYNAMIC_RANGE = 90.0  # dB between the loudest bin and the bottom of the color range
LEVELS = 255  # steps of a level in the picture that is sent
FULL_SCALE = 32767  # steps of an attribution, either side of zero

SCALES = ("mel", "linear")


# frequency scales -----------------------------------------------------------------------------------------------------

_LINEAR_SLOPE = 200.0 / 3.0  # Hz per mel below the break
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_SLOPE
_LOG_STEP = np.log(6.4) / 27.0


def mel(hertz: ArrayLike) -> NDArray[np.float64]:
    """Slaney's mel scale (Auditory Toolbox 1998): linear below 1 kHz, logarithmic above; what log-mel detectors use."""
    f = np.asarray(hertz, dtype=np.float64)
    high = _BREAK_MEL + np.log(np.maximum(f, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(f < _BREAK_HZ, f / _LINEAR_SLOPE, high)


def hertz(mels: ArrayLike) -> NDArray[np.float64]:
    """Inverse of `mel`."""
    m = np.asarray(mels, dtype=np.float64)
    high = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(m, _BREAK_MEL) - _BREAK_MEL))
    return np.where(m < _BREAK_MEL, m * _LINEAR_SLOPE, high)


def position(frequency: ArrayLike, scale: str) -> NDArray[np.float64]:
    """Where a frequency [Hz] lies on the vertical axis: mel, or Hz."""
    return mel(frequency) if scale == "mel" else np.asarray(frequency, dtype=np.float64)


def frequency_at(place: ArrayLike, scale: str) -> NDArray[np.float64]:
    """Frequency [Hz] at a place on the vertical axis."""
    return hertz(place) if scale == "mel" else np.asarray(place, dtype=np.float64)


def ticks(low: float, high: float, scale: str) -> dict[float, str]:
    """Place on the vertical axis → label, round frequencies between `low` and `high` Hz."""
    if scale == "mel":
        choices = [200, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 22000]
    else:
        span = high - low
        step = next(s for s in (100, 200, 500, 1000, 2000, 5000, 10000) if span / s <= 9)
        choices = list(range(0, int(high) + 1, step))
    return {
        float(position(f, scale)): (f"{f / 1000:g} k" if f >= 1000 else f"{f}") for f in choices if low <= f <= high
    }


# waveform -------------------------------------------------------------------------------------------------------------


class Envelope:
    """Lowest and highest sample per column of any stretch of a recording.

    Blocks of `BLOCK` samples are reduced once, so that a view of two hours reads half a million numbers, not a hundred
    million.
    """

    def __init__(self, wave: NDArray[np.float32], rate: float, start: float = 0.0) -> None:
        self.wave, self.rate, self.start = wave, rate, start
        count = wave.size // BLOCK
        blocks = wave[: count * BLOCK].reshape(count, BLOCK)
        self._low, self._high = blocks.min(axis=1), blocks.max(axis=1)

    @property
    def peak(self) -> float:
        """Largest magnitude; at least the last bit of 16-bit audio."""
        edges = [self._low.min(initial=0.0), self._high.max(initial=0.0)]
        tail = self.wave[self._low.size * BLOCK :]
        return float(max(np.abs(edges).max(), np.abs(tail).max(initial=0.0), 2.0**-15))

    def view(self, t0: float, t1: float, columns: int = COLUMNS) -> dict[str, NDArray[Any]]:
        """Zigzag line (`t` [s], `y` [full scale]) through the lows and highs of [t0, t1]; the samples when they fit.

        Times are relative to the recording's own axis and are clipped to it.
        """
        first = int(np.clip(np.floor((t0 - self.start) * self.rate), 0, self.wave.size - 1))
        last = int(np.clip(np.ceil((t1 - self.start) * self.rate) + 1, first + 1, self.wave.size))
        if last - first <= 2 * columns:
            t = self.start + np.arange(first, last) / self.rate
            return {"t": t, "y": self.wave[first:last]}
        per_column = (last - first) / columns
        if per_column >= 4 * BLOCK:
            lows, highs, scale = self._low, self._high, BLOCK
        else:
            lows = highs = self.wave
            scale = 1
        edges = np.unique(np.linspace(first / scale, min(last / scale, lows.size), columns + 1).astype(np.int64))
        starts = edges[:-1]
        stop = edges[-1]
        low = np.minimum.reduceat(lows[:stop], starts)
        high = np.maximum.reduceat(highs[:stop], starts)
        centers = self.start + (starts + np.append(starts[1:], stop)) / 2 * scale / self.rate
        t = np.repeat(centers, 2)
        y = np.empty(t.size, dtype=np.float32)
        y[0::2], y[1::2] = low, high
        return {"t": t, "y": y}


# spectrogram ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A spectrogram as it is sent: `image` (rows, columns) uint8 steps, level = low + step · (high − low) / LEVELS dB.

    x, width [s] and y, height (on the vertical axis' scale) are its extent.
    """

    image: NDArray[np.uint8]
    x: float
    y: float
    width: float
    height: float
    low: float
    high: float


def window_length(rate: float) -> int:
    """Samples of the analysis window: `WINDOW_SECONDS`, a power of two."""
    return int(2 ** np.round(np.log2(rate * WINDOW_SECONDS)))


def power_columns(
    wave: NDArray[np.float32], rate: float, times: NDArray[np.floating], span: float
) -> NDArray[np.float32]:
    """Power spectra (bins, columns) around `times` [s from the first sample]; a full-scale sine has power 1.

    A column that stands for `span` seconds is the mean over several windows spread over it when it is longer than one.
    """
    size = window_length(rate)
    hann = np.hanning(size + 1)[:-1].astype(np.float32)
    scale = np.float32(2.0 / hann.sum())
    count = int(np.clip(np.ceil(span * rate / size), 1, WINDOWS_PER_COLUMN))
    offsets = (np.arange(count) + 0.5) / count - 0.5
    power = np.zeros((size // 2 + 1, times.size), dtype=np.float32)
    window = np.arange(size)
    for offset in offsets:
        starts = np.round((times + offset * span) * rate).astype(np.int64) - size // 2
        index = starts[:, None] + window
        inside = (index >= 0) & (index < wave.size)
        frames = np.where(inside, wave[np.clip(index, 0, wave.size - 1)], np.float32(0.0))
        spectrum = np.fft.rfft(frames * hann, axis=1).astype(np.complex64)
        power += (np.abs(spectrum).T * scale) ** 2
    power /= np.float32(count)
    return power


def level(power: ArrayLike) -> NDArray[np.float32]:
    """dB re a full-scale sine; −150 dB at the least."""
    return (10.0 * np.log10(np.maximum(np.asarray(power, dtype=np.float32), 1e-15))).astype(np.float32)


def row_centers(low: float, high: float, scale: str, rows: int = ROWS) -> NDArray[np.float64]:
    """Frequencies [Hz] at the centers of the rows of a picture from `low` to `high` Hz, equally spaced on the scale."""
    ends = position([low, high], scale)
    edges = np.linspace(ends[0], ends[1], rows + 1)
    return frequency_at((edges[:-1] + edges[1:]) / 2, scale)


def spectrogram(
    wave: NDArray[np.float32],
    rate: float,
    view: tuple[float, float],
    band: tuple[float, float],
    scale: str,
    *,
    top: float,
    start: float = 0.0,
    columns: int = COLUMNS,
) -> Picture:
    """Picture of the stretch `view` [s] and the band [Hz] of a recording whose first sample is at `start` s.

    `top` dB is the top of the color range (`loudest`), the same for every view, so that colors keep their meaning.
    """
    t0, t1 = max(view[0], start), min(view[1], start + wave.size / rate)
    step = (t1 - t0) / columns
    times = t0 - start + (np.arange(columns) + 0.5) * step
    power = power_columns(wave, rate, times, step)
    bins = np.linspace(0.0, rate / 2, power.shape[0])
    centers = row_centers(*band, scale)
    edges = position(band, scale)
    levels = level(_rows(power, bins, centers))
    steps = np.clip((levels - (top - DYNAMIC_RANGE)) / DYNAMIC_RANGE * LEVELS, 0, LEVELS)
    return Picture(
        np.round(steps).astype(np.uint8), t0, edges[0], t1 - t0, edges[1] - edges[0], top - DYNAMIC_RANGE, top
    )


def _rows(power: NDArray[np.float32], bins: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Power at row centers: interpolated between bins where rows are narrow, the largest bin where they are wide."""
    spacing = bins[1] - bins[0]
    place = centers / spacing
    below = np.clip(np.floor(place).astype(np.int64), 0, bins.size - 2)
    weight = (place - below).clip(0, 1)[:, None].astype(np.float32)
    between = power[below] * (1 - weight) + power[below + 1] * weight
    middle = (place[:-1] + place[1:]) / 2
    lower = np.concatenate([[place[0]], middle])
    upper = np.concatenate([middle, [place[-1]]])
    for row in np.flatnonzero(upper - lower > 2):
        first, last = int(np.ceil(lower[row])), int(np.floor(upper[row]))
        between[row] = power[first : last + 1].max(axis=0)
    return between


def loudest(wave: NDArray[np.float32], rate: float) -> float:
    """Top of the color range [dB]: the loudest bin of a coarse look at the whole recording, rounded up to 5 dB."""
    columns = 400
    step = wave.size / rate / columns
    power = power_columns(wave, rate, (np.arange(columns) + 0.5) * step, step)
    return float(5 * np.ceil(level(power.max()) / 5))


# maps -----------------------------------------------------------------------------------------------------------------


def shrink(values: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """A map (rows, time) with at most `columns` columns, means over equal stretches of time."""
    width = values.shape[1]
    if width <= columns:
        return values
    edges = np.linspace(0, width, columns + 1).astype(np.int64)
    sums = np.add.reduceat(values, edges[:-1], axis=1)
    return (sums / np.diff(edges)).astype(np.float32)


def map_rows(attribution: xr.DataArray, band: tuple[float, float], scale: str, rows: int = ROWS) -> NDArray[np.float32]:
    """A map (frequency, time) on the rows of a picture of this band and scale; NaN outside the map's own bands."""
    frequency = attribution["frequency"].values
    centers = row_centers(*band, scale, rows)
    place = np.interp(mel(centers), mel(frequency), np.arange(frequency.size))
    rounded = np.round(place).astype(np.int64)
    values = np.asarray(attribution.values, dtype=np.float32)[rounded]
    margin = (mel(frequency[-1]) - mel(frequency[0])) / max(frequency.size - 1, 1)
    outside = (mel(centers) < mel(frequency[0]) - margin) | (mel(centers) > mel(frequency[-1]) + margin)
    return np.where(outside[:, None], np.float32(np.nan), values)


def quantize(values: NDArray[np.float32]) -> tuple[NDArray[np.int16], float]:
    """A map as int16 steps and the value of one step: a quarter of the bytes of float64, four digits kept. NaN is 0."""
    peak = float(np.nanmax(np.abs(values), initial=0.0))
    unit = peak / FULL_SCALE if peak > 0 else 1.0
    return np.round(np.nan_to_num(values) / unit).astype(np.int16), unit


def normalized(profile: NDArray[np.float32]) -> NDArray[np.float32]:
    """A profile divided by its largest magnitude; zeros stay zeros."""
    peak = float(np.abs(profile).max(initial=0.0))
    return profile / peak if peak > 0 else profile


def samples(signal: xr.DataArray) -> tuple[NDArray[np.float32], float, float]:
    """(wave, rate [Hz], time of the first sample [s]) of a recording."""
    wave = np.ascontiguousarray(signal.values, dtype=np.float32)
    first: Any = signal["time"][0]
    return wave, float(signal.attrs["sampling_rate"]), float(first)
