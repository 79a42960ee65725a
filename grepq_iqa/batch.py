"""Many images -> results as a stream: read ahead, in input order, in bounded memory, past every broken file."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.decoding.job import NO_MEMORY, NO_MEMORY_HINT
from grepq_iqa.data.images import ImageSource
from grepq_iqa.encoders.fine_detail import PreparedImage
from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.feature_cache import FeatureCache
from grepq_iqa.results import Score

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

READ_AHEAD = 8
"""Pictures that are decoded ahead of the model. Threads suffice: decoders release the interpreter's lock."""

NamedSource: TypeAlias = "tuple[str, ImageSource | Callable[[], ImageSource]]"
"""What messages call a picture, and the picture; or what fetches it, called in a thread that reads ahead."""

BUCKETS_FROM, READ_AHEAD_BUCKETS = 1 << 20, 32
"""An engine for which so many pixels are worth one pass, a GPU, gets pictures of one size together wherever they stand
among so many that are decoded ahead; on a CPU only neighbors share a pass."""

_KNOWN_IN_A_ROW = 64


@dataclass(frozen=True)
class Result:
    """What became of one file: a score (and features ``(d,)`` where asked for), or an error.

    Attributes:
        path: as given.
        score: None after an error.
        features: None after an error, or where none were asked for.
        error: why the file could not be used, else None.
        seconds: from the result before to this one; of a result from a cache, what it took then, None where unknown.
    """

    path: str
    score: Score | None = None
    features: NDArray[np.float32] | None = None
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Collected:
    """The usable ones of many results.

    Attributes:
        indices: which they are, rising.
        scores: of each.
        features: ``(n, d)`` float32.
        failures: index and error of every other one.
    """

    indices: tuple[int, ...]
    scores: tuple[Score, ...]
    features: NDArray[np.float32]
    failures: tuple[tuple[int, str], ...]


def score_paths(
    model: GRepQ,
    paths: Iterable[str | os.PathLike[str]],
    *,
    features: bool = False,
    cache: FeatureCache | None = None,
) -> Iterator[Result]:
    """Score ``paths`` one after the other, decoding ahead of the model in threads.

    Results come in the order of ``paths``, one for each; a file that cannot be used gives a result with its error.
    Pictures of one size go through the model together where that is faster. At most ``READ_AHEAD`` decoded pictures,
    on a GPU ``READ_AHEAD_BUCKETS``, exist at a time, whatever the number of files.

    Args:
        model: by which.
        paths: files.
        features: whether results carry them.
        cache: knows files that were seen before, and learns those that were not.
    """
    results = _score_all(model, _named(paths)) if cache is None else _score_unknown(model, paths, cache)
    for result in results:
        yield result if features else dataclasses.replace(result, features=None)


def score_sources(
    model: GRepQ, sources: Iterable[NamedSource], *, threads: int | None = None
) -> Generator[Result, None, None]:
    """As `score_paths`, with features, for pictures from anywhere: pairs of what to call one, and the picture.

    Args:
        model: by which.
        sources: names and pictures. What fetches one may raise any :class:`~grepq_iqa.errors.GrepqError` for its row;
            other exceptions end the stream.
        threads: that fetch and decode ahead; None: as many as there are cores, at most as many as are read ahead.
    """
    return _score_all(model, sources, threads)


def collect(results: Iterable[Result]) -> Collected:
    """Scores and features of the results of `score_paths` that have them, and the errors of the others."""
    indices, scores, rows, failures = [], [], [], []
    for i, result in enumerate(results):
        if result.score is None or result.features is None:
            failures.append((i, result.error or "unknown"))
        else:
            indices.append(i)
            scores.append(result.score)
            rows.append(result.features)
    features = np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
    return Collected(tuple(indices), tuple(scores), features, tuple(failures))


def _score_unknown(model: GRepQ, paths: Iterable[str | os.PathLike[str]], cache: FeatureCache) -> Iterator[Result]:
    looked_up = (_look_up(model, os.fspath(path), cache) for path in paths)
    for path, found in looked_up:
        if isinstance(found, Result):
            yield found
        else:
            yield from _score_stretch(model, itertools.chain([(path, found)], looked_up), cache)


def _look_up(model: GRepQ, path: str, cache: FeatureCache) -> tuple[str, Result | _Content]:
    """The path, and its finished result from the cache, or the content of a file that the model must see."""
    content = _Content(_stamp(path), cache.digest(path))
    entry = cache.read(content.digest)
    if entry is None or entry.score is None or len(entry.features) != model.feature_dim:
        return path, content
    score = dataclasses.replace(entry.score, percentile=model.percentile(entry.score.score))
    return path, Result(path, score, entry.features, seconds=entry.seconds)


def _score_stretch(
    model: GRepQ, looked_up: Iterator[tuple[str, Result | _Content]], cache: FeatureCache
) -> Iterator[Result]:
    """Results, in order, up to where `_KNOWN_IN_A_ROW` are known: those are not held back to look for more to do."""
    order: deque[Result | _Content] = deque()

    def unknown() -> Iterator[str]:
        in_a_row = 0
        for path, found in looked_up:
            order.append(found)
            if isinstance(found, Result):
                in_a_row += 1
                if in_a_row == _KNOWN_IN_A_ROW:
                    return
            else:
                in_a_row = 0
                yield path

    for result in _score_all(model, _named(unknown())):
        while isinstance(known := order.popleft(), Result):
            yield known
        # A file that was written meanwhile may have been decoded with another content than the digest's.
        if result.features is not None and known.stamp == _stamp(result.path):
            cache.write(known.digest, result.features, result.score, result.seconds)
        yield result
    for known in order:
        assert isinstance(known, Result)  # every digest has met its result
        yield known


def _named(paths: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[str, str]]:
    return ((os.fspath(path), os.fspath(path)) for path in paths)


def _fetch_and_prepare(source: ImageSource | Callable[[], ImageSource], model: GRepQ) -> PreparedImage:
    return model.prepare(source() if callable(source) else source)


def _score_all(
    model: GRepQ, sources: Iterable[NamedSource], threads: int | None = None
) -> Generator[Result, None, None]:
    remaining = enumerate(sources)
    prepare = partial(_fetch_and_prepare, model=model)
    buckets = model.batch_pixels >= BUCKETS_FROM
    ahead = READ_AHEAD_BUCKETS if buckets else READ_AHEAD
    waiting: deque[Waiting] = deque()
    finished: dict[int, Result] = {}  # those that overtook others
    due = 0
    started = time.perf_counter()
    with ThreadPoolExecutor(
        max_workers=min(ahead, threads or os.cpu_count() or 1), thread_name_prefix="decode"
    ) as pool:
        try:
            while True:
                while len(waiting) < ahead:
                    try:
                        index, (path, source) = next(remaining)
                    except StopIteration:
                        break
                    waiting.append(Waiting(path, pool.submit(prepare, source), index))
                if not waiting:
                    return
                group = _next_group(waiting, model.batch_pixels, buckets=buckets)
                results = list(results_of(model, group))
                each = (time.perf_counter() - started) / len(group)
                for one, result in zip(group, results, strict=True):
                    finished[one.index] = dataclasses.replace(result, seconds=each)
                while due in finished:
                    yield finished.pop(due)
                    due += 1
                started = time.perf_counter()
        finally:  # also when the consumer stops early
            for one in waiting:
                one.prepared.cancel()


@dataclass(frozen=True)
class _Content:
    """Of a file: when it was written, and its digest from after that."""

    stamp: tuple[int, int, int] | None
    digest: str | None


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - paths are text here
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True)
class Waiting:
    """A picture on its way to the model: what to call it, its pixels as soon as they are there, its place in a row."""

    path: str
    prepared: Future[PreparedImage]
    index: int = 0

    @property
    def size(self) -> tuple[int, ...] | None:
        """The picture's shape once it is decoded, None where it could not be."""
        return None if self.prepared.exception() else self.prepared.result().decoded.values.shape


def _next_group(waiting: deque[Waiting], most_pixels: int, *, buckets: bool) -> list[Waiting]:
    """Take the first file and others of the same size, up to ``most_pixels`` in all; at least one.

    The others are those right after it, or with ``buckets`` any that wait. Who shares a pass depends on the order of
    the files alone, never on timing, so that a run can be repeated exactly.
    """
    group = [waiting.popleft()]
    size = group[0].size
    if size is None:
        return group
    most = most_pixels // (size[-1] * size[-2])
    if not buckets:
        while waiting and len(group) < most and waiting[0].size == size:
            group.append(waiting.popleft())
        return group
    others = list(waiting)
    waiting.clear()
    for one in others:
        (group if len(group) < most and one.size == size else waiting).append(one)
    return group


def results_of(model: GRepQ, group: Sequence[Waiting]) -> Iterator[Result]:
    """Results, with features, of pictures of one size in one pass; waits for those that are not decoded yet."""
    try:
        scored = model.score_prepared([one.prepared.result() for one in group])
    except (GrepqError, MemoryError, RuntimeError) as error:
        if len(group) > 1:  # whichever it was, it costs the others nothing
            for one in group:
                yield from results_of(model, [one])
            return
        yield Result(group[0].path, error=_reason(error))
        return
    for one, (score, vector) in zip(group, scored, strict=True):
        yield Result(one.path, score, vector)


def _reason(error: GrepqError | MemoryError | RuntimeError) -> str:
    if isinstance(error, ImageError):
        return error.reason + (f" ({error.hint})" if error.hint else "")
    if isinstance(error, GrepqError):
        return str(error)
    if isinstance(error, RuntimeError) and "memory" not in str(error).lower():  # torch's lack of memory is one, too
        raise error
    return f"{NO_MEMORY}; {NO_MEMORY_HINT}"
