"""Recordings: WAV, FLAC, OGG and MP3 as waveforms over time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np
import soundfile
import xarray as xr

from .axis import time_coordinate
from .errors import SignalError
from .limits import LIMITS, Limits, duration_text
from .source import AUDIO, Source, digest_of, fingerprint, id3_length, open_source

__all__ = ["digest_of", "read_audio", "resample", "sampling_rate", "waveform"]

_BLOCK = 2**18  # frames decoded at a time
_SILENCE = 2.0**-15  # one step of 16-bit audio
_UNKNOWN = 2**62  # libsndfile announces 2**63 - 1 frames when the header does not say
_STREAMED = 0x7FFF0000  # WAV written to a pipe announces a size from here up
_WAV_SLACK = 64  # bytes by which careless writers miscount the data chunk
_MP3_SLACK = 2 * 1152  # MP3 without a Xing header: its length is an estimate


def read_audio(
    source: str | Path | bytes | BinaryIO | Source, *, name: str | None = None, limits: Limits = LIMITS
) -> xr.DataArray:
    """Read a recording, mixed to mono at its own sampling rate.

    Parameters
    ----------
    source: path, bytes of a file, or a file open for reading binary
    name: what to call it in messages and attributes; default the file's name
    limits: bounds on size and duration

    Returns
    -------
    DataArray (time,) float32, full scale = 1, `time` [s] from 0; attrs: units, long_name, modality, sampling_rate [Hz],
    duration [s], channels (before the mix), format, subtype, source, digest, and the header's tags as `tag_title` …
    A file with samples beyond full scale (floating-point WAV, MP3) is scaled down to it, by attrs `scaled_by`.

    Raises
    ------
    SignalError: not a recording, truncated or corrupted, too short or long, silent, NaN or infinite samples. Nothing
    tells that an OGG or MP3 stream cut exactly between two pages or frames ever was longer.
    """
    origin = open_source(source, name, limits, limits.audio)
    return _Reader(origin, limits).read()


class _Bytes(io.BytesIO):
    """Bytes whose seek never raises: an exception inside libsndfile's callbacks would be printed, not raised."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(0, base + offset))


class _Stream(soundfile.SoundFile):
    """Reads on without seeking to where it already is, which fails for FLAC of unknown length and costs time in MP3."""

    def seekable(self) -> bool:
        return False


class _Reader:
    """One file on its way to a waveform."""

    def __init__(self, origin: Source, limits: Limits) -> None:
        self.origin, self.limits = origin, limits

    def fail(self, found: str, remedy: str) -> NoReturn:
        raise SignalError(self.origin.name, found, self.limits.audio, remedy)

    def truncated(self, found: str) -> NoReturn:
        self.fail(f"the file is truncated: {found}", "copy or export the recording again, completely")

    def read(self) -> xr.DataArray:
        modality, kind = self.origin.kind
        if modality != AUDIO:
            found = f"a {kind} image" if modality else kind
            self.fail(f"this is {found}, not a recording", "choose a recording, or convert it to WAV or FLAC")
        data = self.origin.data
        if kind == "WAV":
            self._check_wav(data)
        elif kind == "OGG":
            self._check_ogg(data)
        elif kind == "FLAC":
            data = data[id3_length(data) :]
        try:
            with _Stream(_Bytes(data)) as file:
                return self._decode(file, kind)
        except soundfile.SoundFileError as error:
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            self.fail(
                f"the {kind} data cannot be decoded, the file is truncated or corrupted ({reason})",
                "copy or export the recording again, as WAV or FLAC if possible",
            )

    def _check_wav(self, data: bytes) -> None:
        """libsndfile silently shortens a WAV file that ends before its data chunk does."""
        order: Literal["big", "little"] = "big" if data[:4] == b"RIFX" else "little"
        position = 12
        while position + 8 <= len(data):
            size = int.from_bytes(data[position + 4 : position + 8], order)
            end = position + 8 + size
            if data[position : position + 4] == b"data":
                if size < _STREAMED and end > len(data) + _WAV_SLACK:
                    here = len(data) - position - 8
                    self.truncated(f"the header announces {size} bytes of samples and {here} are there")
                return
            position = end + size % 2
        self.truncated("it has no samples (no data chunk)")

    def _check_ogg(self, data: bytes) -> None:
        """libsndfile silently drops an OGG page that is cut (RFC 3533, section 6)."""
        page = data.rfind(b"OggS")
        sizes = data[page + 27 : page + 27 + (data[page + 26] if page + 26 < len(data) else 0)]
        if page + 27 > len(data) or len(sizes) < data[page + 26] or page + 27 + len(sizes) + sum(sizes) > len(data):
            self.truncated("its last OGG page is incomplete")

    def _check_header(self, file: soundfile.SoundFile) -> None:
        limits, rate, channels = self.limits, file.samplerate, file.channels
        if not limits.min_rate <= rate <= limits.max_rate:
            self.fail(
                f"the header says {rate} samples per second",
                f"convert it to a sampling rate between {limits.min_rate} and {limits.max_rate} Hz",
            )
        if not 1 <= channels <= limits.channels:
            self.fail(
                f"{channels} channels", f"mix it down to at most {limits.channels} channels, best to mono or stereo"
            )
        if file.frames <= 0:
            self.fail("the recording has no samples", "check that it was saved or uploaded completely")
        if file.frames < _UNKNOWN:
            self._check_duration(file.frames, rate)

    def _check_duration(self, frames: int, rate: int, at_least: str = "") -> None:
        limits = self.limits
        if frames / rate > limits.seconds:
            self.fail(f"the recording lasts {at_least}{duration_text(frames / rate)}", "cut out the part of interest")
        if frames > limits.samples:
            self.fail(
                f"the recording has {at_least}{frames} samples per channel; at {rate} Hz at most "
                f"{duration_text(limits.samples / rate)} fit into memory",
                "cut out the part of interest or lower its sampling rate",
            )
        if frames / rate < limits.min_seconds:
            self.fail(f"the recording lasts {frames / rate:.3g} s", "use a longer recording")

    def _decode(self, file: soundfile.SoundFile, kind: str) -> xr.DataArray:
        """Decode in blocks, so that neither a header nor a long tail can make memory grow past the limits."""
        self._check_header(file)
        rate, limits = file.samplerate, self.limits
        most = min(limits.samples, int(limits.seconds * rate))
        announced = file.frames if file.frames < _UNKNOWN else None
        samples = np.empty(announced or most, np.float32)  # pages that are never written take no memory
        count, loudest = 0, 0.0
        buffer = np.empty((_BLOCK, file.channels), np.float32)
        while len(block := file.read(out=buffer)):
            if count + len(block) > len(samples):
                self._check_duration(count + len(block), rate, at_least="more than ")
            peak = float(np.abs(block).max())
            if not np.isfinite(peak):
                self._not_finite(block, count, rate)
            loudest = max(loudest, peak)
            block.mean(axis=1, out=samples[count : count + len(block)])
            count += len(block)
        if announced is not None and count < announced - (_MP3_SLACK if kind == "MP3" else 0):
            self.truncated(f"the header announces {announced / rate:.3f} s and {count / rate:.3f} s can be decoded")
        self._check_duration(count, rate)
        samples = samples[:count] if count == len(samples) else samples[:count].copy()
        peak = float(max(samples.max(), -samples.min()))
        self._check_sound(peak, loudest, file.channels)

        attrs: dict[str, Any] = {"channels": file.channels, "format": kind, "subtype": file.subtype}
        if peak > 1:
            samples /= np.float32(peak)
            np.clip(samples, -1, 1, out=samples)  # the division may round to just beyond 1
            attrs["scaled_by"] = 1 / peak
        attrs |= {f"tag_{key}": _tag(value) for key, value in file.copy_metadata().items() if _tag(value)}
        return waveform(samples, rate, source=self.origin.name, digest=self.origin.digest, **attrs)

    def _not_finite(self, block: np.ndarray, start: int, rate: int) -> NoReturn:
        bad = ~np.isfinite(block).all(axis=1)
        what = "NaN" if np.isnan(block).any() else "infinite"
        self.fail(
            f"{what} samples, the first at {(start + int(bad.argmax())) / rate:.3f} s",
            "repair the recording or export it again with finite samples",
        )

    def _check_sound(self, peak: float, loudest: float, channels: int) -> None:
        if peak > _SILENCE:
            return
        if loudest > _SILENCE:
            self.fail(f"the {channels} channels cancel each other when they are mixed to mono", "export one channel")
        level = f"its loudest sample is at {20 * np.log10(peak):.0f} dBFS" if peak else "all samples are zero"
        self.fail(f"the recording is silent ({level})", "choose a recording with sound, or raise its level")


def _tag(value: str) -> str:
    """A header tag as one printable line of bounded length."""
    return "".join(char for char in value if char.isprintable()).strip()[:200]


def waveform(
    samples: np.ndarray, rate: float, *, source: str, digest: str | None = None, start: float = 0.0, **attrs: Any
) -> xr.DataArray:
    """Put samples (time,) float32 at `rate` [Hz] on a time axis [s] from `start` that takes no memory."""
    count = len(samples)
    signal = xr.DataArray(samples, coords=time_coordinate(start, rate, count), dims=("time",), name="waveform")
    signal.attrs = {
        "units": "1",
        "long_name": "Amplitude",
        "modality": AUDIO,
        **attrs,
        "sampling_rate": float(rate),
        "duration": count / rate,
        "source": source,
    }
    if digest is not None:
        signal.attrs |= {"digest": digest, "fingerprint": fingerprint(signal)}
    return signal


def sampling_rate(signal: xr.DataArray) -> float:
    """Sampling rate [Hz] of a waveform (time,), from its time axis or, where there is none, its attributes."""
    if "time" in signal.coords and signal.sizes["time"] > 1:
        first, last = float(signal["time"][0]), float(signal["time"][-1])
        if last <= first:
            raise SignalError(
                str(signal.attrs.get("source", "array")),
                "its time axis does not increase",
                "time in seconds",
                "sort it",
            )
        rate = (signal.sizes["time"] - 1) / (last - first)
        stated = signal.attrs.get("sampling_rate")
        return float(stated) if stated and abs(rate / float(stated) - 1) < 1e-6 else rate
    if "sampling_rate" in signal.attrs:
        return float(signal.attrs["sampling_rate"])
    raise SignalError(
        str(signal.attrs.get("source", "array")),
        "neither a time axis nor a sampling rate",
        "a waveform over time [s]",
        "give it a coordinate «time» in seconds, or attrs['sampling_rate'] in Hz",
    )


def resample(signal: xr.DataArray, rate: float) -> xr.DataArray:
    """The waveform (time,) at another sampling rate [Hz] (soxr, high quality); itself when it already has that rate."""
    import soxr

    own = sampling_rate(signal)
    if own == rate:
        return signal
    samples = soxr.resample(np.asarray(signal.values, np.float32), own, rate, quality="HQ")
    start = float(signal["time"][0]) if "time" in signal.coords else 0.0
    kept = {key: value for key, value in signal.attrs.items() if key not in ("digest", "fingerprint", "source")}
    return waveform(samples, rate, source=str(signal.attrs.get("source", "array")), start=start, **kept)
