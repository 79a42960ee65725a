"""The two views of a picture that are judged: as large as a screen, and at its own pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grepq_iqa.data.close_ups import close_up_boxes

Pixels = NDArray[np.float32]

SCREEN = 1024
"""Longest side of what a screen shows, in pixels; pictures up to it are judged once."""
TILE, TILES = 384, 6
"""Side and number of the cuts that are judged at native pixels: where the picture has most detail."""


def native_tiles(native: Pixels, screen: Pixels) -> list[Pixels]:
    """Cuts ``(TILE, TILE, 3)`` of ``native`` ``(3, H, W)``, without overlap, those with most detail on ``screen``.

    Args:
        native: in [0, 1].
        screen: the same picture, smaller, ``(h, w, 3)``.
    """
    _, height, width = native.shape
    boxes = close_up_boxes(screen.transpose(2, 0, 1), (width, height), TILE, TILES)
    return [channels_last(native[:, top:bottom, left:right]) for left, top, right, bottom in boxes]


def channels_last(pixels: Pixels) -> Pixels:
    """``(3, H, W)`` as ``(H, W, 3)``, contiguous."""
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def shrunk(pixels: Pixels, side: int = SCREEN) -> Pixels:
    """``(h, w, 3)`` with its longer side at most ``side``, by Lanczos; as it is where it is small enough."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    size = max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width)))
    planes = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            size, Image.Resampling.LANCZOS, reducing_gap=3.0
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(plane, dtype=np.float32) for plane in planes], axis=-1), 0, 1)
