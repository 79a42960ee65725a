"""What a server allows. Every limit has a name, a unit and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Settings of one server.

    Attributes:
        token: clients must send it; None lets everyone in.
        hosts: names, in lower case and without a port, under which the server may be asked, besides ``localhost`` and
            addresses; see `grepq_iqa.server.security`.
        folder: its photographs are listed on the page; None lists none.
        table: where ratings are kept.
        max_picture: bytes of one picture. Camera files of 60 megapixels stay below.
        max_request: bytes of one request with several pictures.
        max_files: pictures in one request.
        max_buffered: bytes of all bodies that are held at a time; more are asked to come again.
        queue: pictures that wait or are worked on; more are asked to come again.
        batch_requests: whether small pictures of different requests share a forward pass, which is faster and moves the
            last digits a little with what else is under way.
        max_stored: bytes of dropped photographs that the page's session keeps in a temporary folder.
        max_photos: photographs in the page's session.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    folder: Path | None = None
    table: Path = Path("grepq-labels.csv")
    max_picture: int = 64 * MIB
    max_request: int = 256 * MIB
    max_files: int = 64
    max_buffered: int = 256 * MIB
    queue: int = 64
    batch_requests: bool = False
    max_stored: int = 4096 * MIB
    max_photos: int = 20_000


HEADER_SECONDS = 10.0
"""A request's head must be there this long after its first byte, or after the connection was made."""
IDLE_SECONDS = 15.0
"""A connection may be idle between two requests, or a body pause, for this long."""
BODY_GRACE_SECONDS = 20.0
SLOWEST_BYTES_PER_SECOND = 16 << 10
"""A body must be there after the grace and a second for so many of its bytes: a trickle is not a client."""
WRITE_SECONDS = 30.0
"""A client that takes none of its answer for this long is let go."""
HEAD_BYTES = 16 << 10
"""Of a request's head, line and headers together."""
MAX_CONNECTIONS = 512
DRAIN_SECONDS = 20.0
"""What was accepted before a stop is answered within this; Kubernetes kills after 30."""
RETRY_AFTER_SECONDS = 1
LEAST_TOKEN = 16
"""Characters of a token, so that it cannot be found by trying."""
