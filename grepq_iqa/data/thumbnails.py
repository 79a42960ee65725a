"""Small pictures of photographs, decoded by the one loader: a phone's rotation or a wide gamut shows right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.images import MAX_PIXELS, ImageSource, decode_image

if TYPE_CHECKING:
    from PIL import Image


def thumbnail(source: ImageSource, side: int, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """``source`` as an 8-bit RGB picture whose longer side has at most ``side`` pixels.

    Raises:
        ImageError: the source cannot be used.
    """
    return thumbnail_and_size(source, side, max_pixels=max_pixels)[0]


def thumbnail_and_size(
    source: ImageSource, side: int, *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """As `thumbnail`, and width and height in pixels of the whole, upright picture.

    Raises:
        ImageError: the source cannot be used.
    """
    from PIL import Image

    decoded = decode_image(source, max_side=side, max_pixels=max_pixels)
    picture = Image.fromarray((decoded.values.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return picture, (decoded.width, decoded.height)


def gray_thumbnail(source: ImageSource, side: int = 16, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """``source`` squeezed to a square of ``side`` x ``side`` gray values in [0, 1], row by row: ``(side**2,)``.

    Raises:
        ImageError: the source cannot be used.
    """
    gray = decode_image(source, max_side=4 * side, max_pixels=max_pixels).values.mean(axis=0)
    values: NDArray[np.float32] = (_bins(gray.shape[0], side) @ gray @ _bins(gray.shape[1], side).T).flatten()
    return values


def _bins(size: int, bins: int) -> NDArray[np.float32]:
    """``(bins, size)``: weights of the means of ``bins`` stretches of ``size`` values, which share those at seams."""
    weights = np.zeros((bins, size), dtype=np.float32)
    for row, weight in enumerate(weights):
        first, behind = row * size // bins, -(-(row + 1) * size // bins)
        weight[first:behind] = 1 / (behind - first)
    return weights
