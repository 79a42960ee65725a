"""A map of quality in colors over its picture, with the scale that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from grepq_iqa.data.images import decode_image
from grepq_iqa.errors import UsageError

# Every sixteenth color of matplotlib's magma (CC0, by van der Walt and Smith), which rises evenly in lightness.
_MAGMA = np.array(
    [
        [0, 0, 4], [12, 9, 38], [33, 17, 75], [60, 15, 112], [87, 21, 126], [112, 31, 129], [137, 40, 129],
        [161, 48, 126], [187, 56, 120], [212, 67, 110], [232, 85, 98], [246, 110, 92], [252, 140, 99],
        [254, 169, 115], [254, 198, 138], [253, 227, 165], [252, 253, 191],
    ],
    dtype=np.float32,
)  # fmt: skip
LEAST_OPACITY, MOST_OPACITY = 0.1, 0.8
"""The picture stays to be seen; where it is damaged the color covers more of it."""
GRAYED = 0.6  # share of gray in the picture below, so that its own colors do not mix with the scale's
SIDE = 1024  # most pixels of the longer side
_BAR, _MARGIN = 18, 8  # height of the scale, and the space around it, in pixels


def magma(values: ArrayLike) -> NDArray[np.float32]:
    """Colors ``(..., 3)`` on 0..255 of values in 0..1; lighter is more."""
    unit = np.clip(np.asarray(values, dtype=np.float32), 0, 1)
    places = np.linspace(0, 1, len(_MAGMA))
    return np.stack([np.interp(unit, places, _MAGMA[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def overlay(image: Any, map: NDArray[np.float32]) -> Image.Image:
    """The picture with its map laid over it, and a scale from "fine" to "damaged" below.

    Args:
        image: a source that :func:`~grepq_iqa.load_image` takes.
        map: ``(h, w)`` in 0..1, 1 is worst, of any size: it is fitted to the picture.

    Raises:
        ImageError: the picture cannot be read.
        UsageError: the map is not ``(h, w)``, or not finite.
    """
    values = np.asarray(map, dtype=np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UsageError(f"a map is (h, w) with finite values, not {values.shape}")
    pixels = decode_image(image, max_side=SIDE).values.transpose(1, 2, 0) * 255
    height, width = pixels.shape[:2]
    fitted = Image.fromarray(np.clip(values, 0, 1)).resize((width, height), Image.Resampling.BILINEAR)
    unit = np.asarray(fitted)[..., None]
    gray = pixels.mean(-1, keepdims=True)
    below = GRAYED * gray + (1 - GRAYED) * pixels
    opacity = LEAST_OPACITY + (MOST_OPACITY - LEAST_OPACITY) * unit
    mixed = (1 - opacity) * below + opacity * magma(unit[..., 0])
    canvas = Image.new("RGB", (width, height + _BAR + 2 * _MARGIN), "white")
    canvas.paste(Image.fromarray(np.round(mixed).astype(np.uint8)), (0, 0))
    _draw_scale(canvas, height + _MARGIN)
    return canvas


def _draw_scale(canvas: Image.Image, top: int) -> None:
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    words = ("fine", "damaged")
    widths = [int(draw.textlength(word, font=font)) for word in words]
    left = _MARGIN + widths[0] + _MARGIN
    right = canvas.width - widths[1] - 2 * _MARGIN
    if right - left < _BAR:  # no room on a tiny picture
        return
    colors = np.tile(magma(np.linspace(0, 1, right - left)), (_BAR, 1, 1))
    canvas.paste(Image.fromarray(np.round(colors).astype(np.uint8)), (left, top))
    draw.rectangle((left, top, right - 1, top + _BAR - 1), outline="black")
    draw.text((_MARGIN, top + _BAR // 4), words[0], fill="black", font=font)
    draw.text((right + _MARGIN, top + _BAR // 4), words[1], fill="black", font=font)
