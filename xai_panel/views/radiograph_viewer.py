"""A radiograph or an image with an attribution map over it: zoom, contour, profiles of all maps at the cursor.

`RadiographState` is what the person has chosen, `radiograph_plots` draws it, `RadiographViewer` ties both together. A
radiograph has a window and a level; an image is shown in its colors. Cursor, read-out, profiles, window, opacity, sign
and choice of the map happen in the browser; the server is asked for maps, for contours, and for a sharper crop after
zooming.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
import xarray as xr
from bokeh.events import MouseMove, Pan, PanStart, RangesUpdate, Reset, Tap
from bokeh.models import ColumnDataSource, LinearColorMapper, PanTool

from xai_panel.signals.source import IMAGE
from xai_panel.views.maps import MapSource, contour_lines, map_values, placed, strength, style_of
from xai_panel.views.palettes import GRAY, SIGNS, color_mapper, palette
from xai_panel.views.picture import Crop, Extent, compact, crop, extent_of, packed
from xai_panel.views.radiograph_plots import (
    PROFILE,
    create_profile_plot,
    create_radiograph_plot,
    script,
    source_of,
)
from xai_panel.views.session import Session
from xai_panel.views.theme import cursor_span
from xai_panel.views.thumbnails import MapThumbnails, thumbnail_entries, waiting_entries
from xai_panel.views.widgets import css, readout

_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (2, 10)}
HINT = "Point at the radiograph to read position, intensity and attribution."
COLOR_HINT = "Point at the image to read position, color and attribution."


class RadiographState(param.Parameterized):
    """What is shown of a radiograph and its maps. No user interface."""

    signal = param.ClassSelector(
        class_=xr.DataArray, default=None, doc="Over (y, x) [mm or px], or an image over (y, x, channel) [px]."
    )
    results = param.Dict(default={}, doc="Method id → explanation with that one map.")
    method = param.String(default="", doc="Id of the map that is laid over, empty before the first is ready.")
    preferred = param.String(default="grad-cam", doc="Id of the map to lay over as soon as it is there.")
    sign = param.Selector(default="both", objects=list(SIGNS), doc="Which part of a signed map is shown.")
    opacity = param.Number(default=0.6, bounds=(0, 1), doc="Of the map over the radiograph.")
    contour = param.Boolean(default=False, doc="Draw a line around the strongest pixels of the map.")
    share = param.Number(default=10.0, bounds=(1, 50), doc="Share [%] of the pixels that the contour encloses.")
    center = param.Number(default=0.5, doc="Gray value in the middle of the window.")
    width = param.Number(
        default=1.0, bounds=(0, None), inclusive_bounds=(False, True), doc="Gray values from black to white."
    )
    invert = param.Boolean(default=False, doc="Show large values dark.")
    cursor = param.Tuple(default=None, length=2, allow_None=True, doc="Last point (x, y) that was clicked [mm or px].")

    @cached_property
    def _nothing(self) -> xr.DataArray:
        axis = {dim: (dim, [0.5, 1.5], {"units": "px"}) for dim in ("y", "x")}
        return xr.DataArray(np.zeros((2, 2), np.float32), dims=("y", "x"), coords=axis, attrs={"units": "1"})

    @property
    def image(self) -> xr.DataArray:
        """The radiograph, or a black one before there is one."""
        return self._nothing if self.signal is None else self.signal

    @property
    def extent(self) -> Extent:
        """The rectangle that the radiograph covers."""
        return extent_of(self.image)

    @property
    def units(self) -> str:
        """Units of both axes: "mm" when the file gives the spacing, else "px"."""
        return str(self.image["x"].attrs.get("units", "px"))

    @property
    def values(self) -> tuple[float, float]:
        """Smallest and largest gray value; never equal."""
        low, high = float(self.image.min()), float(self.image.max())
        return (low, high) if high > low else (low, low + 1.0)

    def reset_window(self) -> None:
        """Window of the file's header, else the robust range of the gray values."""
        from xai_panel.signals.radiograph import display_window

        low, high = (0.0, 1.0) if self.signal is None else display_window(self.signal)
        self.param.update(center=(low + high) / 2, width=high - low)

    def full_window(self) -> None:
        """From the smallest to the largest gray value."""
        low, high = self.values
        self.param.update(center=(low + high) / 2, width=high - low)

    @param.depends("signal", watch=True, on_init=True)
    def _fit_window(self) -> None:
        self.reset_window()

    @param.depends("results", watch=True, on_init=True)
    def _choose(self) -> None:
        """Lay the preferred map over the radiograph; until it is there, the first that is ready."""
        if self.preferred in self.results:
            self.method = self.preferred
        elif self.method not in self.results:
            self.method = next(iter(self.results), "")


class RadiographViewer(pn.viewable.Viewer):
    """The radiograph, its maps and its controls.

    Parameters
    ----------
    signal: a radiograph (y, x) or an image (y, x, channel)
    explanation: maps of one or more methods of it
    session: follow what a person does on a page instead; the page then shows `readout`, where the cursor writes to
    """

    def __init__(
        self,
        signal: xr.DataArray | None = None,
        explanation: xr.Dataset | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        super().__init__()
        self.state = RadiographState()
        self.readout = readout()
        self._session = session
        self._colored = session.modality == IMAGE if session else signal is not None and "channel" in signal.dims
        if signal is not None:
            self.state.signal = signal
        if explanation is not None:
            self.state.results = {str(id): explanation.sel({"method": [id]}) for id in explanation["method"].values}
        self._sources()
        self._plots()
        self._controls()
        self._connect()
        for name, update in (
            ("signal", self._show_signal),
            ("results", self._show_results),
            (["method", "sign", "contour", "share"], self._show_contours),
            (["center", "width"], self._show_window),
        ):
            self.state.param.watch(lambda *events, update=update: self._at_once(update), name)
        self._show_signal()
        self._show_results()
        if session is not None:
            self._follow(session)

    @staticmethod
    def _at_once(update: Callable[[], None]) -> None:
        """Send all changes in one message, in the order in which they were made."""
        with pn.io.hold(policy="collect"):
            update()

    def _follow(self, session: Session) -> None:
        session.param.watch(lambda event: setattr(self.state, "signal", event.new), "signal")
        session.param.watch(lambda event: setattr(self.state, "results", event.new), "results")
        session.param.watch(lambda *_: self._show_thumbnails(), ["state", "methods"])

    # building ------------------------------------------------------------------------------------------------------

    def _sources(self) -> None:
        blank = {"image": [np.zeros((1, 1), np.uint32 if self._colored else np.uint8)]}
        self._picture = ColumnDataSource(data={**placed(self.state.extent), **blank})
        self._whole = ColumnDataSource(data=placed(self.state.extent))
        self._view = ColumnDataSource(data=placed(self.state.extent))
        self._maps = MapSource()
        self._shown = ColumnDataSource(
            data={**placed(self.state.extent), "image": self._maps.maps.data[""]}, syncable=False
        )
        self._contours = ColumnDataSource(data={"xs": [], "ys": []})
        names = ("id", "xs", "row", "column", "ys", "color", "dash", "width", "alpha")
        self._profiles = ColumnDataSource(data={name: [] for name in names}, syncable=False)
        self._point = ColumnDataSource(data={"x": [None], "y": [None]}, syncable=False)
        self._choice = ColumnDataSource(
            data={"method": [""], "sign": ["both"], "opacity": [self.state.opacity]}, syncable=False
        )

    def _plots(self) -> None:
        state = self.state
        self._gray = LinearColorMapper(
            palette=GRAY, low=state.center - state.width / 2, high=state.center + state.width / 2
        )
        self._gray.syncable = False
        self._mapper = color_mapper(-1.0, 1.0, signed=True, transparent=True)
        self._mapper.syncable = False
        self.figure, self._over, self._bar, self._scale = create_radiograph_plot(
            self._picture,
            self._gray,
            self._shown,
            self._mapper,
            self._contours,
            state.extent,
            units=state.units,
            colored=self._colored,
        )
        self._row = create_profile_plot(self._profiles, self.figure.x_range, along="x", units=state.units)
        self._column = create_profile_plot(self._profiles, self.figure.y_range, along="y", units=state.units)
        self._across = cursor_span("width")
        self._down = cursor_span("height")
        for fig, spans in (
            (self.figure, (self._across, self._down)),
            (self._row, (self._down,)),
            (self._column, (self._across,)),
        ):
            for span in spans:
                fig.add_layout(span)
        stretch = {"sizing_mode": "stretch_both", "margin": 0}
        self._pane = pn.pane.Bokeh(self.figure, theme=None, **stretch)
        self.plots = pn.Column(
            pn.Row(
                self._pane,
                pn.pane.Bokeh(self._column, sizing_mode="stretch_height", width=PROFILE, margin=0),
                **stretch,
            ),
            pn.Row(
                pn.pane.Bokeh(self._row, sizing_mode="stretch_width", height=PROFILE, margin=0),
                pn.Spacer(width=PROFILE),
                sizing_mode="stretch_width",
                margin=0,
            ),
            sizing_mode="stretch_both",
            margin=0,
        )

    def _controls(self) -> None:
        state = self.state
        thin: dict[str, Any] = {"size": "small", **_WIDE}
        self.center = pmui.FloatSlider(label="Center", **thin)
        self.width = pmui.FloatSlider(label="Width", **thin)
        self.invert = pmui.Switch.from_param(state.param.invert, description="", margin=(2, 10))
        self.drag = pmui.RadioButtonGroup(
            label="Dragging", options=["Pan", "Window"], value="Pan", size="small", **_WIDE
        )
        self.auto = pmui.Button(label="Reset", size="small", variant="text", on_click=lambda _: state.reset_window())
        self.full = pmui.Button(
            label="Full range", size="small", variant="text", on_click=lambda _: state.full_window()
        )
        self.opacity = pmui.FloatSlider.from_param(state.param.opacity, step=0.05, description="", **thin)
        self.sign = pmui.RadioButtonGroup(label="", options=list(SIGNS), value=state.sign, size="small", **_WIDE)
        self.sign.link(state, value="sign", bidirectional=True)
        self.contour = pmui.Switch.from_param(state.param.contour, description="", margin=(2, 10))
        self.share = pmui.FloatSlider.from_param(
            state.param.share,
            label="Contour around the strongest [%]",
            step=1,
            format="0",
            description="",
            visible=state.param.contour,
            **thin,
        )
        heading = "Map over the image" if self._colored else "Map over the radiograph"
        self.thumbnails = MapThumbnails(value=state.method, heading=heading, sizing_mode="stretch_width")
        self.thumbnails.param.watch(self._prefer, "value")
        state.param.watch(lambda event: setattr(self.thumbnails, "value", event.new), "method")
        for slider, name in ((self.center, "center"), (self.width, "width")):
            slider.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
        self.window_controls = pn.Column(
            self.drag,
            self.center,
            self.width,
            pn.Row(self.invert, self.auto, self.full, margin=0),
            sizing_mode="stretch_width",
            margin=0,
            visible=not self._colored,
        )
        self.map_controls = pn.Column(
            self.sign, self.opacity, self.contour, self.share, sizing_mode="stretch_width", margin=0
        )

    def _prefer(self, event: Any) -> None:
        """The person has chosen a map."""
        if event.new != self.state.method:
            self.state.param.update(method=event.new, preferred=event.new)

    def _connect(self) -> None:
        """Everything that the browser does without asking."""
        fig, state = self.figure, self.state
        fit = script("radiograph_fit", fig=fig, whole=self._whole)
        fig.js_on_change("inner_width", fit)
        fig.js_on_change("inner_height", fit)
        fig.js_on_event(Reset, fit)
        self._whole.js_on_change("data", fit)
        fig.js_on_event(RangesUpdate, script("radiograph_zoomed", view=self._view))
        self._view.on_change("data", lambda attr, old, new: self._sharpen())
        fig.on_event(Tap, lambda event: setattr(state, "cursor", (float(event.x), float(event.y))))

        self._axes = ColumnDataSource(
            data={"mm": [False], "suffix": [""], "hint": [self._hint], "colored": [self._colored]}
        )
        follow = script(
            "radiograph_follow",
            point=self._point,
            across=self._across,
            down=self._down,
            maps=self._maps.maps,
            styles=self._maps.styles,
            choice=self._choice,
            profiles=self._profiles,
            picture=self._picture,
            readout=self.readout,
            axes=self._axes,
        )
        self._point.js_on_change("data", follow)
        self._axes.js_on_change("data", follow)
        for plot, x, y in ((fig, True, True), (self._row, True, False), (self._column, False, True)):
            plot.js_on_event(MouseMove, script("radiograph_point", point=self._point, x=x, y=y))
        overlay = script(
            "radiograph_overlay",
            fig=fig,
            maps=self._maps.maps,
            styles=self._maps.styles,
            choice=self._choice,
            shown=self._shown,
            mapper=self._mapper,
            bar=self._bar,
            glyph=self._over.glyph,
            point=self._point,
            palettes={
                "signed": {sign: palette(signed=True, transparent=True, sign=sign) for sign in SIGNS},
                "unsigned": {"both": palette(signed=False, transparent=True)},
            },
        )
        self._choice.js_on_change("data", overlay)
        self._maps.styles.js_on_change("data", overlay)
        for widget, column in ((self.sign, "sign"), (self.opacity, "opacity"), (self.thumbnails, "method")):
            widget.jscallback(
                args={"choice": self._choice, "column": column},
                value="choice.data = {...choice.data, [column]: [source.value]}",
            )
        chosen = {"method": self.thumbnails, "sign": self.sign, "opacity": self.opacity}
        self._pane.jscallback(  # what was chosen before the figure was laid out for the first time
            args={"choice": self._choice, **chosen},
            inner_width="choice.data = " + f"{{{', '.join(f'{name}: [{name}.data.value]' for name in chosen)}}}",
        )
        window = {"mapper": self._gray, "center": self.center, "level_width": self.width, "invert": self.invert}
        code = source_of("radiograph_window")
        palettes = {"plain": GRAY, "inverted": GRAY[::-1]}
        for control in (self.center, self.width, self.invert):
            control.jscallback(args={**window, "palettes": palettes}, value=code)
        drag = source_of("radiograph_drag")
        grip = {"fig": fig, "mode": self.drag, "center": self.center, "level_width": self.width}
        for event in (PanStart, Pan):  # one at a time: Panel registers only the last of several
            self._pane.jscallback(args=grip, **{f"event:{event.event_name}": drag})
        self.drag.jscallback(
            args={"pan": fig.select_one({"type": PanTool})}, value="pan.active = source.value === 'Pan'"
        )

    # showing -------------------------------------------------------------------------------------------------------

    def _show_signal(self) -> None:
        state = self.state
        values = state.image.values
        if not self._colored:
            self._integers = bool(np.array_equal(values, np.rint(values)))
            low, high = state.values
            margin = 0.5 * (high - low)
            step = 1.0 if self._integers and high - low > 20 else (high - low) / 256
            self.center.param.update(start=low - margin, end=high + margin, step=step)
            self.width.param.update(start=step, end=2 * (high - low), step=step)
            self._show_window()
        self._send(crop(values, state.extent))
        self._whole.data = placed(state.extent)
        units = state.units
        self.figure.yaxis.axis_label = f"y [{units}]"
        self._row.xaxis.axis_label = f"x [{units}]"
        self._scale.visible = units == "mm"
        gray_units = str(state.image.attrs.get("units", "1"))
        suffix = "" if gray_units in ("", "1") else f" {gray_units}"
        self._axes.data = {
            "mm": [units == "mm"],
            "suffix": [suffix],
            "hint": [self._hint if state.signal is not None else ""],
            "colored": [self._colored],
        }

    @property
    def _hint(self) -> str:
        return COLOR_HINT if self._colored else HINT

    def _show_window(self) -> None:
        self.center.value = self.state.center
        self.width.value = self.state.width

    def _send(self, cut: Crop) -> None:
        if self._colored:
            most = self.state.image.attrs.get("value_range", (0, 1))[1]
            pixels: np.ndarray = packed(cut.values, most)
        else:
            pixels = compact(cut.values, self._integers)
        self._picture.data = {**placed(cut.extent), "image": [pixels]}

    def _sharpen(self) -> None:
        """Send what is in view as sharp as the screen can show it."""
        view = Extent(*(float(self._view.data[name][0]) for name in ("x", "y", "dw", "dh")))
        cut = crop(self.state.image.values, self.state.extent, view)
        if cut.extent != Extent(*(float(self._picture.data[name][0]) for name in ("x", "y", "dw", "dh"))):
            self._send(cut)

    def _show_results(self) -> None:
        results = self.state.results
        seen = next((extent_of(one) for one in results.values()), self.state.extent)  # a crop of an image
        self._maps.update(results, seen)
        self._show_thumbnails()
        self._show_contours()

    def _show_thumbnails(self) -> None:
        entries = thumbnail_entries(self.state.results)
        session = self._session
        if session is not None and session.state in ("queued", "running"):
            ready = self.state.results
            entries += waiting_entries(
                [id for id in session.methods if id not in ready and session.available.get(id) is True]
            )
        if entries != self.thumbnails.entries:
            self.thumbnails.entries = entries

    def _show_contours(self) -> None:
        state = self.state
        xs: list[Any] = []
        ys: list[Any] = []
        if state.contour and state.method in state.results:
            one = state.results[state.method]
            weights = strength(map_values(one), signed=style_of(one).signed, sign=state.sign)
            xs, ys = contour_lines(one["x"].values, one["y"].values, weights, state.share / 100)
        self._contours.data = {"xs": xs, "ys": ys}

    def __panel__(self) -> pn.viewable.Viewable:
        controls = (self.window_controls, self.map_controls, self.thumbnails)
        self.thumbnails.css_classes = ["thumbnails"]
        side = pn.Column(*controls, css_classes=["side"], margin=(0, 12, 0, 0), stylesheets=[css("radiograph_side")])
        self.plots.css_classes = ["plots"]
        # The controls are beside the plots, or below them on a narrow screen.
        body = pn.Row(self.plots, side, sizing_mode="stretch_both", margin=0, stylesheets=[css("radiograph")])
        if self._session is not None:
            return body
        return pn.Column(body, self.readout, sizing_mode="stretch_width", height=760)
