"""Recordings: what is read, where it lies in time, and what is refused with which words."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import xarray as xr
from xarray.indexes import RangeIndex

from xai_panel.signals.audio import digest_of, read_audio, resample, sampling_rate
from xai_panel.signals.errors import SignalError
from xai_panel.signals.limits import Limits, bytes_text, duration_text
from xai_panel.signals.read import read_signal

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def test_samples_of_a_16_bit_wav_are_read_exactly():
    steps = np.arange(-3000, 3000, dtype=np.int16)
    signal = read_audio(encode(steps))
    assert signal.dtype == np.float32
    assert signal.dims == ("time",)
    np.testing.assert_array_equal(signal.values, steps / np.float32(32768))


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_any_sampling_rate_keeps_its_time_axis(rate: int, format: str):
    signal = read_audio(encode(tone(2.0, rate), rate, format))
    assert sampling_rate(signal) == signal.attrs["sampling_rate"] == rate
    assert signal.attrs["duration"] == 2.0
    assert signal["time"].attrs["units"] == "s"
    np.testing.assert_allclose(signal["time"].values, np.arange(2 * rate) / rate, rtol=1e-12)


@pytest.mark.parametrize(
    ("format", "subtype", "rate", "tolerance"),
    [
        ("WAV", "PCM_U8", 16_000, 2**-7),
        ("WAV", "PCM_24", 44_100, 2**-22),
        ("WAV", "PCM_32", 16_000, 1e-7),
        ("WAV", "FLOAT", 48_000, 1e-7),
        ("WAV", "DOUBLE", 16_000, 1e-7),
        ("WAV", "ULAW", 8_000, 0.02),
        ("FLAC", "PCM_24", 16_000, 2**-22),
        ("OGG", "VORBIS", 44_100, 0.03),
        ("OGG", "OPUS", 48_000, 0.05),
        ("MP3", "MPEG_LAYER_III", 44_100, 0.02),
        ("MP3", "MPEG_LAYER_III", 16_000, 0.02),
        ("RF64", "PCM_16", 16_000, 2**-14),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_gives_the_tone_back(format: str, subtype: str, rate: int, tolerance: float, channels: int):
    wave = tone(1.0, rate)
    stereo = np.stack([wave] * channels, axis=1)
    signal = read_audio(encode(stereo, rate, format, subtype))
    assert (signal.attrs["channels"], signal.attrs["subtype"]) == (channels, subtype)
    middle = slice(rate // 10, rate - rate // 10)  # codecs ring at the ends
    assert abs(signal.values[middle] - wave[middle]).max() < tolerance


def test_stereo_is_mixed_to_the_mean():
    left, right = tone(), tone(hertz=1000, level=0.25)
    signal = read_audio(encode(np.stack([left, right], 1), subtype="FLOAT"))
    np.testing.assert_allclose(signal.values, (left + right) / 2, atol=1e-7)
    assert signal.attrs["channels"] == 2


def test_path_bytes_and_open_file_give_the_same_signal(tmp_path: Path):
    data = encode(noise(), format="FLAC")
    path = tmp_path / "speech.flac"
    path.write_bytes(data)
    from_path = read_audio(path)
    with path.open("rb") as file:
        from_file = read_audio(file)
    assert from_path.identical(read_audio(str(path)))
    assert from_path.identical(from_file)
    assert from_path.identical(read_audio(data, name="speech.flac"))
    assert from_path.identical(read_signal(data, "speech.flac"))
    assert from_path.attrs["digest"] == hashlib.sha256(data).hexdigest() == digest_of(from_path)
    assert from_path.attrs["source"] == "speech.flac"


def test_tags_of_the_header_are_kept(tmp_path: Path):
    path = tmp_path / "tagged.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.comment = "Evening\nprayer", "read aloud"
        file.write(tone())
    attrs = read_audio(path).attrs
    assert (attrs["tag_title"], attrs["tag_comment"]) == ("Eveningprayer", "read aloud")


def test_samples_beyond_full_scale_are_scaled_not_clipped():
    wave = 4 * tone(level=1.0)
    signal = read_audio(encode(wave, subtype="FLOAT"))
    np.testing.assert_allclose(signal.values, wave / abs(wave).max(), atol=1e-6)
    assert signal.attrs["scaled_by"] == pytest.approx(1 / abs(wave).max())


def test_a_signal_survives_netcdf(tmp_path: Path):
    signal = read_audio(encode(tone()))
    signal.to_netcdf(tmp_path / "signal.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "signal.nc", engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored.values, signal.values)
        np.testing.assert_allclose(stored["time"].values, signal["time"].values)
        assert stored.attrs["digest"] == signal.attrs["digest"]


def test_a_selection_has_its_own_digest_and_a_copy_does_not():
    signal = read_audio(encode(noise()))
    assert digest_of(signal.copy(deep=True)) == signal.attrs["digest"]
    digests = {
        digest_of(signal),
        digest_of(signal.isel(time=slice(0, 8000))),
        digest_of(signal.isel(time=slice(8000, 16_000))),
        digest_of(signal * 0.5),
        digest_of(signal.isel(time=slice(None, None, 2))),
    }
    assert len(digests) == 5
    own = xr.DataArray(tone(), dims="time", attrs={"sampling_rate": RATE})
    assert digest_of(own) == digest_of(own.copy())
    assert digest_of(own) != digest_of(own.assign_coords(time=np.arange(own.size) / RATE))


def test_the_time_axis_takes_no_memory_and_can_be_selected():
    signal = read_audio(encode(noise(3.0)))
    assert isinstance(signal.xindexes["time"], RangeIndex)
    ordinary = signal.drop_vars("time").assign_coords(time=signal["time"].values)
    for part in (
        slice(1.0, 2.0),
        slice(None, 0.5),
        slice(2.99995, 99),
        slice(-1, 0.00001),
        slice(2, 1),
        slice(0.00008, 0.00016),
    ):
        np.testing.assert_array_equal(signal.sel(time=part).values, ordinary.sel(time=part).values)
    later = pickle.loads(pickle.dumps(signal)).sel(time=slice(1.0, None)).sel(time=slice(1.5, 2.0))
    assert float(later["time"][0]) == 1.5
    assert later.sizes["time"] == RATE // 2 + 1
    assert sampling_rate(later) == RATE
    assert float(signal.sel(time=0.50001, method="nearest")["time"]) == 0.5
    assert sampling_rate(signal.isel(time=slice(None, None, 4))) == pytest.approx(RATE / 4)


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8000, 16_000), (48_000, 16_000)])
def test_resampling_keeps_the_tone_and_where_it_is(rate: int, target: int):
    resampled = resample(read_audio(encode(tone(1.0, rate), rate, subtype="FLOAT")), target)
    assert sampling_rate(resampled) == target
    assert resampled.sizes["time"] == target
    expected = 0.5 * np.sin(2 * np.pi * 440 * resampled["time"].values)
    middle = slice(target // 10, -target // 10)
    np.testing.assert_allclose(resampled.values[middle], expected[middle], atol=1e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    high = resample(read_audio(encode(tone(1.0, 48_000, 12_000), 48_000)), 16_000)
    assert abs(high.values[1000:-1000]).max() < 1e-3


def test_resampling_a_part_keeps_its_start_and_same_rate_returns_the_signal():
    signal = read_audio(encode(tone(1.0)))
    assert resample(signal, RATE) is signal
    part = resample(signal.sel(time=slice(0.5, None)), 8000)
    assert float(part["time"][0]) == 0.5
    assert "digest" not in part.attrs


# what is refused, and with which words ----------------------------------------------------------------------------


def refused(data: bytes | Path, *words: str, limits: Limits | None = None, name: str = "x.wav") -> SignalError:
    """The one error, on one line, that says what was found, what is accepted and what to do."""
    with pytest.raises(SignalError) as caught:
        read_audio(data, name=name, limits=limits or Limits())
    message = str(caught.value)
    assert "\n" not in message
    assert "WAV, FLAC, OGG or MP3 of" in caught.value.accepted
    assert len(caught.value.remedy) > 8
    for word in words:
        assert word in caught.value.found, caught.value.found
    return caught.value


def test_empty_missing_and_folder(tmp_path: Path):
    refused(b"", "empty")
    refused(tmp_path / "absent.wav", "no such file")
    refused(tmp_path, "folder")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "a JPEG image"),
        (bytes(128) + b"DICM" + bytes(64), "a DICOM image"),
        (b"\0\0\0\x20ftypM4A " + bytes(64), "M4A"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"hello, I am a recording", "text file"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (bytes(300), "unknown type"),
    ],
)
def test_the_wrong_type_behind_the_right_name_is_named(data: bytes, words: str):
    refused(data, words, name="speech.wav")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("fraction", [0.95, 0.6, 0.3, 0.01])
def test_truncated_files_are_refused(format: str, fraction: float):
    data = encode(noise(4.0), format=format)
    refused(data[: int(len(data) * fraction)], "truncated")


def test_a_wav_written_to_a_pipe_is_not_truncated():
    data = bytearray(encode(tone()))
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert read_audio(bytes(data)).attrs["duration"] == 0.5


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_samples_that_are_no_numbers(value: float, words: str):
    wave = tone()
    wave[1600] = value
    refused(encode(wave, subtype="FLOAT"), words, "0.100 s")


def test_silence():
    refused(encode(np.zeros(RATE, np.float32)), "silent", "zero")
    refused(encode(np.full(RATE, 2e-5, np.float32), subtype="FLOAT"), "silent", "dBFS")
    refused(encode(np.stack([tone(), -tone()], 1)), "cancel")


def test_too_many_channels():
    assert read_audio(encode(np.stack([tone()] * 6, 1))).attrs["channels"] == 6
    refused(encode(np.stack([tone(0.2)] * 17, 1)), "17 channels")


def test_too_short():
    assert read_audio(encode(tone(0.1))).sizes["time"] == 1600
    refused(encode(tone(0.09)), "0.09 s")
    refused(encode(tone(0.0)), "no samples")


def flac_with_length(samples: np.ndarray, frames: int) -> bytes:
    """A FLAC file whose header announces `frames` (36 bits at the end of byte 21, FLAC format, STREAMINFO)."""
    data = bytearray(encode(samples, format="FLAC"))
    data[21] = data[21] & 0xF0 | frames >> 32
    data[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(data)


def test_too_long_is_judged_from_the_header_before_decoding(monkeypatch: pytest.MonkeyPatch):
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("samples were decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", never)
    refused(flac_with_length(tone(), RATE * 7201), "lasts 2 h")
    refused(flac_with_length(tone(), 2**36 - 1), "lasts 1.19e+03 h")
    refused(encode(tone(3.0)), "lasts 3 s", limits=Limits(seconds=2))


def test_a_length_that_the_header_does_not_know_is_bounded_while_decoding():
    streamed = flac_with_length(noise(3.0), 0)
    assert read_audio(streamed).attrs["duration"] == 3.0
    refused(streamed, "more than 3 s", limits=Limits(seconds=2))


def test_memory_and_file_bounds(tmp_path: Path):
    refused(encode(tone(3.0)), "48000 samples", "1.56 s", limits=Limits(samples=25_000))
    refused(encode(tone()), "more than 1 kB", limits=Limits(file_bytes=1024))
    path = tmp_path / "large.wav"
    path.write_bytes(encode(tone()))
    refused(path, "15.7 kB", limits=Limits(file_bytes=1024))


def test_a_bound_that_the_person_sets_is_what_the_message_says():
    error = refused(encode(tone(3.0)), limits=Limits(seconds=2, file_bytes=2**20))
    assert error.accepted == "WAV, FLAC, OGG or MP3 of 0.1 s to 2 s, at most 1 MB"
    assert (duration_text(7200), duration_text(150), bytes_text(200 * 2**20)) == ("2 h", "2.5 min", "200 MB")


def test_names_are_cleaned():
    error = refused(b"", name="C:\\Users\\me\\evil\nname.wav")
    assert error.name == "evil·name.wav"


def test_an_implausible_sampling_rate():
    refused(encode(tone(rate=100, seconds=10), 100), "100 samples per second")


def test_a_text_stream_and_a_number_are_refused():
    with pytest.raises(SignalError, match="binary"):
        read_audio(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        read_audio(3)  # type: ignore[arg-type]


def test_real_recordings(shared_data: Path):
    paths = sorted((shared_data / "speech").rglob("*.flac"))[::40]
    assert len(paths) >= 10
    for path in paths:
        signal = read_audio(path)
        expected, rate = soundfile.read(path, dtype="float32")
        assert sampling_rate(signal) == rate
        np.testing.assert_array_equal(signal.values, expected)


@pytest.mark.slow
def test_two_hours_of_speech_fit(tmp_path: Path):
    path = tmp_path / "long.flac"
    minute = (noise(60.0) * 3276).astype(np.int16)
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(120):
            file.write(minute // 64)  # quiet enough for 2 h to stay below 200 MB
    signal = read_audio(path)
    assert signal.attrs["duration"] == 7200
    assert float(signal["time"][-1]) == pytest.approx(7200 - 1 / RATE)
    assert signal.nbytes == 7200 * RATE * 4
