"""Colors of TIFF that are neither gray, RGB nor inks: YCbCr at reduced resolution, and CIE Lab.

Sources: TIFF 6.0 (Adobe, 1992), sections 21 and 23; Adobe's technical notes (2002) for ICCLab.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.decoding import tiff_pages as tags
from grepq_iqa.data.decoding.color import xyz_d50_to_srgb
from grepq_iqa.data.decoding.tiff_blocks import unpacked_blocks
from grepq_iqa.data.decoding.tiff_pages import TiffPage

_BT601_LUMA = (0.299, 0.587, 0.114)
_FULL_RANGE = (0, 255, 128, 255, 128, 255)  # the reference black and white by which decoders of YCbCr go
_D50 = np.array([0.9642, 1.0, 0.8249])
_ROWS = 512  # at a time


def is_ycbcr_read_here(page: TiffPage) -> bool:
    """Whether the samples stand in units of some brightnesses and one pair of colors, without JPEG."""
    fair = page.samples == 3 and page.bits[0] == 8 and page.number(tags.PLANAR, 1) == 1
    return fair and page.number(tags.PREDICTOR, 1) == 1 and set(_subsampling(page)) <= {1, 2, 4}


def _subsampling(page: TiffPage) -> tuple[int, int]:
    values = page.tags.get(tags.SUBSAMPLING, (2, 2))
    return (int(values[0]), int(values[1])) if len(values) > 1 else (2, 2)


def read_ycbcr(file: BinaryIO, page: TiffPage, name: str) -> NDArray[np.uint8]:
    """RGB ``(H, W, 3)``, every pair of colors standing for all pixels of its unit.

    Raises:
        ImageError: a strip ends too early.
    """
    across, down = _subsampling(page)
    width, height = page.number(tags.WIDTH), page.number(tags.HEIGHT)
    out = np.empty((height, width, 3), np.uint8)
    unit = across * down + 2
    for _, y, x, rows, columns, data in unpacked_blocks(file, page, name, 8 * unit, across, down):
        units = (-(-rows // down), -(-columns // across))
        values = np.frombuffer(data, np.uint8, units[0] * units[1] * unit).reshape(*units, unit)
        luma = values[..., :-2].reshape(*units, down, across).transpose(0, 2, 1, 3).reshape(units[0] * down, -1)
        pair = values[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
        target = out[y : y + rows, x : x + columns]
        high, wide = target.shape[:2]
        target[...] = _from_ycbcr(np.dstack([luma, pair])[:high, :wide], page)
    return out


def _from_ycbcr(values: NDArray[np.uint8], page: TiffPage) -> NDArray[np.uint8]:
    red, green, blue = (float(v) for v in page.tags.get(tags.LUMA, _BT601_LUMA)[:3])
    reference = np.array(page.tags.get(tags.REFERENCE, _FULL_RANGE)[:6], np.float64).reshape(3, 2)
    span = reference[:, 1] - reference[:, 0]
    if not green or 0 in span:
        (red, green, blue), reference = _BT601_LUMA, np.array(_FULL_RANGE, np.float64).reshape(3, 2)
        span = reference[:, 1] - reference[:, 0]
    y, cb, cr = np.moveaxis((values - reference[:, 0]) * np.array([255, 127, 127]) / span, -1, 0)
    r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
    g = (y - blue * b - red * r) / green
    return np.asarray(np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255), np.uint8)


def lab_to_srgb(samples: NDArray[Any], is_icc: bool) -> NDArray[np.float32]:
    """Stored CIE Lab of white D50, ``(H, W, 3)`` of 8 or 16 bits, as sRGB in [0, 1].

    Args:
        samples: a and b are signed; with ``is_icc`` they are unsigned around the middle of their range.
        is_icc: ICCLab, in which 16 bits of L end at 0xFF00.
    """
    wide = samples.dtype.itemsize == 2
    out = np.empty(samples.shape, np.float32)
    for top in range(0, len(samples), _ROWS):
        band = samples[top : top + _ROWS].astype(samples.dtype.newbyteorder("="))
        most = (0xFF00 if is_icc else 0xFFFF) if wide else 255
        lightness = band[..., 0].astype(np.uint16 if wide else np.uint8) * (100 / most)
        pair = band[..., 1:].astype(np.float64) if is_icc else band[..., 1:].view(np.int16 if wide else np.int8)
        pair = (pair - (0x8000 if wide else 128) * is_icc) / (256 if wide else 1)
        y = (lightness + 16) / 116
        roots = np.stack([y + pair[..., 0] / 500, y, y - pair[..., 1] / 200], axis=-1)
        xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * _D50
        out[top : top + _ROWS] = xyz_d50_to_srgb(xyz)
    return out
