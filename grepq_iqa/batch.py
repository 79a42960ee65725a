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
from numpy.typing import NDArray
from torch import Tensor

from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.images import EXTENSIONS, load_image
from grepq_iqa.results import Score

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

READ_AHEAD = 4
"""Decoded pictures that wait for the model. Threads suffice: decoders release the interpreter's lock."""


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
    or ``**/*.png`` for its matches, ``-`` for one path a line on stdin. What does not exist is passed on, so that it
    gets a row of its own.
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

    Results come in the order of ``paths``, one for each; a file that cannot be used gives a result with its error. At
    most ``READ_AHEAD`` decoded pictures exist at a time, whatever the number of files.
    """
    source = iter(paths)
    waiting: deque[tuple[str, Future[Tensor]]] = deque()
    with ThreadPoolExecutor(max_workers=min(READ_AHEAD, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(waiting) < READ_AHEAD:
                    try:
                        path = os.fspath(next(source))
                    except StopIteration:
                        break
                    waiting.append((path, pool.submit(load_image, path, max_side=model.max_side)))
                if not waiting:
                    return
                path, decoded = waiting.popleft()
                yield _result_of(model, path, decoded, features)
        finally:  # also when the consumer stops early
            for _, future in waiting:
                future.cancel()


def _result_of(model: GRepQ, path: str, decoded: Future[Tensor], features: bool) -> Result:
    try:
        [(score, vector)] = model.analyse_tensors([decoded.result()])
    except ImageError as error:
        return Result(path, error=error.reason)
    except GrepqError as error:
        return Result(path, error=str(error))
    except (MemoryError, RuntimeError) as error:  # torch reports a lack of memory as RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        return Result(path, error="not enough memory for this picture; give --max-side")
    return Result(path, score, vector if features else None)


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
