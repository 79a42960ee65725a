"""Any image a person has -> RGB with the right pixels. The only way to pixels in this package.

"Right" means: upright (EXIF), in sRGB (embedded ICC profile), composited on white where transparent, and converted by
value where the file has fewer or more than eight bits. Files come from strangers, so every fault of a decoder ends in
an :class:`~grepq_iqa.errors.ImageError` that names the file. How each format is read stands in
:mod:`grepq_iqa.data.decoding`. All of it is NumPy and Pillow; torch is imported only where a tensor is asked for.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from grepq_iqa.data.decoding.arrays import from_array, from_tensor, shrink
from grepq_iqa.data.decoding.files import read_file, read_path
from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.formats import EXTENSIONS as EXTENSIONS
from grepq_iqa.errors import ImageError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded; the limit at which Pillow itself suspects a bomb."""


@dataclass(frozen=True)
class DecodedImage:
    """A picture and what is to be known of it.

    Attributes:
        values: float32 ``(3, H, W)`` in [0, 1], shrunk where that was asked for.
        warnings: what makes the pixels less than the file promised, a sentence each; empty for a sound file.
        width: of the whole picture in pixels, upright, before shrinking.
        height: likewise.
        close_ups: where they were asked for and the picture was shrunk, cuts ``(3, side, side)`` at its own pixels.
    """

    values: Pixels
    warnings: tuple[str, ...]
    width: int
    height: int
    close_ups: tuple[Pixels, ...] = ()

    @property
    def pixels(self) -> Tensor:
        """``values`` as a tensor that shares their memory; imports torch."""
        import torch

        return torch.from_numpy(self.values)


def decode_image(
    source: ImageSource,
    *,
    max_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    close_up: tuple[int, int] | None = None,
) -> DecodedImage:
    """Decode ``source``, and say what was wrong with it though it could be read.

    Args:
        source: a path, encoded bytes, a binary file object, a PIL image, an array or a tensor. Arrays are ``(H, W)`` or
            ``(H, W, C)`` and tensors ``(C, H, W)``, with C of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha);
            bool, uint8, uint16, or floats in [0, 1].
        max_side: shrink so that the longer side has at most this many pixels; None keeps the native size.
        max_pixels: refuse larger pictures before they are decoded, except for JPEGs that ``max_side`` lets decode
            reduced to fewer.
        close_up: side and greatest number of cuts to take at the picture's own pixels, where it has most detail, if it
            is shrunk.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, not finite or out of range.
    """
    job = Job(describe_source(source), max_side, max_pixels, close_up=close_up)
    if isinstance(source, np.ndarray) or is_tensor(source):
        whole = from_array(source, job) if isinstance(source, np.ndarray) else from_tensor(source, job)
        job.size = (whole.shape[-1], whole.shape[-2])
        values = shrink(whole, max_side)
        job.take_close_ups(values, job.size, lambda box: whole[:, box[1] : box[3], box[0] : box[2]].copy())
    elif isinstance(source, Image.Image):
        values = guarded(lambda: decode_opened(source, job, is_callers=True), job)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        values = read_file(io.BytesIO(source), job)
    elif isinstance(source, (str, os.PathLike)):
        values = read_path(source, job)
    elif hasattr(source, "read"):
        values = read_file(source, job)
    else:
        reason = f"cannot read an image from {type(source).__name__}"
        raise ImageError(job.name, reason, "give a path, bytes, PIL image, array or tensor")
    return DecodedImage(values, tuple(dict.fromkeys(job.warnings)), *job.size, tuple(job.close_ups))


def load_image(source: ImageSource, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode ``source`` to a float32 tensor ``(3, H, W)`` in [0, 1]; as :func:`decode_image`, for the pixels alone.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, not finite or out of range.
    """
    return decode_image(source, max_side=max_side, max_pixels=max_pixels).pixels


def describe_source(source: object) -> str:
    """What messages call ``source``: its path or name where it has one, else ``<type>``."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if not isinstance(os.fspath(source), bytes) else os.fsdecode(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"


def is_tensor(source: object) -> bool:
    """Whether ``source`` is torch's tensor; nothing is where torch has not been imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def split_batch(images: Any) -> tuple[list[Any], bool]:
    """``(sources, is_single)``: one image, or several as a list.

    Several are whatever can be gone through: a list, a tuple, a column of a table, an array of names, the values of a
    dictionary, a generator, or a ``(B, C, H, W)`` tensor.

    Raises:
        ImageError: an array with a leading batch axis, whose meaning would be a guess.
        UsageError: a whole table or a dictionary, of which only a part can be images.
    """
    if is_tensor(images):
        return (list(images), False) if images.ndim == 4 else ([images], True)
    if isinstance(images, np.ndarray):
        if images.ndim == 4:
            raise ImageError("<ndarray>", "has four axes", "pass list(array) of (H, W, C) images")
        if images.ndim == 1 and images.dtype.kind in "OUST":  # names, or pictures in a column
            return [os.fsdecode(one) if images.dtype.kind == "S" else one for one in images], False
        return [images], True
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read"):
        return [images], True
    if isinstance(images, Mapping):
        raise UsageError("a dictionary could mean its keys or its values: pass list(images) or images.values()")
    if hasattr(images, "columns") and not isinstance(images, Image.Image):
        raise UsageError('a table holds more than images: pass its column of paths, such as table["path"]')
    if isinstance(images, Iterable):
        return list(images), False
    return [images], True


def as_listed(values: Any) -> Any:
    """``values`` for NumPy: a generator or the values of a dictionary as a list, all else as it is."""
    if hasattr(values, "__array__") or hasattr(values, "__getitem__") or not isinstance(values, Iterable):
        return values
    return list(values)
