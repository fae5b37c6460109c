"""What the pages ask of the server beneath them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from bokeh.document import Document
from panel.io import document as panel_document

from xai_panel.views.shell import send_forgotten


class Socket:
    """Of a server that Panel does not know; Bokeh writes to it while `write_lock` is taken."""

    def __init__(self) -> None:
        self.write_lock = SimpleNamespace(_block=SimpleNamespace(_value=1))

    def busy(self, busy: bool) -> None:
        self.write_lock._block._value = 0 if busy else 1


class Connection:
    protocol = SimpleNamespace(create=lambda _kind, events: events)

    def __init__(self) -> None:
        self._socket = Socket()


def test_a_message_that_panel_forgets_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    async def scene() -> None:
        through = asyncio.Event()

        def send(_connection: Connection, msg: Any) -> list[asyncio.Future[bool]]:
            sent.append(msg)
            return [asyncio.ensure_future(through.wait())]

        monkeypatch.setitem(panel_document.extra_socket_handlers, Socket, send)
        doc, connection = Document(), Connection()
        panel_document.schedule_write_events(doc, [connection], ["first"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        connection._socket.busy(True)
        panel_document.schedule_write_events(doc, [connection], ["second"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        through.set()  # the first is through while the second waits for the lock
        await asyncio.sleep(0.002)
        connection._socket.busy(False)
        await asyncio.sleep(0.2)
        assert sent == [["first"]], "Panel sends it by itself: send_forgotten can go"
        send_forgotten(doc)
        await asyncio.sleep(0.05)
        assert doc not in panel_document._WRITE_MSGS

    asyncio.run(scene())
    assert sent == [["first"], ["second"]]


def test_nothing_is_sent_while_panel_is_about_to(monkeypatch: pytest.MonkeyPatch) -> None:
    doc, sent = Document(), []
    monkeypatch.setattr(panel_document, "_dispatch_write_task", lambda *args: sent.append(args))
    send_forgotten(doc)
    panel_document._WRITE_MSGS[doc] = {}
    panel_document._WRITE_BLOCK[doc] = True
    send_forgotten(doc)
    assert not sent
