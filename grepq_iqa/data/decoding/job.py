"""What is asked of one source, what was found out on the way, and how faults of decoders become sentences."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.close_ups import Box, close_up_boxes
from grepq_iqa.errors import ImageError

Pixels: TypeAlias = "NDArray[np.float32]"
T = TypeVar("T")

NO_MEMORY, NO_MEMORY_HINT = "not enough memory for this picture", "give --max-side"
TOO_LARGE_HINT = "raise max_pixels (--max-pixels), or shrink it first"
_QUIET_LOCK = threading.Lock()
_quieting: list[Any] = []


@dataclass
class Job:
    """What is asked of one source, and what was found out on the way.

    Attributes:
        name: of the source, for messages.
        max_side, max_pixels: as of `grepq_iqa.data.images.decode_image`.
        warnings: sentences.
        size: width and height of the whole picture, upright.
        close_up: side and greatest number of cuts that are wanted at the picture's own pixels; None wants none.
        close_ups: these, ``(3, side, side)``, once the picture is decoded; none where it was not shrunk.
    """

    name: str
    max_side: int | None
    max_pixels: int
    warnings: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    close_up: tuple[int, int] | None = None
    close_ups: list[Pixels] = field(default_factory=list)

    def take_close_ups(self, screen: Pixels, size: tuple[int, int], cut: Callable[[Box], Pixels]) -> None:
        """Keep cuts of a picture that was shrunk to ``screen``, where they are wanted.

        Args:
            screen: ``(3, h, w)``.
            size: width and height of the whole picture, upright as ``screen`` is.
            cut: makes ``(3, side, side)`` of a box, left, top, right and bottom.
        """
        if self.close_up is None or min(size) < self.close_up[0] or screen.shape[:0:-1] == tuple(size):
            return
        self.close_ups = [cut(box) for box in close_up_boxes(screen, size, *self.close_up)]

    def check_size(self, width: int, height: int, *, reducible: bool = False) -> None:
        """Refuse what has no pixels or too many; ``reducible``: fewer could be decoded, were a size given."""
        if width <= 0 or height <= 0:
            raise ImageError(self.name, f"has no pixels ({width}x{height})")
        if width * height > self.max_pixels:
            reason = f"has {width * height / 1e6:.3g} megapixels, more than {self.max_pixels / 1e6:.3g}"
            hint = (
                "give a max_side, raise max_pixels (--max-pixels), or shrink it first" if reducible else TOO_LARGE_HINT
            )
            raise ImageError(self.name, reason, hint)


def guarded(decode: Callable[[], T], job: Job) -> T:
    """What ``decode`` gives, without a decoder's warnings.

    Raises:
        ImageError: in place of whatever a decoder of a broken file raises.
    """
    try:
        with quiet():
            return decode()
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(job.name, NO_MEMORY, NO_MEMORY_HINT) from error
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(job.name, f"is truncated or damaged: {reason_of(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without decoders' warnings. Filters are the process's: the first thread in sets them, the last resets them."""
    with _QUIET_LOCK:
        if not _quieting:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quieting.append(catcher)
        else:
            _quieting.append(_quieting[0])
    try:
        yield
    finally:
        with _QUIET_LOCK:
            catcher = _quieting.pop()
            if not _quieting:
                catcher.__exit__(None, None, None)


def reason_of(error: BaseException) -> str:
    """The words of an exception in one line."""
    return " ".join(str(error).split()) or type(error).__name__
