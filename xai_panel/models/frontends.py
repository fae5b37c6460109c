"""Front ends: from a signal on its physical axes to the features that a model looks at, and from these to its input.

Attribution and perturbation happen in the features, before channel replication and normalisation, so that a map has one
value per time-frequency bin or pixel whatever the network's first layer wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xai_panel.models.drawing import LEVELS, colored, colors, draw
from xai_panel.models.spectra import ConstantQ, Waveform, labelled, resampled
from xai_panel.models.windows import Window, even_rows, overlapping

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FrontEnd(Protocol):
    """What a classifier needs to know about its input.

    Attributes
    ----------
    modality: "audio", "radiograph" or "image"
    dims: names of the two axes of a map, ("frequency", "time") or ("y", "x")
    shape: (H, W) of one model window, (C, H, W) of one with C colors
    units: of the feature values
    floor: feature value that means silence or black; short windows are padded with it unless they are filled otherwise
    flipped: whether the model, and so its layers, has the features' last row first

    Features are float32. Where several real numbers belong together, they are masked together and a map has one value
    for all of them: complex64 for the two parts of a Fourier coefficient, an axis before the others for the colors of a
    pixel.
    """

    modality: ClassVar[str]
    dims: ClassVar[tuple[str, str]]
    units: ClassVar[str]
    floor: ClassVar[float]
    flipped: ClassVar[bool]

    @property
    def shape(self) -> tuple[int, ...]: ...

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        """Features on physical axes, float32 or complex64, dims `dims`, colors first; audio may be of any length."""
        ...

    def windows(self, width: int) -> list[Window]:
        """Windows over features of `width` columns; they cover every column."""
        ...

    def rows(self, count: int) -> NDArray[np.float64]:
        """Places of the features' rows on a layer's grid of `count` rows, (H,), in rows; row r is centred at r.

        Of a layer that is put back into the order of the features where the front end is `flipped`.
        """
        ...

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        """Model input from a batch of windows (n, *shape); `stack` joins arrays (n, H, W) along the channel axis."""
        ...


def cut(values: NDArray[Any], window: Window, frontend: FrontEnd) -> NDArray[Any]:
    """The window (…, H, W) of the feature values (…, H, any width), padded with the floor where it is to be.

    float32, or complex64 of complex features.
    """
    piece = values[..., window.start : window.stop]
    missing = window_shape(window, frontend)[-1] - piece.shape[-1]
    padded = np.pad(piece, [*[(0, 0)] * (piece.ndim - 1), (0, missing)], constant_values=frontend.floor)
    return padded.astype(feature_type(values), copy=False)


def window_shape(window: Window, frontend: FrontEnd) -> tuple[int, ...]:
    """Shape of the features that a backend gets of a window: the model's own, or narrower when it is not padded."""
    return (*frontend.shape[:-1], frontend.shape[-1] if window.filled == "floor" else window.width)


def feature_type(values: NDArray[Any]) -> type[np.complex64] | type[np.float32]:
    """Type of features with such values."""
    return np.complex64 if np.iscomplexobj(values) else np.float32


def shown(features: xr.DataArray) -> xr.DataArray:
    """Features as people look at them: real ones as they are, complex ones as level in dB re maximum, at least −80."""
    if not np.iscomplexobj(features.values):
        return features
    level = np.square(features.values.real) + np.square(features.values.imag)
    peak = level.max()
    np.maximum(level, 1e-8 * peak if peak > 0 else 1.0, out=level)
    level = 10 * np.log10(level, out=level) - (10 * np.log10(peak) if peak > 0 else 80.0)
    attrs = {**features.attrs, "units": "dB", "long_name": "Level re maximum"}
    return features.copy(data=level.astype(np.float32, copy=False)).assign_attrs(attrs)


class _Affine:
    """Replicates a one-channel feature and normalises each channel: (a·x + b − mean) / std, where a·x + b is 0…1.

    One channel per entry of `mean` and `std`: three for ImageNet's networks (the default), one for a greyscale network.
    """

    scale: ClassVar[float]
    offset: ClassVar[float]
    flipped: ClassVar[bool] = False
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"parameters «mean» and «std» have {len(self.mean)} and {len(self.std)} entries; "
                "one number per channel is expected in both"
            )
        if min(self.std) <= 0:
            raise ValueError(f"parameter «std» is {list(self.std)}; positive numbers are expected")

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        return stack(
            [
                batch * (self.scale / std) + (self.offset - mean) / std
                for mean, std in zip(self.mean, self.std, strict=True)
            ]
        )


@dataclass(frozen=True)
class LogMel(_Affine):
    """Log-mel spectrogram: (frequency [Hz], time [s]) in dB relative to the recording's maximum, at least −80 dB.

    The mel scale is Slaney's; frame k is centred at k·hop/rate. Recordings are resampled to `sampling_rate` and worked
    through in blocks, so that two hours need no more memory than their features. Networks see −80…0 dB as 0…1,
    normalised by `mean` and `std` in one channel per entry.

    Recordings that are shorter than the `frames` of one window are padded with silence, or not where `padded` is false,
    for networks that take any length. Longer ones are heard in windows that overlap by half.

    Raises `ValueError` for parameters that contradict each other; it names them.
    """

    sampling_rate: int = 16_000
    n_fft: int = 2048
    win_length: int = 512
    hop_length: int = 144
    bands: int = 224
    frames: int = 224
    fmin: float = 20.0
    fmax: float = 8000.0
    padded: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    modality: ClassVar[str] = "audio"
    dims: ClassVar[tuple[str, str]] = ("frequency", "time")
    units: ClassVar[str] = "dB"
    floor: ClassVar[float] = -80.0
    scale: ClassVar[float] = 1.0 / 80.0
    offset: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.win_length > self.n_fft:
            raise ValueError(f"parameter «win_length» is {self.win_length}; at most n_fft = {self.n_fft} is expected")
        if not 0 <= self.fmin < self.fmax <= self.sampling_rate / 2:
            raise ValueError(
                f"parameters «fmin» and «fmax» are {self.fmin:g} and {self.fmax:g} Hz; expected 0 ≤ fmin < fmax ≤ "
                f"{self.sampling_rate / 2:g} Hz, half the sampling rate"
            )
        if self.frames < 2:
            raise ValueError(f"parameter «frames» is {self.frames}; at least 2 are expected")

    @property
    def shape(self) -> tuple[int, int]:
        return (self.bands, self.frames)

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        step = self.hop_length / self.sampling_rate
        return labelled(self._level(signal), signal, self.frequencies(), step, self.units, "Level re maximum")

    def _level(self, signal: xr.DataArray) -> NDArray[np.float32]:
        """Levels (bands, any number of frames) [dB]."""
        import librosa

        wave, count = resampled(signal, self.sampling_rate, self.hop_length)
        padded = np.pad(wave, (self.n_fft // 2, self.n_fft))
        power = np.empty((self.bands, count), dtype=np.float32)
        block = 4096
        for first in range(0, count, block):
            last = min(first + block, count)
            piece = padded[first * self.hop_length : (last - 1) * self.hop_length + self.n_fft]
            power[:, first:last] = librosa.feature.melspectrogram(
                y=piece,
                sr=self.sampling_rate,
                n_fft=self.n_fft,
                win_length=self.win_length,
                hop_length=self.hop_length,
                n_mels=self.bands,
                fmin=self.fmin,
                fmax=self.fmax,
                center=False,
            )
        level: NDArray[np.float32] = librosa.power_to_db(power, ref=np.max, top_db=-self.floor).astype(np.float32)
        return level

    def frequencies(self) -> NDArray[np.float64]:
        """Centres of the rows [Hz], (rows,)."""
        import librosa

        low, high = librosa.hz_to_mel([self.fmin, self.fmax])
        bands = 1 + even_rows(self.shape[0], self.bands)  # the filter below the lowest one is at fmin
        return np.asarray(librosa.mel_to_hz(low + bands * (high - low) / (self.bands + 1)))

    def windows(self, width: int) -> list[Window]:
        """Windows of the model's width, overlapping by half; the last one ends with the recording."""
        return overlapping(width, self.shape[1], "floor" if self.padded else "nothing")

    def rows(self, count: int) -> NDArray[np.float64]:
        return even_rows(self.shape[0], count)


@dataclass(frozen=True)
class Picture(LogMel):
    """Picture of a log-mel spectrogram, as deepfake-audio demos draw it: (frequency [Hz], time [s]) in dB.

    Card: kind = "picture". matplotlib draws the levels −80…0 dB re the recording's maximum without axes, each frame and
    band a flat cell, low frequencies at the bottom; the picture is saved as PNG and read back, which leaves 256 levels.
    A window is a square of `size` × `size` pixels that shows `bands` and `frames`; longer recordings are drawn as one
    long picture at the same number of pixels a second.

    Features are the picture in grey, so that a map has one value a pixel; row 0 is the lowest. Networks see its colors
    by `colormap`, any of matplotlib's: three channels of 0…1, piecewise linear between the 256 colors, normalised by
    `mean` and `std`.

    Raises `ValueError` for an unknown color map or other than three channels.
    """

    bands: int = 112
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: int = 224
    colormap: str = "viridis"

    flipped: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        colors(self.colormap)
        if len(self.mean) != 3:
            raise ValueError(f"parameters «mean» and «std» have {len(self.mean)} entries; a picture has three channels")

    @property
    def shape(self) -> tuple[int, int]:
        return (self.size, self.size)

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        level = self._level(signal)
        frames = level.shape[1]
        width = max(1, round(frames * self.size / self.frames))
        picture = draw(level, (self.floor, 0.0), (self.size, width))[::-1]
        hop = self.hop_length / self.sampling_rate
        step = hop * frames / width
        values = picture * np.float32(self.floor / (1 - LEVELS)) + np.float32(self.floor)
        return labelled(
            values, signal, self.frequencies(), step, self.units, "Level re maximum", delay=(step - hop) / 2
        )

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        """Pictures in color from windows (n, frequency, time); the lowest frequency is the last row."""
        table = ((colors(self.colormap) - self.mean) / self.std).astype(np.float32)
        return stack(colored((batch - self.floor) * ((LEVELS - 1) / -self.floor), table))


@dataclass(frozen=True)
class RadiographImage(_Affine):
    """Radiograph on the model's square grid, (y, x) [mm or px], stretched so that its 0.5…99.5 percentiles span 0…1.

    The whole image is squeezed into the grid (as the training images were), so that nothing at its edges is lost; the
    axes keep the true proportions. Networks see 0…1 normalised by `mean` and `std` in one channel per entry: three of
    ImageNet's by default; `mean = [0.5]`, `std = [1 / 2048]` gives the one channel of −1024…1024 that TorchXRayVision
    takes.
    """

    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    modality: ClassVar[str] = "radiograph"
    dims: ClassVar[tuple[str, str]] = ("y", "x")
    units: ClassVar[str] = "1"
    floor: ClassVar[float] = 0.0
    scale: ClassVar[float] = 1.0
    offset: ClassVar[float] = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return (self.size, self.size)

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        from PIL import Image

        values = np.asarray(signal.values, dtype=np.float32)
        step = max(1, int(np.sqrt(values.size / 1_000_000)))  # a million pixels are enough for percentiles
        low, high = np.percentile(values[::step, ::step], (0.5, 99.5))
        stretched = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
        grid = Image.fromarray(stretched).resize((self.size, self.size), Image.Resampling.BILINEAR)
        coords = {dim: (dim, _regrid(signal[dim].values, self.size), dict(signal[dim].attrs)) for dim in self.dims}
        return xr.DataArray(
            np.asarray(grid, dtype=np.float32),
            dims=self.dims,
            coords=coords,
            name="intensity",
            attrs={**signal.attrs, "units": self.units, "long_name": "Relative intensity"},
        )

    def windows(self, width: int) -> list[Window]:
        return [Window(0, width)]

    def rows(self, count: int) -> NDArray[np.float64]:
        return even_rows(self.size, count)


@dataclass(frozen=True)
class ColorImage(_Affine):
    """Red, green and blue of an image, (channel, y, x) [px], 0…1, on the square that the model looks at.

    Card: kind = "image". The parameters are those of torchvision's presets: with `fit = "crop"` the shorter side is
    resized to `resize_size` pixels and the middle `crop_size` × `crop_size` cut out, with `fit = "squeeze"` the whole
    image is resized to that square; `interpolation` is "bilinear" or "bicubic", with antialiasing; `mean` and `std`
    normalise each color. Eight bits are resized in whole numbers, as torchvision does. The axes are those of the image,
    so that a map lies where the model looked.

    Each pixel is three numbers: a masked pixel is at its baseline in all of them, and a map has one value a pixel.
    Signed maps sum change · gradient over the colors, so that the sum of integrated gradients is the difference of the
    logits; maps of magnitudes are the Euclidean norm over the colors.

    Raises `ValueError` for another `fit` or `interpolation`, a crop that is larger than the resized image, or a number
    of `mean` and `std` that is not three.
    """

    resize_size: int = 256
    crop_size: int = 224
    fit: str = "crop"
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    modality: ClassVar[str] = "image"
    dims: ClassVar[tuple[str, str]] = ("y", "x")
    units: ClassVar[str] = "1"
    floor: ClassVar[float] = 0.0
    flipped: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("fit", ("crop", "squeeze")), ("interpolation", ("bilinear", "bicubic"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"parameter «{name}» is {getattr(self, name)!r}; one of {', '.join(known)} is expected"
                )
        if self.fit == "crop" and self.crop_size > self.resize_size:
            raise ValueError(
                f"parameter «crop_size» is {self.crop_size}; at most resize_size = {self.resize_size} is expected"
            )
        if len(self.mean) != 3:
            raise ValueError(f"parameters «mean» and «std» have {len(self.mean)} entries; one per color is expected")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.crop_size, self.crop_size)

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        from PIL import Image

        across, down = self._seen(signal.sizes["y"], signal.sizes["x"])
        box = (across[0], down[0], across[1], down[1])
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[self.interpolation]
        most = np.float32(signal.attrs.get("value_range", (0, 1))[1])
        pixels = signal.values

        def resized(part: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(Image.fromarray(part).resize(self.shape[1:], method, box))

        if pixels.dtype == np.uint8:  # in whole numbers, as torchvision does and networks were trained
            seen = resized(pixels)
        else:
            seen = np.stack([resized(part.astype(np.float32)) for part in np.moveaxis(pixels, -1, 0)], axis=-1)
        values = np.ascontiguousarray(np.moveaxis(np.clip(seen / most, 0, 1), -1, 0))
        coords = {
            dim: (dim, _regrid(signal[dim].values, self.crop_size, part), dict(signal[dim].attrs))
            for dim, part in (("y", down), ("x", across))
        }
        return xr.DataArray(
            values,
            dims=("channel", *self.dims),
            coords={**coords, "channel": signal["channel"]},
            name="color",
            attrs={**signal.attrs, "units": self.units, "long_name": "Relative color value"},
        )

    def _seen(self, height: int, width: int) -> list[tuple[float, float]]:
        """What the model sees of an image: left and right edge, top and bottom edge, in pixels."""
        if self.fit == "squeeze":
            return [(0, width), (0, height)]
        edges = []
        for size in (width, height):
            resized = int(self.resize_size * size / min(height, width))  # rounded as by torchvision
            start, step = round((resized - self.crop_size) / 2), size / resized
            edges.append((start * step, min((start + self.crop_size) * step, size)))
        return edges

    def windows(self, width: int) -> list[Window]:
        return [Window(0, width)]

    def rows(self, count: int) -> NDArray[np.float64]:
        return even_rows(self.crop_size, count)

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        return stack([(batch[:, k] - self.mean[k]) / self.std[k] for k in range(3)])


def _regrid(centers: NDArray[Any], count: int, part: tuple[float, float] | None = None) -> NDArray[np.float64]:
    """Centres of `count` equal cells over the extent of the pixels with the given centres, or over a part of it.

    part: first and last edge in pixels from the first pixel's edge.
    """
    spacing = float(centers[1] - centers[0]) if centers.size > 1 else 1.0
    first, last = part or (0, centers.size)
    return float(centers[0]) + spacing * (first - 0.5 + (np.arange(count) + 0.5) * (last - first) / count)


FrontEnds = type[LogMel] | type[Picture] | type[Waveform] | type[ConstantQ] | type[RadiographImage] | type[ColorImage]
FRONT_ENDS: dict[str, FrontEnds] = {
    "log-mel": LogMel,
    "picture": Picture,
    "waveform": Waveform,
    "cqt": ConstantQ,
    "radiograph": RadiographImage,
    "image": ColorImage,
}


def build_frontend(parameters: dict[str, Any]) -> FrontEnd:
    """Front end from a card's table: `kind` and the parameters of its class.

    Raises `ValueError` that names the parameter, what it was and what is expected.
    """
    rest = dict(parameters)
    kind = rest.pop("kind", None)
    if kind not in FRONT_ENDS:
        raise ValueError(f"front end kind {kind!r} is unknown; known: {', '.join(FRONT_ENDS)}")
    defaults = {field.name: field.default for field in fields(FRONT_ENDS[kind])}
    for name, value in rest.items():
        if name not in defaults:
            raise ValueError(f"front end {kind}: parameter «{name}» is unknown; known: {', '.join(defaults)}")
        wanted = _unlike(value, defaults[name])
        if wanted:
            raise ValueError(f"front end {kind}: parameter «{name}» is {value!r}; {wanted} is expected")
    try:
        return FRONT_ENDS[kind](**rest)
    except ValueError as error:
        raise ValueError(f"front end {kind}: {error}") from error


def check_framework(frontend: FrontEnd, framework: str) -> None:
    """Raises `ValueError` for a front end whose network's input only PyTorch can make."""
    if isinstance(frontend, Waveform | ConstantQ) and framework != "torch":
        kind = describe(frontend)["kind"]
        raise ValueError(f"front end {kind} is for PyTorch networks; field «framework» says {framework}")


def describe(frontend: FrontEnd) -> dict[str, Any]:
    """The table of a front end in a card; the inverse of `build_frontend` for the front ends of this package."""
    kind = next((kind for kind, known in FRONT_ENDS.items() if type(frontend) is known), type(frontend).__name__)
    return {"kind": kind, **(asdict(frontend) if is_dataclass(frontend) else {})}


def _unlike(value: Any, default: Any) -> str:
    """What is expected of a parameter with this default; empty when the value is like it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, tuple):
        each = isinstance(value, list | tuple) and all(not _unlike(item, 0.0) for item in value)
        return "" if each else "a list of numbers"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "a text"
    if isinstance(default, int):
        return "" if number and isinstance(value, int) and value > 0 else "a positive whole number"
    return "" if number and np.isfinite(value) else "a number"
