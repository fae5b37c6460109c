"""How large a signal may be: one set of bounds for all readers, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the readers.

    Parameters
    ----------
    file_bytes: size of a file [byte]
    pixels: rows × columns of an image
    seconds: longest recording [s]
    min_seconds: shortest recording [s]
    samples: longest recording in samples of one channel; 2**29 are 2 GiB in memory, more than 2 h at 48 kHz
    channels: most channels of a recording (third-order ambisonics has 16)
    min_rate, max_rate: sampling rates [Hz]
    """

    file_bytes: int = 200 * 2**20
    pixels: int = 100_000_000
    seconds: float = 7200.0
    min_seconds: float = 0.1
    samples: int = 2**29
    channels: int = 16
    min_rate: int = 1_000
    max_rate: int = 768_000

    @property
    def audio(self) -> str:
        """What is accepted as a recording, as a phrase for error messages."""
        return (
            f"WAV, FLAC, OGG or MP3 of {duration_text(self.min_seconds)} to {duration_text(self.seconds)}, "
            f"at most {bytes_text(self.file_bytes)}"
        )

    @property
    def radiograph(self) -> str:
        """What is accepted as a radiograph, as a phrase for error messages."""
        return (
            f"PNG, JPEG or single-frame greyscale DICOM of at most {self.pixels / 1e6:g} megapixels "
            f"and {bytes_text(self.file_bytes)}"
        )

    @property
    def image(self) -> str:
        """What is accepted as an image, as a phrase for error messages."""
        return f"PNG, JPEG, TIFF or WebP of at most {self.pixels / 1e6:g} megapixels and {bytes_text(self.file_bytes)}"

    @property
    def signal(self) -> str:
        """What is accepted as any of them, as a phrase for error messages."""
        return (
            f"a recording (WAV, FLAC, OGG, MP3), a radiograph (PNG, JPEG, DICOM) or an image (PNG, JPEG, TIFF, WebP) "
            f"of at most {bytes_text(self.file_bytes)}"
        )


LIMITS = Limits()


def bytes_text(count: float) -> str:
    """A file size as people write it, e.g. «200 MB» (1 MB = 2**20 byte, as file managers count)."""
    for unit in ("byte", "kB", "MB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GB"


def duration_text(seconds: float) -> str:
    """A duration as people write it, e.g. «0.1 s» or «2 h»."""
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s"
