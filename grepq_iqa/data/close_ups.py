"""Cuts of a large picture at its own pixels, where it has most detail: what shrinking to a screen's size hides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels, as Pillow has them."""

_CHOICES = (5, 7)  # places looked at, along the shorter and the longer side
_GRID = 8  # a cut begins on the grid of JPEG's blocks


def close_up_boxes(screen: Pixels, size: tuple[int, int], side: int, most: int) -> list[Box]:
    """At most ``most`` squares of ``side`` pixels without overlap, those with most detail first; the same every time.

    Args:
        screen: the picture shrunk, ``(3, h, w)``, upright as ``size`` is.
        size: width and height of the whole picture, both at least ``side``.
        side, most: of the cuts.
    """
    width, height = size
    detail = _detail(screen)
    counts = _CHOICES if height <= width else _CHOICES[::-1]
    tops, lefts = (
        np.linspace(0, max(0, whole - side), count).astype(int) // _GRID * _GRID
        for whole, count in zip((height, width), counts, strict=True)
    )
    scale = screen.shape[1] / height, screen.shape[2] / width
    found = []
    for top in tops:
        for left in lefts:
            rows = slice(int(top * scale[0]), int((top + side) * scale[0]) + 1)
            columns = slice(int(left * scale[1]), int((left + side) * scale[1]) + 1)
            found.append((float(detail[rows, columns].mean()), int(top), int(left)))
    chosen: list[tuple[int, int]] = []
    for _, top, left in sorted(found, reverse=True):
        if all(abs(top - y) >= side or abs(left - x) >= side for y, x in chosen):
            chosen.append((top, left))
        if len(chosen) == most:
            break
    return [(left, top, left + side, top + side) for top, left in chosen]


def _detail(screen: Pixels) -> Pixels:
    luma: Pixels = screen.mean(0)
    total: Pixels = np.zeros_like(luma)
    total[:, 1:] += np.abs(np.diff(luma, axis=1))
    total[1:] += np.abs(np.diff(luma, axis=0))
    return total
