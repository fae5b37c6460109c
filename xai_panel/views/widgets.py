"""Small components that the pages share: a few lines of JavaScript in `js/` each, themed by the page's CSS variables.

They are plain components with a value, so `jslink`/`jscallback` and `param.watch` work on them as on any widget.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import panel as pn
import param
from bokeh.models import Div
from panel.custom import JSComponent

from xai_panel.models.verdict import percent
from xai_panel.views.palettes import AWAY, TOWARD, method_style
from xai_panel.views.theme import NARROW

_HERE = Path(__file__).parent
_JS = _HERE / "js"


def css(name: str) -> str:
    """Text of a style sheet in `css/`."""
    return (_HERE / "css" / f"{name}.css").read_text(encoding="utf-8")


FAMILY_TITLES = {
    "gradient": "Gradients",
    "activation": "Class activation",
    "perturbation": "Perturbation",
    "consensus": "Consensus",
}
# How long a method takes, from its family: what a person needs to know before ticking a box.
COST_TITLES = {"gradient": "fast", "activation": "fast", "perturbation": "seconds", "consensus": "needs others"}
SLOW_GRADIENTS = {"smoothgrad": "≈ 2 s", "integrated-gradients": "≈ 2 s"}


class MethodPicker(JSComponent):
    """Check boxes of the methods grouped by family. `value`: ids of the ticked ones."""

    groups = param.List(default=[], doc="[{family, methods: [{id, title, cost, help, reason}]}].")
    value = param.List(default=[])

    _esm = _JS / "method_picker.js"
    _stylesheets: ClassVar[list[str]] = [css("inputs"), css("method_picker")]


class MapList(JSComponent):
    """Legend and choice of maps. `value`: id of the chosen one, empty before the first is ready."""

    entries = param.List(default=[], doc='[{id, title, color, dash, state: "ready"|"waiting", note, help}].')
    value = param.String(default="")
    heading = param.String(default="Map over the spectrogram")
    placeholder = param.String(default="No map yet")

    _esm = _JS / "map_list.js"
    _stylesheets: ClassVar[list[str]] = [css("inputs"), css("map_list")]


class SampleCards(JSComponent):
    """The generated samples as cards. `on_choose(id)` is called when one is clicked."""

    samples = param.List(default=[], doc="[{id, title, text}].")

    _esm = _JS / "sample_cards.js"
    _stylesheets: ClassVar[list[str]] = [css("sample_cards")]

    def __init__(self, on_choose: Callable[[str], None], **params: Any) -> None:
        super().__init__(**params)
        self._on_choose = on_choose

    def _handle_msg(self, msg: str) -> None:
        self._on_choose(msg)


class Viewport(JSComponent):
    """Invisible; `narrow` is true while the window is narrower than `below` px."""

    below = param.Integer(default=NARROW)
    narrow = param.Boolean(default=False)

    _esm = _JS / "viewport.js"


def readout() -> Div:
    """The element that cursor read-outs are written to, in the browser only: nothing of it goes to the server."""
    return Div(
        text="",
        syncable=False,
        sizing_mode="stretch_width",
        height=22,
        margin=0,
        stylesheets=[css("readout")],
    )


def method_groups(methods: list[Any], available: dict[str, Any]) -> list[dict[str, Any]]:
    """`MethodPicker.groups` of a list of `Method`; `available` maps id → True or the reason why not."""
    groups: dict[str, list[dict[str, str]]] = {}
    for method in methods:
        verdict = available.get(method.id, True)
        groups.setdefault(method.family, []).append(
            {
                "id": method.id,
                "title": method.title,
                "cost": SLOW_GRADIENTS.get(method.id, COST_TITLES.get(method.family, "")),
                "help": method_help(method),
                "reason": "" if verdict is True else str(verdict),
            }
        )
    return [{"family": FAMILY_TITLES.get(family, family), "methods": rows} for family, rows in groups.items()]


def method_help(method: Any) -> str:
    """Tooltip of a method: what it shows, what it cannot show, where it comes from."""
    return f"{method.summary}\nCannot show: {method.cannot}\n{method.cite}"


def map_entries(methods: list[Any], chosen: list[str], results: dict[str, Any], *, busy: bool) -> list[dict[str, Any]]:
    """`MapList.entries`: the maps that are ready and, while a job runs, those that are still to come."""
    entries = []
    for method in methods:
        ready = method.id in results
        if not ready and not (busy and method.id in chosen):
            continue
        color, dash = method_style(method.id)
        entries.append(
            {
                "id": method.id,
                "title": method.title,
                "color": color,
                "dash": dash,
                "state": "ready" if ready else "waiting",
                "note": "" if ready else "…",
                "help": method_help(method),
            }
        )
    return entries


VERDICT_CSS = css("verdict")
SHOWN_FINDINGS = 4  # of those that may be present together, the most probable ones


def verdict_html(prediction: Any, card: Any, name: str, truth: str = "") -> str:
    """The verdict card: what is there, calibrated probability with a bar, caveat, known answer. All text is escaped.

    Where several findings may be present, the most probable ones each have their probability. The color is that of
    evidence for what is looked for (vermilion) or against (blue).
    """
    verdict = prediction.verdict
    if verdict.multi_label:
        chances, finding = dict(list(verdict.probabilities.items())[:SHOWN_FINDINGS]), bool(verdict.found)
    else:
        (probability,) = verdict.found.values()
        chances = {"calibrated probability": probability}
        finding = prediction.index == card.positive
    rows = [
        f'<div class="chance"><b>{html.escape(percent(probability))}</b><span class="bar" aria-hidden="true">'
        f'<i style="width:{100 * probability:.1f}%"></i></span><span>{html.escape(text)}</span></div>'
        for text, probability in chances.items()
    ]
    if verdict.multi_label:
        rows.append('<div class="caveat">Calibrated probability of each finding.</div>')
    if caveat := card.caveat or card.summary:
        rows.append(f'<div class="caveat">{html.escape(caveat)}</div>')
    if truth:
        rows.append(f'<div class="truth"><b>Known answer:</b> {html.escape(truth)}</div>')
    return (
        f'<div class="verdict" role="status" style="--tone:{TOWARD if finding else AWAY}">'
        f'<div><div class="label">{html.escape(verdict.headline)}</div>'
        f'<div class="name">{html.escape(name)}</div></div>'
        f"<div>{''.join(rows)}</div></div>"
    )


def empty_verdict_html(text: str) -> str:
    """The verdict card before there is a verdict: what to do, or what is going on."""
    return f'<div class="verdict none" role="status"><div>{html.escape(text)}</div></div>'


CARD_CSS = css("card")


def card_html(card: Any) -> str:
    """What a model card says, for people. All text is escaped."""

    def items(title: str, texts: Any) -> str:
        rows = "".join(f"<li>{html.escape(str(text))}</li>" for text in texts)
        return f"<h4>{title}</h4><ul>{rows}</ul>" if rows else ""

    metrics = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in _flat(card.metrics))
    return (
        f"<p>{html.escape(card.summary)}</p>"
        + (f"<h4>Measured</h4><table>{metrics}</table>" if metrics else "")
        + items("Limitations", card.limitations)
        + items("Not for", card.not_for)
        + (f"<h4>License</h4><p>{html.escape(card.license)}</p>" if card.license else "")
    )


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix} · {key}" if prefix else str(key)
        if isinstance(value, dict):
            rows += _flat(value, name)
        elif isinstance(value, float):
            rows.append((name.replace("_", " "), f"{value:.3g}"))
        elif isinstance(value, int | str):
            rows.append((name.replace("_", " "), str(value)))
    return rows


def html_pane(text: str, css: str, **params: Any) -> pn.pane.HTML:
    """An HTML pane with its style sheet; set `.object` to change it."""
    return pn.pane.HTML(text, **{"stylesheets": [css], "sizing_mode": "stretch_width", "margin": 0, **params})
