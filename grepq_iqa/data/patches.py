"""Patches of an image, for the low-level zero-shot score; of arrays and tensors alike, without importing torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Image = TypeVar("Image", NDArray[np.float32], Tensor)
else:
    Image = TypeVar("Image")


def reflect_up_to(image: Image, side: int) -> Image:
    """``image`` ``(3, H, W)`` with short axes reflected about their ends, as often as needed, up to ``side`` pixels."""
    for axis in (1, 2):
        size = image.shape[axis]
        if size < side:
            before = (side - size) // 2
            index = np.pad(np.arange(size), (before, side - size - before), mode="reflect")
            image = image[:, index] if axis == 1 else image[:, :, index]
    return image


def iter_patches(image: Image, size: int, stride: int, chunk: int = 64) -> Iterator[Image]:
    """Patches of ``(3, H, W)`` in row-major order, each time ``(<= chunk, 3, size, size)``; none beyond the border.

    Only ``chunk`` patches exist at a time, so a picture of any size needs little more memory than itself.
    """
    height, width = image.shape[1:]
    corners = [(y, x) for y in range(0, height - size + 1, stride) for x in range(0, width - size + 1, stride)]
    for start in range(0, len(corners), chunk):
        yield _stacked([image[:, y : y + size, x : x + size] for y, x in corners[start : start + chunk]])


def patch_grid(height: int, width: int, size: int, stride: int, dense: bool) -> tuple[int, int]:
    """Rows and columns of a picture's patches: those of `iter_patches`, or the windows of a whole picture's last map.

    Args:
        height, width: of the picture, at least ``size``.
        size, stride: of the patches, in pixels.
        dense: windows of the map, whose last cells may reach beyond the border.
    """
    rows, columns = ((-(-side // stride) * stride if dense else side) for side in (height, width))
    return (rows - size) // stride + 1, (columns - size) // stride + 1


def _stacked(patches: Sequence[Any]) -> Any:
    if isinstance(patches[0], np.ndarray):
        return np.stack(patches)
    import torch

    return torch.stack(list(patches))
