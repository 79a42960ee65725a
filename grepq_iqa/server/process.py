"""The server as a process: its socket, its signals, and its end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from grepq_iqa.errors import UsageError
from grepq_iqa.server.protocol import protocol_options
from grepq_iqa.server.settings import DRAIN_SECONDS, HEAD_BYTES, IDLE_SECONDS

logger = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be used; the message says what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host}: {getattr(error, 'strerror', None) or error}") from error
    try:
        if os.name == "posix":  # a stopped server's port can be taken at once; Windows would let two have it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {reason}; give another --port, or 0 for any") from error
    listener.setblocking(False)
    return listener


class DrainingServer(uvicorn.Server):
    """Answers what it has accepted when it is told to stop, and then returns, whatever the signal was.

    Args:
        config: uvicorn's.
        on_stop: called at the first signal.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the serving, not the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {which: signal.signal(which, self.handle_exit) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second interrupt gives up at once."""
        self._on_stop()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, listener: socket.socket, close: Callable[[], bool]) -> None:
    """Serve until a signal comes and what was accepted is answered.

    Args:
        app: of `create_app`.
        listener: of `bind`.
        close: ends the threads; whether they did. If not, the process ends all the same.
    """
    config = uvicorn.Config(
        app,
        **protocol_options(),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=int(DRAIN_SECONDS),
        h11_max_incomplete_event_size=HEAD_BYTES,
    )

    def on_stop() -> None:
        app.state.service.draining = True

    DrainingServer(config, on_stop).run(sockets=[listener])
    if not close():
        logger.warning("a picture took too long; its answer is dropped")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)
