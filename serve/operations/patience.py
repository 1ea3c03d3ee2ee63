"""`Patience`: uvicorn's HTTP protocol, which also ends a connection that begins a request and never goes on.

uvicorn closes an idle connection and bounds nothing else: a client that sends half a header holds a socket for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0
"""From the first byte of a request, or the opening of a connection, to the end of its head."""


class Patience(HttpToolsProtocol):
    """Has little of it."""

    head_s = HEAD_S
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio; between two requests nothing is watched here but a head that has begun."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._watch()

    def on_headers_complete(self) -> None:
        """See httptools: the head is there."""
        self._unwatch()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._limit is None:
            self._limit = self.loop.call_later(self.head_s, self._give_up)

    def _unwatch(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._limit = None
        if not self.transport.is_closing():
            self.transport.close()
