"""Many images -> results as a stream: read ahead, in input order, in bounded memory, past every broken file."""

from __future__ import annotations

import glob
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grepq_iqa.data.images import EXTENSIONS, load_image
from grepq_iqa.data.labels import read_paths
from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.results import Score

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

READ_AHEAD = 8
"""Pictures that are decoded ahead of the model. Threads suffice: decoders release the interpreter's lock."""

TABLES = {".csv", ".tsv"}


@dataclass(frozen=True)
class Result:
    """What became of one file: a score (and features ``(d,)`` where asked for), or an error."""

    path: str
    score: Score | None = None
    features: NDArray[np.float32] | None = None
    error: str | None = None


def expand(paths: Iterable[str | os.PathLike[str]], stdin: TextIO | None = None) -> Iterator[Path]:
    """Files named by ``paths``, lazily and in a stable order.

    A folder stands for the images below it (by extension, sorted, hidden files left out), a pattern such as ``*.jpg``
    or ``**/*.png`` for its matches, a table (.csv, .tsv) for the images that it names, ``-`` for one path a line on
    stdin. What does not exist is passed on, so that it gets a row of its own.

    Raises:
        LabelsError: a table has no column of images.
    """
    for given in paths:
        text = os.fspath(given)
        if text == "-":
            for line in stdin or sys.stdin:
                if name := line.rstrip("\r\n"):
                    yield from expand([name]) if name != "-" else ()
            continue
        path = Path(text)
        if path.is_dir():
            yield from _images_below(path)
        elif path.suffix.lower() in TABLES and path.is_file():
            yield from read_paths(path)
        elif glob.has_magic(text) and not path.exists():
            matches = sorted(glob.iglob(text, recursive=True))  # noqa: PTH207 - patterns may be absolute
            for match in matches:
                yield from expand([match]) if Path(match).is_dir() else [Path(match)]
            if not matches:
                yield path
        else:
            yield path


def stream(model: GRepQ, paths: Iterable[str | os.PathLike[str]], *, features: bool = False) -> Iterator[Result]:
    """Score ``paths`` one after the other, decoding ahead of the model in threads.

    Results come in the order of ``paths``, one for each; a file that cannot be used gives a result with its error.
    Neighbours of one size go through the model together where that is faster. At most ``READ_AHEAD`` decoded pictures
    exist at a time, whatever the number of files.
    """
    source = iter(paths)
    waiting: deque[_Waiting] = deque()
    with ThreadPoolExecutor(max_workers=min(READ_AHEAD, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(waiting) < READ_AHEAD:
                    try:
                        path = os.fspath(next(source))
                    except StopIteration:
                        break
                    waiting.append(_Waiting(path, pool.submit(load_image, path, max_side=model.max_side)))
                if not waiting:
                    return
                yield from _results_of(model, _next_group(waiting, model.batch_pixels), features)
        finally:  # also when the consumer stops early
            for one in waiting:
                one.decoded.cancel()


@dataclass(frozen=True)
class _Waiting:
    path: str
    decoded: Future[Tensor]

    @property
    def size(self) -> torch.Size | None:
        """The picture's shape once it is decoded, None where it could not be."""
        return None if self.decoded.exception() else self.decoded.result().shape


def _next_group(waiting: deque[_Waiting], most_pixels: int) -> list[_Waiting]:
    """Take the first file, and those after it of the same size, up to ``most_pixels`` in all; at least one.

    Who shares a pass depends on the order of the files alone, never on timing, so that a run can be repeated exactly.
    """
    group = [waiting.popleft()]
    size = group[0].size
    if size is None:
        return group
    most = most_pixels // (size[-1] * size[-2])
    while waiting and len(group) < most and waiting[0].size == size:
        group.append(waiting.popleft())
    return group


def _results_of(model: GRepQ, group: list[_Waiting], features: bool) -> Iterator[Result]:
    try:
        analysed = model.analyse_tensors([one.decoded.result() for one in group])
    except (GrepqError, MemoryError, RuntimeError) as error:
        if len(group) > 1:  # whichever it was, it costs the others nothing
            for one in group:
                yield from _results_of(model, [one], features)
            return
        yield Result(group[0].path, error=_reason(error))
        return
    for one, (score, vector) in zip(group, analysed, strict=True):
        yield Result(one.path, score, vector if features else None)


def _reason(error: GrepqError | MemoryError | RuntimeError) -> str:
    if isinstance(error, ImageError):
        return error.reason
    if isinstance(error, GrepqError):
        return str(error)
    if isinstance(error, RuntimeError) and "memory" not in str(error).lower():  # torch's lack of memory is one, too
        raise error
    return "not enough memory for this picture; give --max-side"


def _images_below(folder: Path) -> Iterator[Path]:
    """Sorted folder by folder, so that nothing needs to be held but one folder's names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _images_below(Path(entry.path))
        elif Path(entry.name).suffix.lower() in EXTENSIONS:
            yield Path(entry.path)
