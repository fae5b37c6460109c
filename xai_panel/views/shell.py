"""The bones that all pages share: drawer, verdict, alerts, status line, links between the pages, light and dark.

A page is three lines (see `apps/audio.py`): a session, a view of it, and the shell around both::

    session = new_session("audio")
    view = SpectrogramExplorer(session)
    Shell(session, view, page="audio").page.servable()

The view is any Panel viewable; if it has an attribute `readout` (a Bokeh `Div`, see `widgets.readout`) the shell shows
it in the status line, and an attribute `drawer` (a list of viewables) is added to the drawer.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
import panel_material_ui as pmui
from bokeh.document import Document
from panel.io import document as panel_document
from tornado.ioloop import IOLoop, PeriodicCallback

from xai_panel.signals.limits import LIMITS
from xai_panel.signals.source import IMAGE, NOUNS
from xai_panel.views.session import Notice, Session
from xai_panel.views.theme import HEADER, NARROW, SIDEBAR, THEME_CONFIG
from xai_panel.views.widgets import (
    CARD_CSS,
    VERDICT_CSS,
    MethodPicker,
    SampleCards,
    Viewport,
    card_html,
    css,
    empty_verdict_html,
    html_pane,
    method_groups,
    verdict_html,
)

PAGES = {"audio": "Audio", "xray": "X-ray", "images": "Images", "compare": "Compare"}
ACCEPTED = {
    "audio": "WAV, FLAC, OGG, MP3 · 0.1 s to 2 h",
    "radiograph": "PNG, JPEG, DICOM · up to 100 megapixels",
    "image": "PNG, JPEG, TIFF, WebP · up to 100 megapixels",
}
INVITATION = {
    "audio": "Pick a sample or upload a recording: the detector says whether it takes the voice for real or synthetic, "
    "and the maps show when and at which frequencies it found its evidence.",
    "radiograph": "Pick a sample or upload a chest radiograph: the classifier gives its verdict, and the maps show "
    "where in the image it found its evidence.",
    "image": "Pick the sample or upload an image: the classifier gives its verdict, and the maps show where in the "
    "image it found its evidence.",
    None: "Pick a sample or upload a recording or a chest radiograph, then compare what the methods say about it.",
}
NO_CLASSIFIER = (
    "There is no classifier of images yet. Describe yours in a card (modality = «image»; the README, «Yours too», says "
    "how), run «xai-panel models add card.toml» where this page is served, and load the page again."
)
# A view that waits for its signal is laid out behind the samples, at its own place and size: figures that are laid out
# only when the maps come cost most of a second then.
WAITING, SHOWN = {"visibility": "hidden", "opacity": "0"}, {"visibility": "visible", "opacity": "1"}
FORGOTTEN_MS = 200.0  # between two looks for messages that were not sent
PREDICTED = -1  # in the target's menu: whatever class is predicted
FOUND = "Found automatically"
FOOTNOTE = "Research and teaching only. Not a medical device, not forensic evidence."


def scheduler(doc: Document) -> Callable[[Callable[[], None]], Any]:
    """Runs a function on the document's event loop with its lock held; may be called from any thread.

    It leaves the caller's context behind: a callback that carries another session's context would set that session's
    models. All that it changes is sent to the browser together, which lays out the page once. The document is told on
    the event loop only: what a thread adds while the document holds its events back can be lost.
    """
    loop = IOLoop.current()

    def schedule(call: Callable[[], None]) -> None:
        def together() -> None:
            with pn.io.hold(doc, policy="collect"):
                call()

        loop.add_callback(contextvars.Context().run, doc.add_next_tick_callback, together)

    return schedule


def send_forgotten(doc: Document) -> None:
    """Send what Panel has forgotten: the page would show an old state until the next change.

    A message that finds the socket busy waits in `panel.io.document._WRITE_MSGS`; when an earlier message is through
    meanwhile, `_dispatch_msgs` takes the mark away by which the waiting one would have been sent.
    """
    if doc in panel_document._WRITE_MSGS and doc not in panel_document._WRITE_BLOCK:
        panel_document._WRITE_BLOCK[doc] = True
        panel_document._dispatch_write_task(doc, panel_document._dispatch_msgs, doc)


def new_session(modality: str | None, **options: Any) -> Session:
    """The `Session` of the document that is being served; it is closed when the browser session ends."""
    doc = pn.state.curdoc
    if doc is None:
        return Session(modality=modality, **options)
    session = Session(modality=modality, schedule=scheduler(doc), **options)
    postman = PeriodicCallback(partial(send_forgotten, doc), FORGOTTEN_MS)
    postman.start()

    def end(_context: Any) -> None:
        postman.stop()
        session.close()

    pn.state.on_session_destroyed(end)
    return session


def when_loaded(react: Callable[[Any], None]) -> Callable[[Any], None]:
    """A handler that waits until the page has been built.

    Panel drops what a handler changes between the moment in which the browser gets the page and the one in which it
    reports that it has drawn it (`panel.io.document._drain_unconnected_events`); a quick click would be half lost.
    """
    return lambda event: pn.state.onload(lambda: react(event))


class Shell:
    """Drawer, verdict, alerts and status line around a view. `page` is the panel-material-ui `Page` to serve."""

    def __init__(self, session: Session, view: Any, *, page: str) -> None:
        from xai_panel.methods import METHODS

        self.session = session
        self.view = view
        self._methods = list(METHODS.values())
        self._name = page
        self._parts = 0  # of the upload that is on its way
        self._build_drawer()
        self._build_main()
        self._build_page()
        self._watch()

    # the parts -----------------------------------------------------------------------------------------------------

    def _build_drawer(self) -> None:
        session = self.session
        self._samples = _samples(session)
        self.sample = pmui.Select(
            label="Sample",
            options={"None": "", **{s.title: s.id for s in self._samples}},
            value="",
            size="small",
            description="Generated by this project; each carries its known answer.",
            **_WIDE,
        )
        kinds = [session.modality] if session.modality else _modalities(session)
        noun = NOUNS[session.modality] if session.modality else "a file"
        self.upload = pmui.FileInput(
            label=f"Upload {noun}",
            uploaded_label=f"Upload {noun}",
            icon="upload_file",
            variant="outlined",
            max_file_size=LIMITS.file_bytes,
            **_WIDE,
        )
        bounds = [ACCEPTED[kind] for kind in kinds] + [f"up to {LIMITS.file_bytes // 2**20} MB"]
        limits = html_pane(f"<div>{' · '.join(bounds)}</div>", css("small"))
        self.model = pmui.Select(
            label="Classifier",
            options={card.title: card.id for card in session.cards},
            value=session.model_id or None,
            size="small",
            **_WIDE,
        )
        self.card = html_pane("", CARD_CSS)
        about = pmui.Details(self.card, title="About this classifier", collapsed=True, **_WIDE)
        self.target = pmui.Select(
            label="Explain the class",
            options={"The predicted class": PREDICTED},
            value=PREDICTED,
            size="small",
            **_WIDE,
        )
        self.layer = pmui.Select(
            label="Layer that class activation reads", options={FOUND: ""}, value="", size="small", **_WIDE
        )
        self.seed = pmui.IntInput(label="Seed of random draws", value=session.seed, start=0, size="small", **_WIDE)
        advanced = pmui.Details(
            pn.Column(self.layer, self.seed, sizing_mode="stretch_width"), title="Settings", collapsed=True, **_WIDE
        )
        self.picker = MethodPicker(
            groups=method_groups(self._methods, {}), value=list(session.methods), sizing_mode="stretch_width", margin=0
        )
        self.run = pmui.Button(label="Run", icon="play_arrow", variant="contained", **_WIDE)
        self.halt = pmui.Button(label="Stop", icon="stop", variant="outlined", disabled=True, **_WIDE)
        self.drawer = [
            _section("Signal", self.sample, self.upload, limits),
            _section("Classifier", self.model, about, self.target),
            *getattr(self.view, "drawer", []),
            _section(
                "Methods",
                self.picker,
                pn.Row(self.run, self.halt, sizing_mode="stretch_width", margin=(6, 0, 0, 0), styles={"gap": "8px"}),
                advanced,
            ),
            _section("", html_pane(f"<div>{FOOTNOTE}</div>", css("small"))),
        ]

    def _build_main(self) -> None:
        self.alert = pmui.Alert(
            title="",
            severity="error",
            closeable=True,
            visible=False,
            margin=(8, 12, 0, 12),
            sx={"py": 0, "alignItems": "center", "& p": {"my": "6px"}},
            **_STRETCH,
        )
        self.verdict = html_pane("", VERDICT_CSS)
        self.verdict.margin = (8, 12, 4, 12)
        self.start = SampleCards(
            when_loaded(self.session.open_sample),
            samples=[{"id": s.id, "title": s.title, "text": s.description} for s in self._samples],
            margin=0,
            styles={"position": "absolute", "inset": "0", "padding": "16px 24px", "box-sizing": "border-box"},
        )
        self.body = pn.Column(self.view, styles=WAITING, sizing_mode="stretch_both", margin=0)
        self.job = html_pane("", css("job"))
        self.job.param.update(sizing_mode="fixed", width=260, height=22, align="center")
        self.progress = pmui.LinearProgress(
            variant="determinate",
            value=0,
            visible=False,
            width=110,
            height=6,
            sizing_mode="fixed",
            margin=(0, 8),
            align="center",
        )
        self.status_stop = pmui.Button(
            label="Stop",
            icon="stop",
            size="small",
            variant="text",
            visible=False,
            margin=0,
            sizing_mode="fixed",
            width=84,
            height=30,
            align="center",
        )
        readout = getattr(self.view, "readout", None)
        self.status = pn.Row(
            pn.pane.Bokeh(readout, sizing_mode="stretch_width", margin=0, align="center")
            if readout is not None
            else pn.HSpacer(),
            self.job,
            self.progress,
            self.status_stop,
            sizing_mode="stretch_width",
            height=34,
            margin=(0, 12),
            styles={"border-top": "1px solid var(--divider-color, #8883)", "align-items": "center"},
        )

    def _build_page(self) -> None:
        self.nav = html_pane("", css("nav"))
        self.nav.param.update(sizing_mode="fixed", width=360, height=40, margin=(4, 0, 0, 20))
        self.viewport = Viewport(width=0, height=0, margin=0, sizing_mode="fixed")
        stage = pn.Column(self.body, self.start, sizing_mode="stretch_both", margin=0, styles={"position": "relative"})
        scroll = pn.Column(self.alert, self.verdict, stage, sizing_mode="stretch_both", scroll="y-auto", margin=0)
        self.page = pmui.Page(
            title="xai_panel",
            meta_title=f"{PAGES[self._name]} · xai_panel",
            site_url="./",
            header=[self.nav],
            sidebar=self.drawer,
            sidebar_width=SIDEBAR,
            main=[pn.Column(scroll, self.status, self.viewport, sizing_mode="stretch_both", margin=0)],
            theme_config={
                name: {**scheme, "breakpoints": {"values": {"xs": 0, "sm": NARROW, "md": 1000, "lg": 1280, "xl": 1536}}}
                for name, scheme in THEME_CONFIG.items()
            },
            busy_indicator=None,
            sx={"& .header": {"backgroundColor": HEADER, "color": "#ffffff"}},
        )
        self.viewport.param.watch(when_loaded(self._fit_drawer), "narrow")
        self.page.param.watch(when_loaded(lambda _event: self._draw_nav()), "dark_theme")
        self._draw_nav()

    # what follows what ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        session = self.session
        self.sample.param.watch(when_loaded(self._pick), "value")
        self.upload.param.watch(when_loaded(self._uploaded), "value")
        self.upload.on_msg(when_loaded(self._heard))
        self.model.param.watch(when_loaded(lambda event: session.set_model(event.new)), "value")
        self.target.param.watch(
            when_loaded(lambda event: session.set_target(None if event.new == PREDICTED else event.new)), "value"
        )
        self.layer.param.watch(when_loaded(lambda event: session.set_options(layer=event.new or None)), "value")
        self.seed.param.watch(when_loaded(lambda event: session.set_options(seed=event.new)), "value")
        self.picker.param.watch(when_loaded(lambda event: session.param.update(methods=list(event.new))), "value")
        self.run.on_click(when_loaded(lambda _event: session.explain()))
        self.halt.on_click(when_loaded(lambda _event: session.stop()))
        self.status_stop.on_click(when_loaded(lambda _event: session.stop()))
        session.param.watch(
            lambda *_: self._draw_verdict(),
            ["signal", "signal_name", "prediction", "opening", "model_problem", "state", "sample"],
        )
        session.param.watch(lambda *_: self._draw_notice(), "notice")
        session.param.watch(lambda *_: self._draw_methods(), ["available", "methods", "results", "state", "signal"])
        session.param.watch(lambda *_: self._draw_job(), ["state", "fraction", "message", "opening", "results"])
        session.param.watch(lambda *_: self._draw_model(), ["model_id", "prediction", "target"])
        session.param.watch(lambda *_: self._draw_sample(), "signal")
        session.param.watch(lambda *_: self._draw_layers(), "classifier")
        self._draw_verdict()
        self._draw_methods()
        self._draw_job()
        self._draw_model()
        pn.state.onload(self._open_linked)

    def _open_linked(self) -> None:
        """Open the sample that the address names: `audio?sample=speech`."""
        arguments = pn.state.session_args.get("sample", []) if pn.state.curdoc else []
        for id in (argument.decode() for argument in arguments[:1]):
            if any(sample.id == id for sample in self._samples):
                self.session.open_sample(id)
            else:
                known = ", ".join(sample.id for sample in self._samples)
                self.session.notice = Notice("warning", f"There is no sample «{id}» on this page; there are: {known}.")

    def _pick(self, event: Any) -> None:
        if event.new and (self.session.sample is None or self.session.sample.id != event.new):
            self.session.open_sample(event.new)

    def _uploaded(self, event: Any) -> None:
        if event.new:
            name, data = self.upload.filename, event.new
            self.upload.clear()  # the session keeps the signal; the bytes of the file are not kept
            self.session.open_upload(str(name), data)

    def _heard(self, event: Any) -> None:
        """An empty file has no part that could be sent, so the widget ends the upload without a value."""
        if event.data["status"] == "upload_event":
            self._parts += 1
        elif event.data["status"] == "finished":
            if self._parts == 0:
                self.session.open_upload("This file", b"")
            self._parts = 0

    def _fit_drawer(self, event: Any) -> None:
        self.page.sidebar_open = not event.new

    def _draw_sample(self) -> None:
        self.sample.value = self.session.sample.id if self.session.sample is not None else ""

    def _draw_nav(self) -> None:
        query = "?theme=dark" if self.page.dark_theme else ""
        links = (
            f'<a href="{name}{query}"' + (' aria-current="page"' if name == self._name else "") + f">{title}</a>"
            for name, title in _pages(self._name).items()
        )
        self.nav.object = f'<nav aria-label="Pages">{"".join(links)}</nav>'

    def _draw_verdict(self) -> None:
        session = self.session
        self.start.visible = session.signal is None and not session.opening
        self.body.styles = WAITING if session.signal is None else SHOWN
        prediction = session.prediction
        if prediction is not None and session.card is not None:
            self.verdict.object = verdict_html(
                prediction, session.card, session.signal_name, known_answer(session.sample)
            )
            return
        if session.opening and session.signal is None:
            text = "Reading the file…"
        elif session.signal is None:
            text = NO_CLASSIFIER if session.modality == IMAGE and not session.cards else INVITATION[session.modality]
        elif session.model_problem:
            text = f"No verdict: {session.model_problem}"
        elif session.state in ("failed", "stopped"):
            text = f"{session.signal_name}: no verdict. «Run» asks the classifier again."
        elif session.card is None:
            text = "No verdict: there is no classifier for this signal yet."
        else:
            text = f"{session.signal_name}: asking the classifier…"
        self.verdict.object = empty_verdict_html(text)

    def _draw_notice(self) -> None:
        notice = self.session.notice
        if notice is None:
            self.alert.visible = False
        else:
            self.alert.param.update(object=notice.text, severity=notice.kind, visible=True, closed=False)

    def _draw_methods(self) -> None:
        session = self.session
        groups = method_groups(self._methods, session.available)
        if groups != self.picker.groups:
            self.picker.groups = groups
        if self.picker.value != session.methods:
            self.picker.value = list(session.methods)
        missing = [id for id in session.methods if id not in session.results and session.available.get(id) is True]
        working = session.state in ("queued", "running")
        self.run.param.update(
            disabled=working
            or session.signal is None
            or session.model_problem != ""
            or (session.prediction is not None and not missing),
            label=f"Run ({len(missing)})" if missing else "Run",
        )
        self.halt.disabled = not working

    def _draw_job(self) -> None:
        session = self.session
        working = session.state in ("queued", "running")
        ready = f"{len(session.results)} map{'s' if len(session.results) != 1 else ''} ready"
        if session.opening:
            text = "Reading the file…"
        elif working:
            text = session.message
        else:
            text = {"done": ready, "stopped": "Stopped", "failed": "Failed"}.get(session.state, "")
        self.job.object = f"<div>{text}</div>"
        self.progress.param.update(visible=working, value=round(100 * session.fraction))
        self.status_stop.visible = working

    def _draw_layers(self) -> None:
        classifier = self.session.classifier
        layers = classifier.backend.layers() if classifier is not None else []
        self.layer.options = {FOUND: "", **{name: name for name in reversed(layers)}}

    def _draw_model(self) -> None:
        session = self.session
        card = session.card
        if card is None:
            self.card.object = "<p>There is no trained classifier for this page yet.</p>"
            return
        self.model.value = card.id
        found = "The most probable finding" if card.multi_label else "The predicted class"
        name = "" if session.prediction is None else f" ({session.prediction.label})"
        options = {found + name: PREDICTED}
        options |= {label: index for index, label in enumerate(card.labels)}
        if list(options.items()) != list(self.target.options.items()):
            self.target.options = options
        self.target.value = PREDICTED if session.target is None else session.target
        self.card.object = card_html(card)


def known_answer(sample: Any) -> str:
    """The known answer of a generated sample in one sentence, empty for an upload."""
    return "" if sample is None else str(sample.description)


_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (4, 0)}
_STRETCH: dict[str, Any] = {"sizing_mode": "stretch_width"}


def _modalities(session: Session) -> list[str]:
    """What the page offers to open: images only when somebody has added a classifier of images."""
    added = any(card.modality == IMAGE for card in session.cards)
    return [kind for kind in ACCEPTED if session.modality in (None, kind) and (kind != IMAGE or added)]


def _samples(session: Session) -> list[Any]:
    from xai_panel.signals.synthetic import samples

    return [sample for sample in samples() if sample.modality in _modalities(session)]


def _pages(current: str) -> dict[str, str]:
    """Name and title of the pages there is a link to: that of images when it can do something, or is this one."""
    from xai_panel.models.registry import models

    useful = current == "images" or any(card.modality == IMAGE for card in models())
    return {name: title for name, title in PAGES.items() if name != "images" or useful}


def _section(title: str, *items: Any) -> pn.Column:
    heading = [html_pane(f"<h2>{title}</h2>", css("heading"), min_height=14, margin=(0, 0, 8, 0))] if title else []
    return pn.Column(*heading, *items, sizing_mode="stretch_width", margin=(12, 16, 4, 16))
