"""What the routes of one server share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request

from grepq_iqa.server.answers import Refusal, busy
from grepq_iqa.server.bodies import Buffers
from grepq_iqa.server.metrics import Metrics
from grepq_iqa.server.scoring_queue import QueueFull, ScoringQueue
from grepq_iqa.server.settings import Settings

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ
    from grepq_iqa.server.labeling import Labeling
    from grepq_iqa.server.photos import PhotoStore

T = TypeVar("T")


@dataclass
class Service:
    """One model and everything around it.

    Attributes:
        draining: whether the server is about to stop and takes nothing new.
        fitting: one fit at a time.
        views: large pictures that are decoded to be looked at, besides those on their way to the model.
    """

    model: GRepQ
    settings: Settings
    metrics: Metrics
    queue: ScoringQueue
    buffers: Buffers
    photos: PhotoStore
    labeling: Labeling
    draining: bool = False
    fitting: asyncio.Lock = field(default_factory=asyncio.Lock)
    views: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    def require_room(self) -> None:
        """Refuse before a body is read.

        Raises:
            Refusal: the queue is full, or the server is about to stop.
        """
        if self.draining:
            raise Refusal(503, "the server is about to stop", "draining", {"Connection": "close", "Retry-After": "5"})
        try:
            self.queue.require_room()
        except QueueFull:
            raise busy() from None

    def close(self) -> bool:
        """End threads and forget what was dropped; whether all of them ended in time."""
        self.photos.close()
        return self.queue.close()


def service_of(request: Request) -> Service:
    """Of the server that got this request."""
    service: Service = request.app.state.service
    return service


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Await ``work`` of the model's queue, and drop it where the client, whose body is read, goes away.

    Raises:
        Refusal: the client has gone, or the queue is full.
    """

    async def goes_away() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(goes_away())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(400, "the client went away", "gone")
        return task.result()
    except QueueFull:
        raise busy() from None
    finally:
        task.cancel()
        gone.cancel()
