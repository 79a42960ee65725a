"""Patches of an image, for the low-level zero-shot score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def reflect_up_to(image: Tensor, side: int) -> Tensor:
    """``image`` ``(3, H, W)`` with short axes reflected about their ends, as often as needed, up to ``side`` pixels."""
    for axis in (1, 2):
        size = image.shape[axis]
        if size < side:
            before = (side - size) // 2
            index = np.pad(np.arange(size), (before, side - size - before), mode="reflect")
            image = image.index_select(axis, torch.from_numpy(index))
    return image


def iter_patches(image: Tensor, size: int, stride: int, chunk: int = 64) -> Iterator[Tensor]:
    """Patches of ``(3, H, W)`` in row-major order as tensors ``(<= chunk, 3, size, size)``; none beyond the border.

    Only ``chunk`` patches exist at a time, so a picture of any size needs little more memory than itself.
    """
    windows = image.unfold(1, size, stride).unfold(2, size, stride)  # (3, rows, columns, size, size), a view
    columns = windows.shape[2]
    total = windows.shape[1] * columns
    for start in range(0, total, chunk):
        index = torch.arange(start, min(total, start + chunk))
        yield windows[:, index // columns, index % columns].transpose(0, 1).contiguous()
