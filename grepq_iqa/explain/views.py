"""The two views of a picture that are judged: as large as a screen, and at its own pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]

SCREEN = 1024
"""Longest side of what a screen shows, in pixels; pictures up to it are judged once."""
TILE, TILES = 384, 6
"""Side and number of the cuts that are judged at native pixels: where the picture has most detail."""
_CHOICES = (5, 7)  # positions of cuts looked at, along the shorter and the longer side


def native_tiles(native: Pixels, screen: Pixels) -> list[Pixels]:
    """Cuts ``(TILE, TILE, 3)`` of ``native`` ``(3, H, W)``, without overlap, those with most detail on ``screen``.

    Args:
        native: in [0, 1].
        screen: the same picture, smaller, ``(h, w, 3)``.
    """
    _, height, width = native.shape
    detail = _detail(screen)
    counts = _CHOICES if height <= width else _CHOICES[::-1]
    tops, lefts = (
        np.linspace(0, max(0, size - TILE), count).astype(int)
        for size, count in zip((height, width), counts, strict=True)
    )
    scale = screen.shape[0] / height, screen.shape[1] / width
    found = []
    for top in tops:
        for left in lefts:
            box = (
                slice(int(top * scale[0]), int((top + TILE) * scale[0]) + 1),
                slice(int(left * scale[1]), int((left + TILE) * scale[1]) + 1),
            )
            found.append((float(detail[box].mean()), int(top), int(left)))
    chosen: list[tuple[int, int]] = []
    for _, top, left in sorted(found, reverse=True):
        if all(abs(top - y) >= TILE or abs(left - x) >= TILE for y, x in chosen):
            chosen.append((top, left))
        if len(chosen) == TILES:
            break
    return [
        np.ascontiguousarray(native[:, top : top + TILE, left : left + TILE].transpose(1, 2, 0)) for top, left in chosen
    ]


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


def _detail(screen: Pixels) -> Pixels:
    luma = screen.mean(-1)
    across, down = np.zeros_like(luma), np.zeros_like(luma)
    across[:, 1:] = np.abs(np.diff(luma, axis=1))
    down[1:] = np.abs(np.diff(luma, axis=0))
    total: Pixels = across + down
    return total
