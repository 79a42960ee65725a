"""Do two pictures show one scene from nearly one place? Small gray pictures, laid over one another at every shift.

Each is brought to local mean 0 and spread 1 (mean-subtracted, contrast-normalized coefficients: Ruderman, "The
statistics of natural images", Network 5, 1994), so that an exposure of two stops more leaves it nearly as it is. For
every shift up to a quarter of a side, and some ratios of size, the correlation of what both show is::

    r(s) = sum over overlap of a b(s) / sqrt(sum of a^2 * sum of b(s)^2)

and the largest is the pictures' likeness, from about .2 for different scenes to 1. All shifts come from one Fourier
transform (the cross-correlation theorem).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Array = NDArray[np.float32]

SIDE = 64
"""Pixels of a side of the small pictures: details of a fiftieth of the frame count, less does not."""
RATIOS = (1.0, 1.1, 1.22)
"""Of the sizes of what is shown, either way: 1.1 is a crop that keeps 83 % of the area, 1.22 one that keeps 67 %."""
_FARTHEST = SIDE // 4
# Room for the farthest shift, so that nothing comes in again from the other side.
_FIELD = SIDE + _FARTHEST
# Of the local window of the normalization, in pixels of the small picture.
_WINDOW = 3.0
# Added to local spreads, in gray values of [0, 1]: 2 of 255, what grain and rounding leave on a plain wall.
_GRAIN = 2 / 255
# Share of a small picture whose local spread must exceed the grain: a wall, a sky and a lens cap show nothing.
_LEAST_CONTENT = 0.1


def normalized(gray: Array) -> Array | None:
    """A small picture ``(SIDE**2,)`` or ``(SIDE, SIDE)`` in [0, 1], contrast-normalized; None if it shows nothing."""
    picture = np.asarray(gray, dtype=np.float32).reshape(SIDE, SIDE)
    mean = ndimage.gaussian_filter(picture, _WINDOW, mode="reflect")
    spread = np.sqrt(ndimage.gaussian_filter((picture - mean) ** 2, _WINDOW, mode="reflect"))
    if np.mean(spread > _GRAIN) < _LEAST_CONTENT:
        return None
    result: Array = (picture - mean) / (spread + _GRAIN)
    return result


class Aligner:
    """Likeness of pairs of small pictures; transforms are kept for pictures that come up again.

    Args:
        pictures: by `normalized`; None for those that show nothing, which are like no other.
        kept: transforms held at once, 51 KiB each.
    """

    def __init__(self, pictures: Sequence[Array | None], *, kept: int = 2048) -> None:
        self._pictures = pictures
        self._kept = kept
        self._known: dict[tuple[int, float], tuple[NDArray[np.complex64], ...]] = {}
        self._masks = {ratio: fft.rfft2(_in_field(np.ones((SIDE, SIDE), np.float32), ratio)) for ratio in RATIOS}

    def likeness(self, i: int, j: int) -> float:
        """The largest correlation of pictures ``i`` and ``j``, 0 to 1; 0 where one shows nothing."""
        if self._pictures[i] is None or self._pictures[j] is None:
            return 0.0
        best = self._largest(i, j, 1.0, 1.0)
        for ratio in RATIOS[1:]:
            best = max(best, self._largest(i, j, 1.0, ratio), self._largest(i, j, ratio, 1.0))
        return best

    def _largest(self, i: int, j: int, ratio_i: float, ratio_j: float) -> float:
        """Over shifts, with the middles of the pictures shrunk by their ratios."""
        (a, a2), a1 = self._transforms(i, ratio_i), self._masks[ratio_i]
        (b, b2), b1 = self._transforms(j, ratio_j), self._masks[ratio_j]
        products = np.stack([a * b.conj(), a2 * b1.conj(), a1 * b2.conj()])
        across, own, other = fft.irfft2(products, s=(_FIELD, _FIELD))
        window = np.r_[-_FARTHEST : _FARTHEST + 1]
        near = np.ix_(window, window)
        energy = np.maximum(own[near], 0) * np.maximum(other[near], 0)
        value = across[near] / np.sqrt(np.maximum(energy, 1e-6))
        return float(np.clip(value.max(), 0, 1))

    def _transforms(self, i: int, ratio: float) -> tuple[NDArray[np.complex64], ...]:
        """Of the picture, and of its squares, in a field with room to shift."""
        key = (i, ratio)
        if key not in self._known:
            if len(self._known) >= self._kept:
                self._known.clear()
            picture = self._pictures[i]
            assert picture is not None
            shown = _in_field(picture, ratio)
            self._known[key] = tuple(fft.rfft2(np.stack([shown, shown**2])))
        return self._known[key]


def _in_field(picture: Array, ratio: float) -> Array:
    """A picture shrunk by a ratio, in the middle of a square of its old size, with room to shift beyond that."""
    field = np.zeros((_FIELD, _FIELD), dtype=np.float32)
    side = round(SIDE / ratio)
    at = (SIDE - side) // 2
    shown = ndimage.zoom(picture, side / SIDE, order=1, grid_mode=True, mode="nearest") if ratio != 1 else picture
    field[at : at + side, at : at + side] = shown
    return field
