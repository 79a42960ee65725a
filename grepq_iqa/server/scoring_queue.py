"""Pictures from many requests -> one model, in one thread, through a queue that is bounded and drains.

Decoding happens in a few threads ahead of the model. Pictures of one request go through the model as `grepq score`
takes the same files (`grepq_iqa.batch`), and those of different requests apart: a picture's last digits never depend on
who else is asking. With ``batch_requests`` small pictures of one size share a pass whoever sent them, which is up to
five times as fast at 96 pixels and moves scores by up to 6e-7 of their value.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from grepq_iqa.batch import READ_AHEAD, Result, Waiting, results_of, score_sources
from grepq_iqa.data.images import DecodedImage, ImageSource
from grepq_iqa.encoders.fine_detail import PreparedImage
from grepq_iqa.errors import GrepqError
from grepq_iqa.server.memory import return_freed_memory

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ
    from grepq_iqa.server.metrics import Metrics

_PASSES_BETWEEN_TRIMS = 32

T = TypeVar("T")
Finish = Callable[[Result], Any]
logger = logging.getLogger(__name__)


class QueueFull(Exception):
    """There is no room; the client should come again."""


@dataclass
class _Job:
    """One picture on its own, one request's pictures, or a call that needs the model; ``places`` in the queue."""

    answer: asyncio.Future[Any]
    places: int
    finish: Finish = lambda result: result
    waiting: Waiting | None = None
    stream: Generator[Result, None, None] | None = None
    rows: list[Any] = field(default_factory=list)
    call: Callable[[], Any] | None = None
    holds_pixels: bool = False


class ScoringQueue:
    """The only user of a model in a server.

    Args:
        model: loaded.
        capacity: pictures that wait or are worked on.
        batch_requests: see above.
        metrics: counts what happens.
    """

    def __init__(self, model: GRepQ, *, capacity: int, batch_requests: bool, metrics: Metrics) -> None:
        self.model, self.capacity, self.metrics = model, capacity, metrics
        self._batch_requests = batch_requests
        self._decoders = min(READ_AHEAD, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._decoders, thread_name_prefix="decode")
        self._ahead = threading.Semaphore(READ_AHEAD)  # decoded pictures that wait for the model
        self._changed = threading.Condition()
        self._ready: deque[_Job] = deque()  # decoded
        self._others: deque[_Job] = deque()  # streams and calls, one at a time
        self._occupied, self._closing = 0, False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def occupied(self) -> int:
        """Pictures that wait or are worked on."""
        return self._occupied

    @property
    def alive(self) -> bool:
        """Whether answers can be expected."""
        return self._thread.is_alive() and not self._closing

    def require_room(self) -> None:
        """Refuse early, before a body is read.

        Raises:
            QueueFull: there is no room.
        """
        if self._occupied >= self.capacity or not self.alive:
            raise QueueFull

    async def score_one(
        self,
        name: str,
        source: ImageSource,
        finish: Finish,
        after_decoding: Callable[[DecodedImage], None] | None = None,
    ) -> Any:
        """What ``finish`` makes, in the model's thread, of one picture's result with features.

        Args:
            name: what to call it.
            source: opened in a decoding thread.
            finish: see above.
            after_decoding: called there with the decoded picture.

        Raises:
            QueueFull: there is no room.
        """
        job = self._admit(1, finish)

        def prepare() -> PreparedImage:
            self._ahead.acquire()
            job.holds_pixels = True
            started = time.perf_counter()
            if job.answer.cancelled() or self._closing:
                raise MemoryError  # nobody waits for it
            prepared = self.model.prepare(source)
            if after_decoding is not None:
                after_decoding(prepared.decoded)
            self.metrics.decode_seconds.observe(time.perf_counter() - started)
            return prepared

        future = self._pool.submit(prepare)
        job.waiting = Waiting(name, future)
        future.add_done_callback(lambda _: self._put(self._ready, job))
        return await job.answer

    async def score_together(self, sources: Sequence[tuple[str, ImageSource]], finish: Finish) -> list[Any]:
        """The same for several pictures of one request, as `grepq score` would take them.

        Raises:
            QueueFull: there is no room.
        """
        if len(sources) == 1:
            return [await self.score_one(*sources[0], finish)]
        job = self._admit(len(sources), finish)
        job.stream = score_sources(self.model, sources)
        self._put(self._others, job)
        rows: list[Any] = await job.answer
        return rows

    async def call(self, function: Callable[[], T]) -> T:
        """What a function answers that needs the model, in the model's thread.

        Raises:
            QueueFull: there is no room.
        """
        job = self._admit(1, lambda result: result)
        job.call = function
        self._put(self._others, job)
        result: T = await job.answer
        return result

    def close(self, seconds: float = 5.0) -> bool:
        """Stop: what waits is dropped, what is worked on ends. Whether it did within the time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for _ in range(self._decoders):
            self._ahead.release()  # whoever waits for room shall end
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _admit(self, places: int, finish: Finish) -> _Job:
        self.require_room()
        self._occupied += places  # only ever changed on the event loop
        job = _Job(asyncio.get_running_loop().create_future(), places, finish)
        job.answer.add_done_callback(lambda _: self._leave(places))
        return job

    def _leave(self, places: int) -> None:
        self._occupied -= places

    def _put(self, where: deque[_Job], job: _Job) -> None:
        with self._changed:
            where.append(job)
            self._changed.notify()

    # --- in the model's thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        passes = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._others or self._closing)
                if self._closing:
                    return
                group = self._next_group()
                other = self._others.popleft() if self._others else None
            if group:
                self._guarded(group, lambda group=group: self._score(group))  # type: ignore[misc]
            passes += 1
            if passes % _PASSES_BETWEEN_TRIMS == 0:
                return_freed_memory()
            if other is not None:
                self._guarded([other], lambda other=other: self._advance(other))  # type: ignore[misc]

    def _next_group(self) -> list[_Job]:
        """The first decoded picture and, where requests may share a pass, others of its size."""
        if not self._ready:
            return []
        group = [self._ready.popleft()]
        assert group[0].waiting is not None
        size = group[0].waiting.size if self._batch_requests else None
        if size is not None:
            most = self.model.batch_pixels // (size[-1] * size[-2])
            for job in list(self._ready):
                if len(group) < most and job.waiting is not None and job.waiting.size == size:
                    self._ready.remove(job)
                    group.append(job)
        return group

    def _score(self, group: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            wanted = [job for job in group if not job.answer.cancelled()]
            found = list(results_of(self.model, [job.waiting for job in wanted if job.waiting is not None]))
            for job, result in zip(wanted, found, strict=True):
                self._count(result)
                _answer(job, job.finish(result))
            self.metrics.batch_size.observe(len(wanted))
            self.metrics.model_seconds.observe(time.perf_counter() - started)
        finally:
            for job in group:
                if job.holds_pixels:
                    self._ahead.release()

    def _advance(self, job: _Job) -> None:
        """A call, or one more picture of a stream; only one stream at a time holds decoded pictures."""
        if job.answer.cancelled():
            if job.stream is not None:
                job.stream.close()
            return
        if job.call is not None:
            _answer(job, job.call())
            return
        assert job.stream is not None
        result = next(job.stream, None)
        if result is None:
            _answer(job, job.rows)
            return
        self._count(result)
        job.rows.append(job.finish(result))
        with self._changed:
            self._others.appendleft(job)

    def _count(self, result: Result) -> None:
        self.metrics.pictures.labels("error" if result.error else "scored").inc()

    def _guarded(self, jobs: list[_Job], work: Callable[[], None]) -> None:
        """Nothing that goes wrong with one picture ends the thread."""
        try:
            work()
        except Exception as error:
            if not isinstance(error, GrepqError):  # those are for the client
                logger.exception("the model's thread failed on a request")
            for job in jobs:
                _answer(job, error)


def _answer(job: _Job, value: Any) -> None:
    def settle() -> None:
        if job.answer.done():
            return
        if isinstance(value, BaseException):
            job.answer.set_exception(value)
        else:
            job.answer.set_result(value)

    with contextlib.suppress(RuntimeError):  # the loop has ended
        job.answer.get_loop().call_soon_threadsafe(settle)
