"""A player whose playhead moves with the frames of the screen.

The sound goes to the browser once, as a 16-bit WAV file over the session's own connection, when it is first needed, and
is played from an object URL: no other session can ask for it, it works behind every proxy and in a notebook, and no
server is needed to seek. (Sound over HTTP needs a route of its own, and `panel serve apps/*.py` has no public way to
add one.)
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import param
import xarray as xr
from panel.custom import JSComponent

from xai_panel.views.spectrogram import samples
from xai_panel.views.widgets import css

MOST_BYTES = 20_000_000  # of sound in a browser: ten minutes at 16 kHz
SMALL_RATE = 16_000


class Player(JSComponent):
    """Transport bar: play, loop, speed, selection.

    Plots take part through Bokeh models of the same document, found by name: spans `<prefix>-playhead-wave`, `-picture`
    and `-profile` (setting the location of the first one seeks) and the box `<prefix>-selection` (the stretch to play).
    """

    sound = param.Bytes(default=b"", doc="WAV file, empty until it is wanted.")
    wanted = param.Integer(default=0, doc="Grows when the browser wants the sound.")
    start = param.Number(default=0.0, doc="Time [s] of the first sample on the plots' axis.")
    duration = param.Number(default=0.0, doc="[s]")
    prefix = param.String(default="", doc="Of the names of the plots' models.")
    time = param.Number(default=0.0, doc="Time [s] of the last pause or seek.")
    selection = param.List(default=[0.0, 0.0], doc="Selected stretch [s]; [0, 0] is none.")

    _esm = Path(__file__).parent / "js" / "player.js"
    _stylesheets: ClassVar[list[str]] = [css("player")]


def playable(signal: xr.DataArray, interval: tuple[float, float] | None = None) -> xr.DataArray:
    """What of a recording the browser gets: all at its own rate, all at 16 kHz when that is too much, or `interval`."""
    from xai_panel.signals.audio import resample
    from xai_panel.views.session import excerpt

    most = MOST_BYTES // 2
    count, rate = signal.sizes["time"], float(signal.attrs["sampling_rate"])
    if count <= most:
        return signal
    if count * SMALL_RATE / rate <= most:
        return resample(signal, SMALL_RATE)
    piece = excerpt(signal, interval)
    return piece if piece.sizes["time"] <= most else piece.isel(time=slice(0, most))


def wav_bytes(signal: xr.DataArray) -> bytes:
    """A recording as a 16-bit PCM WAV file."""
    import soundfile

    wave, rate, _ = samples(signal)
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1.0, 1.0), round(rate), format="WAV", subtype="PCM_16")
    return file.getvalue()
