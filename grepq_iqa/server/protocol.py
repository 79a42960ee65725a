"""uvicorn's HTTP/1.1 with the time-outs that it lacks: for a request's head, and for clients that do not read."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from grepq_iqa.server.settings import HEADER_SECONDS, MAX_CONNECTIONS, WRITE_SECONDS

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class TimedProtocol(H11Protocol):
    """A connection whose head must come, and whose answers must be taken, within a time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection; one too many is told so."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of it."""
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head or a body."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_is_awaited():
            self._await_head()
        else:
            self._cancel_head()

    def on_response_complete(self) -> None:
        """An answer was sent; a part of the next head may be there already."""
        super().on_response_complete()
        if not self.transport.is_closing() and self._head_is_awaited() and self.conn.trailing_data[0]:
            self._await_head()

    def pause_writing(self) -> None:
        """The client is behind with reading."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _head_is_awaited(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing() and self._head_is_awaited():
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _cancel_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_timers(self) -> None:
        self._cancel_head()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def protocol_options() -> dict[str, Any]:
    """For `uvicorn.Config`: neither websockets nor a parser without limits."""
    return {"http": TimedProtocol, "ws": "none"}
