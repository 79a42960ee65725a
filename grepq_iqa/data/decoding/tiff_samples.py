"""What the samples of a TIFF page mean: colors in [0, 1], and transparency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.decoding import tiff_colors
from grepq_iqa.data.decoding import tiff_pages as tags
from grepq_iqa.data.decoding.ranges import unit_range
from grepq_iqa.data.decoding.tiff_blocks import is_unpacked_here, read_samples
from grepq_iqa.data.decoding.tiff_pages import TiffPage
from grepq_iqa.errors import ImageError

_COLORS = {
    tags.WHITE_IS_ZERO: 1,
    tags.BLACK_IS_ZERO: 1,
    tags.RGB: 3,
    tags.PALETTE: 1,
    tags.CMYK: 4,
    tags.CIE_LAB: 3,
    tags.ICC_LAB: 3,
}
_LAB = {tags.CIE_LAB, tags.ICC_LAB}
_ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class TiffPixels:
    """Colors of one page.

    Attributes:
        values: ``(H, W, C)`` with C of 1 (gray), 3 (RGB) or 4 (CMYK), not multiplied by alpha: uint8 where the file has
            eight bits or fewer, else float32 in [0, 1].
        alpha: ``(H, W)`` of the same kind, or None.
        managed: they are in sRGB, whatever profile the file has.
        warnings: what had to be assumed.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None = None
    managed: bool = False
    warnings: tuple[str, ...] = ()


def is_read_here(page: TiffPage) -> bool:
    """Whether :func:`read_pixels` reads ``page`` without tifffile."""
    if page.photometric == tags.YCBCR:
        return tiff_colors.is_ycbcr_read_here(page) and is_unpacked_here(page)
    return page.photometric in _COLORS and is_unpacked_here(page)


def is_known(page: TiffPage) -> bool:
    """Whether :func:`read_pixels` knows what the samples of ``page`` mean."""
    return page.photometric in _COLORS


def read_pixels(file: BinaryIO, page: TiffPage, name: str, max_pixels: int) -> TiffPixels:
    """Colors of ``page``.

    Raises:
        ImageError: the page is too large, damaged, of a range that cannot be told, or needs the extra ``formats``.
    """
    width, height = page.number(tags.WIDTH), page.number(tags.HEIGHT)
    if width <= 0 or height <= 0:
        raise ImageError(name, f"has no pixels ({width}x{height})")
    if width * height > max_pixels or not 1 <= page.samples <= 64:
        raise ImageError(name, f"has {width * height / 1e6:.0f} megapixels", "shrink it first")
    if page.photometric == tags.YCBCR:
        return TiffPixels(tiff_colors.read_ycbcr(file, page, name))
    colors = _COLORS.get(page.photometric, 0)
    if not colors or colors > page.samples:
        raise ImageError(name, "is a TIFF of a kind that is not read", "save it as RGB with 8 or 16 bits a channel")
    samples = read_samples(file, page, name)
    if page.photometric == tags.PALETTE:
        return _through_palette(samples, page, name)
    if page.photometric in _LAB:
        if page.bits[0] not in (8, 16) or samples.dtype.kind == "f":
            raise ImageError(name, "is a Lab TIFF of a kind that is not read", "save it as RGB")
        return TiffPixels(tiff_colors.lab_to_srgb(samples[..., :3], page.photometric == tags.ICC_LAB), managed=True)
    return _scaled(samples, page, colors, name)


def _scaled(samples: NDArray[Any], page: TiffPage, colors: int, name: str) -> TiffPixels:
    """Samples -> colors and alpha, white being the most."""
    # Four samples of which nothing is said: all decoders take the last for transparency.
    unsaid = (_UNASSOCIATED,) if page.photometric == tags.RGB and page.samples == 4 else ()
    extras = [int(value) for value in page.tags.get(tags.EXTRA, unsaid)]
    alpha_at = next((i for i, value in enumerate(extras) if value in (_ASSOCIATED, _UNASSOCIATED)), None)
    if alpha_at is not None and colors + alpha_at >= samples.shape[-1]:
        alpha_at = None
    bits = page.bits[0]
    is_narrow = bits in (1, 2, 4, 8) and samples.dtype.kind == "u"
    if is_narrow and (alpha_at is None or extras[alpha_at] == _UNASSOCIATED):
        eight = samples.astype(np.uint8, copy=False) * np.uint8(255 // (2**bits - 1))
        values = eight[..., :colors]
        return TiffPixels(
            255 - values if page.photometric == tags.WHITE_IS_ZERO else values,
            None if alpha_at is None else eight[..., colors + alpha_at],
        )
    values, warnings = unit_range(samples[..., :colors], bits, name)
    alpha = None
    if alpha_at is not None:
        alpha, _ = unit_range(samples[..., colors + alpha_at], bits, name)
        if extras[alpha_at] == _ASSOCIATED:
            # The color is stored multiplied; black ink that is multiplied is still none where nothing is opaque.
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(alpha[..., None] > 0, np.minimum(values / alpha[..., None], 1), 0).astype(np.float32)
    if page.photometric == tags.WHITE_IS_ZERO:
        values = 1 - values
    return TiffPixels(values, alpha, warnings=warnings)


def _through_palette(samples: NDArray[Any], page: TiffPage, name: str) -> TiffPixels:
    table = np.asarray(page.tags.get(tags.COLORMAP, ()), np.float32)
    third = len(table) // 3
    if not third or int(samples.max()) >= third:
        raise ImageError(name, "is truncated or damaged: its palette is too short")
    table = table[: 3 * third].reshape(3, third).T * (1 if table.max() <= 255 else 255 / 65535)
    return TiffPixels(np.rint(table).astype(np.uint8)[samples[..., 0]])
