"""Maps side by side: methods × classifiers on linked axes, one cursor, profiles on one axis, costs and agreement.

`ComparisonState` is what is compared, `comparison_plots` draws it, `Comparison` ties both together. Cursor, zoom,
profiles, values, color ranges and opacity are the browser's work; the server sends each map once, when it is ready.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
import xarray as xr
from bokeh.events import MouseMove, Reset
from bokeh.models import ColumnDataSource, CustomJS, FactorRange, LinearColorMapper, Range1d
from bokeh.models.widgets.tables import NumberFormatter, ScientificFormatter
from panel.custom import JSComponent

from xai_panel.views.comparison_plots import (
    CELL,
    Axes,
    MapPlot,
    agreement_cells,
    audio_rows,
    axes_of,
    create_agreement_plot,
    create_map_plot,
    create_profile_plot,
    create_ranges,
    image_of,
    profile_of,
)
from xai_panel.views.comparison_table import COLUMNS, NUMBERS, agreement, comparison_table, download
from xai_panel.views.maps import MapSource, Results, placed, style_of
from xai_panel.views.palettes import GRAY, SIGNS, method_style, palette
from xai_panel.views.picture import Extent, compact, crop, extent_of
from xai_panel.views.radiograph_plots import JS, script
from xai_panel.views.session import Session
from xai_panel.views.theme import cursor_span
from xai_panel.views.widgets import VERDICT_CSS, css, empty_verdict_html, html_pane, readout, verdict_html

HINT = "Point at a map: all maps show their value there."
SHARP = 640  # px, largest side of the radiograph under the maps
NARROWEST = 300  # px, of a map in the grid


@dataclass(frozen=True)
class Column:
    """One classifier's share of the comparison: the maps it has, and those that are on their way.

    results: method id → explanation with that one map; planned: ids in the order of the grid; status: id → what is
    being done, for maps that are not there yet.
    """

    model: str
    title: str
    results: Results = field(default_factory=dict)
    planned: tuple[str, ...] = ()
    status: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One place in the grid: a method's map for one of the classifiers. `key` is unique on the page."""

    key: str
    source: int
    id: str
    title: str


class ComparisonState(param.Parameterized):
    """What is compared. No user interface."""

    signal = param.ClassSelector(class_=xr.DataArray, default=None, doc="The signal, None: only what the maps lie on.")
    columns = param.List(default=[], item_type=Column, doc="One or two classifiers with their maps.")

    @property
    def cells(self) -> list[Cell]:
        """The grid in reading order: methods, and for each the classifiers."""
        several = len(self.columns) > 1
        ids = list(dict.fromkeys(id for column in self.columns for id in (*column.planned, *column.results)))
        cells = []
        for id in ids:
            for source, column in enumerate(self.columns):
                if id in column.results or id in column.planned:
                    title = method_title(id, column.results)
                    cells.append(Cell(f"{source}:{id}", source, id, f"{title} · {column.title}" if several else title))
        return cells

    @property
    def explanations(self) -> list[xr.Dataset]:
        """One explanation per classifier that has any map, methods in the order of the grid."""
        from xai_panel.explanation.schema import merge

        return [
            merge([column.results[id] for id in (*column.planned, *column.results) if id in column.results])
            for column in self.columns
            if column.results
        ]

    @property
    def axes(self) -> Axes | None:
        """Axes of the maps; before the first is there, those of the radiograph; None when nothing is known yet."""
        for column in self.columns:
            for explanation in column.results.values():
                return axes_of(explanation)
        if self.signal is not None and "x" in self.signal.dims:
            return Axes("radiograph", extent_of(self.signal), str(self.signal["x"].attrs.get("units", "px")))
        return None


class LineList(JSComponent):
    """Legend of the profiles with a check box per line. `hidden`: keys of the lines that are not shown.

    Its name must not end in «Legend»: panel-material-ui would theme it as Bokeh's own and fail.
    """

    entries = param.List(default=[], doc="[{key, title, color, dash, width}].")
    hidden = param.List(default=[])
    heading = param.String(default="Profiles that are shown")

    _esm = JS / "line_list.js"
    _stylesheets: ClassVar[list[str]] = [css("inputs"), css("line_list")]


class Comparison(pn.viewable.Viewer):
    """Maps of one or two classifiers side by side.

    Parameters
    ----------
    explanations: one explanation per classifier
    session: follow what a person does on a page instead; the page then shows `readout`, where the cursor writes to
    second: the session of the second classifier; the page shows its choice, `drawer`
    """

    def __init__(
        self, *explanations: xr.Dataset, session: Session | None = None, second: Session | None = None
    ) -> None:
        super().__init__()
        self.state = ComparisonState(columns=[column_of(explanation) for explanation in explanations])
        self.readout = readout()
        self.drawer: list[pn.viewable.Viewable] = []
        self._above: list[pn.viewable.Viewable] = []
        self._session, self._second = session, second
        self._cells: list[Cell] = []
        self._axes: Axes | None = None
        self._plots: dict[str, MapPlot] = {}
        self._panes: dict[str, pn.pane.Bokeh] = {}
        self._sources = (MapSource(image_of), MapSource(image_of))
        self._sums = (MapSource(profile_of), MapSource(profile_of))
        self._models()
        self._controls()
        self._tables()
        self._connect()
        self._watch()
        self._show()

    # building ------------------------------------------------------------------------------------------------------

    def _models(self) -> None:
        self._picture = ColumnDataSource(data={**placed(Extent(0, 0, 1, 1)), "image": [np.zeros((1, 1), np.uint8)]})
        self._gray = LinearColorMapper(palette=GRAY, low=0.0, high=1.0)
        self._whole = ColumnDataSource(data=placed(Extent(0, 0, 1, 1)))
        self._point = ColumnDataSource(data={"x": [None], "y": [None], "key": [""]}, syncable=False)
        self._panels = ColumnDataSource(data=panel_columns([], []))
        self._options = ColumnDataSource(
            data={"range": ["Own range"], "sign": ["both"], "opacity": [0.6], "hidden": [[]]}, syncable=False
        )
        lines = ("xs", "ys", "color", "dash", "width")
        self._profiles = [ColumnDataSource(data={name: [] for name in lines}, syncable=False) for _ in range(2)]
        self._across, self._down = cursor_span("width"), cursor_span("height")
        self._cells_of_matrix = ColumnDataSource(data={name: [] for name in ("row", "column", "value", "text", "ink")})

    def _controls(self) -> None:
        self.range = pmui.RadioButtonGroup(
            label="", options=["Own range", "Common range"], value="Own range", size="small", sx=_ONE_LINE
        )
        self.sign = pmui.RadioButtonGroup(
            label="",
            options=list(SIGNS),
            value="both",
            size="small",
            sx=_ONE_LINE,
        )
        self.opacity = pmui.FloatSlider(label="Opacity", value=0.6, start=0, end=1, step=0.05, size="small", width=170)
        self.save = [
            pmui.FileDownload(
                callback=lambda kind=kind: download(self.state.explanations, kind),
                filename=f"explanation.{suffix}",
                label=kind,
                disabled=True,
                size="small",
                variant="outlined",
                margin=(5, 3),
            )
            for kind, suffix in (("NetCDF", "nc"), ("CSV", "csv"), ("PNG", "png"))
        ]
        self.legend = LineList(sizing_mode="stretch_width")
        self.controls = pn.FlexBox(
            self.range,
            self.sign,
            self.opacity,
            pn.Row(*self.save, margin=0),
            align_items="center",
            gap="4px 14px",
            sizing_mode="stretch_width",
        )
        self.grid = pn.Column(sizing_mode="stretch_width", margin=0)
        self.profiles = pn.Row(sizing_mode="stretch_width", margin=0)

    def _tables(self) -> None:
        self.table = pn.widgets.Tabulator(
            comparison_table([]),
            disabled=True,
            show_index=False,
            sizing_mode="stretch_width",
            layout="fit_columns",
            titles=COLUMNS,
            widths={"family": 105, "seconds": 90, "evaluations": 115, "error": 95, "error_kind": 145, "agreement": 112},
            text_align={name: "right" for name in NUMBERS},
            formatters={
                "seconds": NumberFormatter(format="0.00"),
                "error": ScientificFormatter(precision=2, power_limit_low=-3, power_limit_high=4, nan_format="–"),
                "agreement": NumberFormatter(format="0.00", nan_format="–"),
            },
            stylesheets=[".tabulator, .tabulator-cell, .tabulator-col-title { font-size: 13px !important; }"],
        )
        self._factors = FactorRange(factors=[""]), FactorRange(factors=[""])
        self.matrix = create_agreement_plot(self._cells_of_matrix, *self._factors)
        self._matrix = pn.pane.Bokeh(self.matrix, sizing_mode="stretch_width", height=300, margin=0)

    def _connect(self) -> None:
        """Everything that the browser does without asking; models of the maps are filled in by `_build_grid`."""
        signs = {sign: palette(signed=True, transparent=True, sign=sign) for sign in SIGNS}
        palettes = {"signed": signs, "unsigned": {"both": palette(signed=False, transparent=True)}}
        shared = {"panels": self._panels, "options": self._options, "point": self._point}
        self._draw = script(
            "compare_draw", **shared, figures={}, mappers={}, glyphs={}, titles={}, bars={}, palettes=palettes
        )
        self._follow = script(
            "compare_follow",
            **shared,
            across=self._across,
            down=self._down,
            sources=[source.maps for source in self._sources],
            sums=[source.maps for source in self._sums],
            labels={},
            profiles=self._profiles,
            kind="radiograph",
            readout=self.readout,
            axes={"hint": "", "units": "px"},
        )
        self._panels.js_on_change("data", self._draw)
        self._options.js_on_change("data", self._draw)
        self._point.js_on_change("data", self._follow)
        for widget, column, value in (
            (self.range, "range", "value"),
            (self.sign, "sign", "value"),
            (self.opacity, "opacity", "value"),
            (self.legend, "hidden", "hidden"),
        ):
            widget.jscallback(
                args={"options": self._options, "column": column},
                **{value: f"options.data = {{...options.data, [column]: [source.{value}]}}"},
            )

    def _watch(self) -> None:
        self.state.param.watch(lambda *_: self._show(), ["columns", "signal"])
        session = self._session
        if session is None:
            return
        names = ["signal", "results", "methods", "state", "message", "available", "model_id"]
        session.param.watch(lambda *_: self._collect(), names)
        if self._second is not None:
            second = SecondClassifier(session, self._second)
            self.drawer = [second.choice]
            self._above = [second.verdict]
            self._second.param.watch(lambda *_: self._collect(), names)
        self._collect()

    def _collect(self) -> None:
        """Take what the sessions have."""
        first, second = self._session, self._second
        assert first is not None
        columns = [session_column(first)] if first.signal is not None else []
        if second is not None and second.signal is not None and second.signal is first.signal:
            columns.append(session_column(second))
        with param.parameterized.batch_call_watchers(self.state):
            self.state.param.update(signal=first.signal, columns=columns)

    # showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        # In one message: Panel sends changes of its own at once and those of Bokeh models later, in the wrong order.
        with pn.io.hold(policy="collect"):
            self._show_all()

    def _show_all(self) -> None:
        state = self.state
        axes, cells = state.axes, state.cells
        for *sources, column in zip(self._sources, self._sums, (*state.columns, Column("", "")), strict=False):
            extent = next((axes_of(one).extent for one in column.results.values()), axes.extent if axes else None)
            for source in sources:
                source.update(column.results, extent or Extent(0, 0, 1, 1), column.planned)
        rebuilt = False
        if axes is not None and (cells != self._cells or axes != self._axes):
            if self._axes is None or axes != self._axes:
                self._show_axes(axes)
            self._show_picture(axes)
            self._build_grid(cells, axes)
            rebuilt = True
        elif axes is None:
            self.grid.objects, self.profiles.objects, self._cells, self._axes = [], [], [], None
        self._panels.data = panel_columns(self._cells, state.columns)
        self._show_tables()
        if rebuilt:
            self._point.data = {"x": [None], "y": [None], "key": [""]}

    def _show_axes(self, axes: Axes) -> None:
        """New ranges, and the plots of the profiles on them."""
        self._axes = axes
        self._plots, self._panes = {}, {}
        self._ranges = create_ranges(axes)
        self._whole = ColumnDataSource(data=placed(axes.extent))
        x, y = self._ranges
        if axes.kind == "audio":
            figures = [
                create_profile_plot(
                    self._profiles[0],
                    x,
                    title="Time profiles: sum over frequency",
                    label="Time [s]",
                    name="profile-time",
                )
            ]
        else:
            along_y = Range1d(start=axes.extent.top, end=axes.extent.bottom, syncable=False)
            for end, start in (("start", "end"), ("end", "start")):
                y.js_on_change(end, CustomJS(args={"y": along_y}, code=f"y.{start} = cb_obj.{end}"))
            figures = [
                create_profile_plot(
                    self._profiles[0], x, title="Row through the cursor", label=f"x [{axes.units}]", name="profile-x"
                ),
                create_profile_plot(
                    self._profiles[1],
                    along_y,
                    title="Column through the cursor",
                    label=f"y [{axes.units}]",
                    name="profile-y",
                ),
            ]
        for fig, gives in zip(figures, ("x", "y"), strict=False):
            span = self._down if gives == "x" else cursor_span("height")
            if gives == "y":  # the column is drawn lying: its cursor is a vertical line at y
                self._point.js_on_change(
                    "data",
                    CustomJS(
                        args={"span": span, "point": self._point},
                        code="const [y] = point.data.y; span.setv({location: y ?? 0, visible: y != null})",
                    ),
                )
            fig.add_layout(span)
            which = {"x": "x" if gives == "x" else "", "y": "x" if gives == "y" else ""}
            fig.js_on_event(MouseMove, script("compare_point", point=self._point, key="", **which))
        self.profiles.objects = [pn.pane.Bokeh(fig, sizing_mode="stretch_width", margin=0) for fig in figures]

    def _show_picture(self, axes: Axes) -> None:
        """What lies under all maps: the radiograph as sharp as the grid can show it, or the features."""
        state = self.state
        if state.signal is not None and axes.kind == "radiograph":
            from xai_panel.signals.radiograph import display_window

            cut = crop(state.signal.values, extent_of(state.signal), size=SHARP)
            low, high = display_window(state.signal)
            self._picture.data = {**placed(cut.extent), "image": [compact(gray(cut.values), False)]}
        else:
            features = next(one["input"] for column in state.columns for one in column.results.values())
            image = audio_rows(features) if axes.kind == "audio" else gray(features.values)
            low, high = float(np.nanmin(image)), float(np.nanmax(image))
            self._picture.data = {**placed(axes.extent), "image": [image]}
        self._gray.update(low=low, high=high if high > low else low + 1.0)

    def _build_grid(self, cells: list[Cell], axes: Axes) -> None:
        """Figures for cells that have none; those that are there already stay as they are."""
        for cell in cells:
            if cell.key not in self._plots:
                self._plots[cell.key] = self._new_plot(cell, axes)
        self._cells = cells
        plots = self._plots = {cell.key: self._plots[cell.key] for cell in cells}
        self._draw.args = {
            **self._draw.args,
            "figures": {key: plot.figure for key, plot in plots.items()},
            "mappers": {key: plot.mapper for key, plot in plots.items()},
            "glyphs": {key: plot.renderer.glyph for key, plot in plots.items()},
            "titles": {key: plot.title for key, plot in plots.items()},
            "bars": {key: plot.bar for key, plot in plots.items()},
        }
        self._follow.args = {
            **self._follow.args,
            "labels": {key: plot.label for key, plot in plots.items()},
            "kind": axes.kind,
            "axes": {"hint": HINT, "units": axes.units},
        }
        panes = [
            pn.pane.Bokeh(plot.figure, sizing_mode="stretch_width", margin=0)
            if (pane := self._panes.get(key)) is None
            else pane
            for key, plot in plots.items()
        ]
        self._panes = dict(zip(plots, panes, strict=True))
        several = len(self.state.columns) > 1
        as_grid(self.grid, NARROWEST * len(self.state.columns))
        self.grid.objects = self._pairs(cells, CELL[axes.kind]) if several else list(self._panes.values())

    def _pairs(self, cells: list[Cell], height: int) -> list[pn.Row]:
        """The maps of two classifiers by the same method stay side by side."""
        rows = []
        for id in dict.fromkeys(cell.id for cell in cells):
            pair = [self._panes.get(f"{source}:{id}") for source in range(2)]
            empty = [pn.Spacer(sizing_mode="stretch_width") if pane is None else pane for pane in pair]
            rows.append(pn.Row(*empty, sizing_mode="stretch_width", height=height, margin=0))
        return rows

    def _new_plot(self, cell: Cell, axes: Axes) -> MapPlot:
        plot = create_map_plot(
            cell.id,
            self._sources[cell.source].maps,
            self._picture,
            self._gray,
            self._ranges,
            axes,
            title=cell.title,
            name=f"map {cell.key}",
        )
        fig = plot.figure
        fig.add_layout(self._across)
        fig.add_layout(self._down)
        fig.js_on_event(MouseMove, script("compare_point", point=self._point, key=cell.key, x="x", y="y"))
        fig.js_on_change("inner_width", self._draw)  # for the maps that are there when it is laid out first
        if axes.kind == "radiograph":
            fit = script("radiograph_fit", fig=fig, whole=self._whole)
            fig.js_on_change("inner_width", fit)
            fig.js_on_change("inner_height", fit)
            fig.js_on_event(Reset, fit)
        return plot

    def _show_tables(self) -> None:
        explanations = self.state.explanations
        titles = {column.model: column.title for column in self.state.columns}
        self.table.value = comparison_table(explanations, titles)
        self.table.hidden_columns = [] if len(explanations) > 1 else ["model"]
        for button in self.save:
            button.disabled = not explanations
        names = {cell.key: cell.title for cell in self._cells}
        matrix, keys = agreement([column.results for column in self.state.columns])
        cells, rows, numbers = agreement_cells(matrix, [names[key] for key in keys])
        if keys:
            self._factors[0].factors, self._factors[1].factors = numbers, rows[::-1]
            self._matrix.height = 80 + 30 * len(keys)
            self._cells_of_matrix.data = cells
        self.legend.entries = [
            {"key": cell.key, "title": cell.title, "color": color, "dash": dash, "width": line_width(cell.source)}
            for cell in self._cells
            if cell.id in self.state.columns[cell.source].results
            for color, dash in [method_style(cell.id)]
        ]

    def __panel__(self) -> pn.viewable.Viewable:
        bottom = pn.Column(self.table, self._matrix, sizing_mode="stretch_width", margin=0)
        as_grid(bottom, 640)
        # While the maps scroll, their profiles stay in sight at the lower edge.
        lines = pn.Column(self.legend, self.profiles, sizing_mode="stretch_width", margin=0, styles=_STICKY)
        parts = [*self._above, self.controls, self.grid, lines, bottom]
        if self._session is None:
            parts.append(pn.pane.Bokeh(self.readout, sizing_mode="stretch_width"))
        return pn.Column(*parts, sizing_mode="stretch_width", margin=(0, 8))


class SecondClassifier:
    """Keeps a second session on the signal, methods and class of the first, for the classifier that a person adds.

    `choice` is the control of it, `verdict` shows what it says.
    """

    def __init__(self, first: Session, second: Session) -> None:
        self.first, self.second = first, second
        self._select = pmui.Select(label="Second classifier", options={"None": ""}, value="", size="small", **_WIDE)
        self.choice = pn.Column(self._select, sizing_mode="stretch_width", margin=(0, 16, 4, 16))
        self.verdict = html_pane("", VERDICT_CSS, visible=False)
        self.verdict.margin = (0, 4, 4, 4)
        self._select.param.watch(lambda *_: self._open(), "value")
        first.param.watch(lambda *_: self._offer(), ["model_id", "signal"])
        first.param.watch(lambda *_: self._open(), "signal")
        first.param.watch(lambda event: setattr(second, "methods", list(event.new)), "methods")
        first.param.watch(self._state, "state")
        first.param.watch(lambda event: second.set_target(event.new), "target")
        second.param.watch(lambda *_: self._draw_verdict(), ["signal", "prediction", "model_problem", "state"])
        second.param.watch(lambda event: setattr(first, "notice", event.new), "notice")
        second.methods = list(first.methods)
        self._offer()

    def _offer(self) -> None:
        """Classifiers of the same kind of signal, apart from the first."""
        card = self.first.card
        others = [c for c in self.first.cards if card and c.modality == card.modality and c.id != card.id]
        self._select.options = {"None": "", **{c.title: c.id for c in others}}
        if self._select.value not in self._select.options.values():
            self._select.value = ""
        self._select.disabled = not others

    def _open(self) -> None:
        first, second = self.first, self.second
        if not self._select.value:
            second.stop()
            second.param.update(signal=None, results={})
        elif first.signal is not None:
            if second.model_id != self._select.value:
                second.set_model(self._select.value)
            second.open_signal(first.signal, first.signal_name)

    def _draw_verdict(self) -> None:
        session, card = self.second, self.second.card
        self.verdict.visible = session.signal is not None and card is not None
        if not self.verdict.visible:
            return
        prediction = session.prediction
        if prediction is None:
            waiting = "no verdict" if session.state in ("failed", "stopped") else "asking the classifier…"
            self.verdict.object = empty_verdict_html(f"{card.title}: {session.model_problem or waiting}")
            return
        self.verdict.object = verdict_html(prediction, card, card.title)

    def _state(self, event: Any) -> None:
        if event.new == "queued":
            self.second.explain()
        elif event.new == "stopped":
            self.second.stop()


_STICKY = {
    "position": "sticky",
    "bottom": "0",
    "z-index": "2",
    "background": "var(--panel-surface-color)",
    "border-top": "1px solid var(--divider-color, #8883)",
}
_ONE_LINE = {"& .MuiToggleButton-root": {"whiteSpace": "nowrap"}}
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (4, 0)}


def gray(pixels: np.ndarray) -> np.ndarray:
    """Pixels (y, x), of colors (y, x, channel) the luminance: the colors on this page are those of the maps."""
    from xai_panel.signals.image import luminance

    return luminance(pixels) if pixels.ndim == 3 else pixels


def as_grid(column: pn.Column, least: int) -> None:
    """Lay a column's items out in as many columns of equal width, at least `least` px, as there is room for."""
    column.styles = {
        "display": "grid",
        "grid-template-columns": f"repeat(auto-fill, minmax(min(100%, {least}px), 1fr))",
        "gap": "4px",
    }
    column.stylesheets = [".scroll-button { display: none !important; }"]  # Panel's button would take a place


def line_width(source: int) -> float:
    """Width [px] of the profile of the first (0) and the second (1) classifier."""
    return (2.25, 1.0)[source]


def method_title(id: str, results: Results) -> str:
    """Title of a method: as its map says, else as the registry says."""
    if id in results:
        return str(results[id]["title"].item())
    from xai_panel.methods import get

    return str(get(id).title)


def column_of(explanation: xr.Dataset) -> Column:
    """An explanation as a column of the comparison."""
    ids = [str(id) for id in explanation["method"].values]
    model = str(explanation.attrs["model"])
    return Column(model, model, {id: explanation.sel({"method": [id]}) for id in ids}, tuple(ids))


def session_column(session: Session) -> Column:
    """What a session has, and what it is working on."""
    working = session.state in ("queued", "running")
    wanted = [id for id in session.methods if session.available.get(id) is True]
    planned = tuple(id for id in wanted if working or id in session.results)
    status = {}
    for id in planned:
        if id not in session.results:
            title = method_title(id, {})
            doing = session.message.removeprefix(title)
            mine = session.message.startswith(title) and doing[:1] in ("", ":", ",")
            status[id] = (doing.lstrip(":, ") or "…") if mine else "waiting"
    card = session.card
    return Column(session.model_id, card.title if card else session.model_id, session.results, planned, status)


def panel_columns(cells: Iterable[Cell], columns: list[Column]) -> dict[str, list[Any]]:
    """One row per cell: what JavaScript draws it with; `text` is its title, and how far it is.

    It is drawn from here, and not by setting properties of the figures, because Panel may send these changes before the
    figures that they belong to.
    """
    names = (
        "key",
        "source",
        "id",
        "title",
        "text",
        "units",
        "signed",
        "low",
        "high",
        "color",
        "dash",
        "width",
        "ready",
    )
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for cell in cells:
        one = columns[cell.source].results.get(cell.id)
        status = columns[cell.source].status.get(cell.id)
        color, dash = method_style(cell.id)
        drawn = ("", True, -1.0, 1.0)
        if one is not None:
            style = style_of(one)
            drawn = (style.units, style.signed, style.low, style.high)
        values = (
            cell.key,
            cell.source,
            cell.id,
            cell.title,
            f"{cell.title}: {status}" if status and one is None else cell.title,
            *drawn,
            color,
            dash,
            line_width(cell.source),
            one is not None,
        )
        for name, value in zip(names, values, strict=True):
            rows[name].append(value)
    return rows
