"""From the color space that a file names to sRGB: by formulas where it gives numbers, and what ICC profiles really do.

Sources: ITU-T H.273 (2024) for the code points of primaries (table 2) and transfer characteristics (table 3);
IEC 61966-2-1 for sRGB; the PNG specification, third edition, 11.3.2 for gAMA and cHRM; ICC.1:2022, annex E, for the
adaptation of white by the Bradford matrix.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from grepq_iqa.data.decoding import hdr

__all__ = ["is_srgb_profile", "to_srgb", "xyz_d50_to_srgb"]

Floats: TypeAlias = "NDArray[np.float32]"
_Matrix: TypeAlias = "NDArray[np.float64]"

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_BT601 = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_BT709 = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)

# x and y of white, red, green and blue, in the order of cHRM.
_PRIMARIES: dict[int, tuple[float, ...]] = {
    1: _BT709,
    2: _BT709,  # unspecified: what pictures without a word are in
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),  # BT.470 System M
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),  # BT.470 System B, G
    6: _BT601,
    7: _BT601,  # SMPTE ST 240
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),  # film
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020, BT.2100
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),  # XYZ
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),  # EBU Tech. 3213
}

_BRADFORD: _Matrix = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_SRGB_GAMMA_TOLERANCE = 0.05
"""A gAMA this near to 1/2.2 is meant as the curve of sRGB: its writers follow the PNG specification, which has 45455
stand beside the sRGB chunk, and libpng (``PNG_GAMMA_THRESHOLD``) takes no notice of a difference as small."""

_SANE_GAMMAS = (0.01, 100.0)  # what lies outside makes any picture black or white
_BAND = 1 << 20  # pixels at a time, so that a picture of 100 megapixels needs no second copy in double precision


def to_srgb(
    pixels: Floats,
    *,
    icc: bytes | None = None,
    gamma: float | None = None,
    chromaticities: tuple[float, ...] | None = None,
    cicp: tuple[int, ...] | None = None,
    bit_depth: int = 8,
) -> Floats:
    """Pixels of the named color space as sRGB; colors outside of it are clipped.

    White is adapted to D65 by the Bradford matrix: a neutral gray stays neutral. Metadata that cannot mean anything
    (primaries on a line, a white outside of them, an absurd gamma) are passed over as if absent, like damaged profiles.

    Args:
        pixels: (H, W, 3) in [0, 1]; gray as three equal channels.
        icc: a profile of RGB, which comes before gamma and chromaticities and after cicp. Curves and a matrix are
            evaluated in full precision; tables are left to littleCMS, with eight bits.
        gamma: gAMA / 100000: light is ``value ** (1 / gamma)``. None, or within 5 % of 1/2.2: the curve of sRGB.
        chromaticities: x and y of white, red, green and blue, as in cHRM. None: those of sRGB.
        cicp: color primaries, transfer characteristics, matrix coefficients and full-range flag (1 if left out) by
            H.273; decides alone if given. The matrix must have been undone. Narrow range (flag 0) is widened here: give
            1 if the decoder has done so. The curves 1, 6, 14 and 15 are inverted as cameras apply them (BT.709, item
            1.2), which is how H.273 writes them, not as televisions show them (BT.1886). High dynamic range (16 PQ, 18
            HLG) is shown as :mod:`~grepq_iqa.data.decoding.hdr` says.
        bit_depth: of the file, for narrow range only.

    Returns:
        float32 (H, W, 3) in [0, 1], always a new array.

    Raises:
        ValueError: the shape; a profile that cannot be used; or reserved code points, with the reason in words.
    """
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"pixels of shape {pixels.shape} are not (H, W, 3)")
    if icc is not None and cicp is None:
        shaper = _shaper_of(icc)
        return _by_little_cms(pixels, icc) if shaper is None else _by_shaper(pixels, *shaper)
    if cicp is not None:
        primaries, curve = cicp[:2]
        is_full = cicp[3] if len(cicp) > 3 else 1
        linearize = _curve_of(curve)
        if primaries not in _PRIMARIES:
            raise ValueError(f"color primaries {primaries} are not defined by ITU-T H.273")
        matrix = _to_linear_srgb(_PRIMARIES[primaries])
    else:
        is_full = 1
        linearize = _gamma_curve(gamma)
        matrix = _to_linear_srgb(tuple(chromaticities)) if chromaticities is not None else None
    if matrix is not None and np.abs(matrix - np.eye(3)).max() < 2e-3:
        matrix = None  # cHRM has few digits; a picture in sRGB is to come back as it is
    offset, scale = 0.0, 1.0
    if not is_full:
        unit = 2.0 ** (bit_depth - 8) / (2.0**bit_depth - 1)
        offset, scale = 16 * unit, 219 * unit

    def convert(band: Floats) -> Floats:
        values: Floats = np.clip((band - np.float32(offset)) / np.float32(scale), 0, 1)
        if matrix is None and linearize is _from_srgb:
            return values
        light = linearize(values)
        if matrix is not None:
            light = np.asarray(light @ matrix.T.astype(np.float32), np.float32)
        return _encode_srgb(np.clip(light, 0, 1))

    return _in_bands(pixels, convert)


def _in_bands(pixels: Floats, convert: Callable[[Floats], Floats]) -> Floats:
    result = np.empty(pixels.shape, np.float32)
    rows = max(1, _BAND // max(1, pixels.shape[1]))
    for top in range(0, pixels.shape[0], rows):
        result[top : top + rows] = convert(pixels[top : top + rows])
    return result


# --- curves: value in [0, 1] to light in [0, 1] ---------------------------------------------------------------------


def _from_srgb(values: Floats) -> Floats:
    return _piecewise(values, 0.04045, 12.92, 1.055, 2.4)


def _encode_srgb(light: Floats) -> Floats:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def _from_bt709(values: Floats) -> Floats:
    alpha, beta = 1.09929682680944, 0.018053968510807
    return _piecewise(values, 4.5 * beta, 4.5, alpha, 1 / 0.45)


def _from_smpte240(values: Floats) -> Floats:
    alpha, beta = 1.111572195921731, 0.022821585529445
    return _piecewise(values, 4.0 * beta, 4.0, alpha, 1 / 0.45)


def _piecewise(values: Floats, limit: float, slope: float, alpha: float, power: float) -> Floats:
    """The inverse of "linear near black, a power above", with ``alpha`` as H.273 names it."""
    return np.where(values < limit, values / slope, ((values + (alpha - 1)) / alpha) ** power).astype(np.float32)


def _power(exponent: float) -> Callable[[Floats], Floats]:
    def linearize(values: Floats) -> Floats:
        return np.asarray(values ** np.float32(exponent), np.float32)

    return linearize


def _from_log(decades: float) -> Callable[[Floats], Floats]:
    """H.273, 9 and 10: ``V = 1 + log10(L) / decades`` down to 10 to the power of -decades, and 0 below."""

    def linearize(values: Floats) -> Floats:
        return np.where(values <= 0, 0, 10.0 ** ((values - 1) * decades)).astype(np.float32)

    return linearize


def _from_smpte428(values: Floats) -> Floats:
    light: Floats = np.minimum(values**2.6 * (52.37 / 48), 1).astype(np.float32)
    return light


_CURVES: dict[int, Callable[[Floats], Floats]] = {
    1: _from_bt709,
    2: _from_srgb,  # unspecified
    4: _power(2.2),
    5: _power(2.8),
    6: _from_bt709,
    7: _from_smpte240,
    8: _power(1.0),
    9: _from_log(2.0),
    10: _from_log(2.5),
    11: _from_bt709,  # xvYCC: differs outside [0, 1] only
    12: _from_bt709,  # BT.1361, likewise
    13: _from_srgb,
    14: _from_bt709,
    15: _from_bt709,
    17: _from_smpte428,
    **{code: partial(hdr.to_light, transfer=code) for code in hdr.NAMES},
}


def _curve_of(code: int) -> Callable[[Floats], Floats]:
    if code not in _CURVES:
        raise ValueError(f"transfer characteristics {code} are not defined by ITU-T H.273")
    return _CURVES[code]


def _gamma_curve(gamma: float | None) -> Callable[[Floats], Floats]:
    if gamma is None or not _SANE_GAMMAS[0] <= gamma <= _SANE_GAMMAS[1]:
        return _from_srgb
    if abs(gamma * 2.2 - 1) <= _SRGB_GAMMA_TOLERANCE:
        return _from_srgb
    return _power(1 / gamma)


# --- primaries ------------------------------------------------------------------------------------------------------


def _to_xyz(chromaticities: tuple[float, ...]) -> _Matrix | None:
    """Linear RGB to XYZ with white at Y = 1; None where these are no primaries."""
    points = np.array(chromaticities, np.float64).reshape(-1, 2)
    if points.shape != (4, 2) or not np.isfinite(points).all() or points[0, 1] <= 0:
        return None
    columns = np.vstack([points[1:].T, 1 - points[1:].sum(axis=1)])
    if abs(np.linalg.det(columns)) < 1e-4:
        return None
    scales = np.linalg.solve(columns, _white(points[0]))
    if scales.min() <= 0:  # white is no mixture of them
        return None
    return np.asarray(columns * scales, np.float64)


def _white(point: Any) -> _Matrix:
    x, y = (float(value) for value in point)
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_linear_srgb(chromaticities: tuple[float, ...]) -> _Matrix | None:
    """Linear RGB of these primaries to linear sRGB; None where they mean nothing."""
    source = _to_xyz(chromaticities)
    target = _to_xyz(_BT709)
    if source is None or target is None:
        return None
    cones = [_BRADFORD @ _white(chromaticities[:2]), _BRADFORD @ _white(_D65)]
    if cones[0].min() <= 0:  # a white that no light has
        return None
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones[1] / cones[0]) @ _BRADFORD
    return np.asarray(np.linalg.inv(target) @ adapt @ source, np.float64)


# --- ICC ------------------------------------------------------------------------------------------------------------

_CACHED_PROFILE_BYTES = 1 << 16  # a folder's pictures mostly share a small profile


def is_srgb_profile(icc: bytes) -> bool:
    """Whether ``icc`` leaves the pixels as they are when littleCMS converts them to sRGB, within 1.5 / 255.

    Judged by a gray ramp and a cube of 9 x 9 x 9 colors, as 8 bits and in the perceptual intent: names are free text,
    "GIMP built-in linear sRGB" among them. False for profiles of CMYK and Lab, and for those that cannot be used.
    """
    return _is_srgb_cached(icc) if len(icc) <= _CACHED_PROFILE_BYTES else _is_srgb(icc)


def _is_srgb(icc: bytes) -> bool:
    mode = {b"RGB ": "RGB", b"GRAY": "L"}.get(icc[16:20])  # ICC.1, 7.2.6
    if mode is None:
        return False
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    steps = np.linspace(0, 255, 9).round()
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    colors = (ramp if mode == "L" else np.vstack([ramp, cube])).astype(np.uint8)[None]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        image = Image.fromarray(colors[..., 0].copy() if mode == "L" else colors)
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except Exception:  # a damaged profile: littleCMS and Pillow raise several kinds
        return False
    if converted is None:
        return False
    return bool(np.abs(np.asarray(converted, np.float32) - colors).max() <= 1.5)


def _by_little_cms(pixels: Floats, icc: bytes) -> Floats:
    image = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except Exception as error:
        raise ValueError(f"the color profile cannot be used: {error}") from None
    return np.asarray(np.asarray(converted, np.float32) / np.float32(255), np.float32)


def _by_shaper(pixels: Floats, curves: list[_Matrix], matrix: _Matrix) -> Floats:
    to_srgb_light = (np.linalg.inv(_srgb_to_d50()) @ matrix).T.astype(np.float32)
    grid = [np.linspace(0, 1, len(curve)) for curve in curves]

    def convert(band: Floats) -> Floats:
        light = [np.interp(band[..., channel], grid[channel], curves[channel]) for channel in range(3)]
        return _encode_srgb(np.clip(np.stack(light, axis=-1).astype(np.float32) @ to_srgb_light, 0, 1))

    return _in_bands(pixels, convert)


def xyz_d50_to_srgb(xyz: NDArray[np.float64]) -> Floats:
    """XYZ of the profile connection space, ``(..., 3)``, as sRGB; colors outside of it are clipped."""
    return _encode_srgb(np.clip(xyz @ np.linalg.inv(_srgb_to_d50()).T, 0, 1).astype(np.float32))


def _srgb_to_d50() -> _Matrix:
    """Linear sRGB to the profile connection space, whose white is D50 (ICC.1, 7.2.16)."""
    source = _to_xyz(_BT709)
    assert source is not None
    cones = _BRADFORD @ np.array([0.9642, 1.0, 0.8249]), _BRADFORD @ _white(_D65)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(cones[0] / cones[1]) @ _BRADFORD @ source, np.float64)


def _shaper_of(icc: bytes) -> tuple[list[_Matrix], _Matrix] | None:
    """Curves, as tables over [0, 1], and matrix to XYZ of a matrix-based profile of RGB or of gray (ICC.1, 8.3).

    None where it is of another kind, has tables as well, which come first (9.2), or is damaged.
    """
    is_gray = icc[16:24] == b"GRAYXYZ "
    if icc[16:24] != b"RGB XYZ " and not is_gray:
        return None
    count = int.from_bytes(icc[128:132], "big")
    if count > 200:
        return None
    tags: dict[bytes, bytes] = {}
    for position in range(132, 132 + 12 * count, 12):
        offset, size = (int.from_bytes(icc[at : at + 4], "big") for at in (position + 4, position + 8))
        tags[icc[position : position + 4]] = icc[offset : offset + size]
    if {b"A2B0", b"A2B1", b"A2B2", b"D2B0"} & tags.keys():
        return None
    if is_gray:  # one curve of light, and the white of the connection space
        gray = _curve_tag(tags.get(b"kTRC", b""))
        return None if gray is None else ([gray] * 3, _srgb_to_d50())
    curves, columns = [], []
    for channel in (b"r", b"g", b"b"):
        curve, column = _curve_tag(tags.get(channel + b"TRC", b"")), tags.get(channel + b"XYZ", b"")
        if curve is None or column[:4] != b"XYZ " or len(column) < 20:
            return None
        curves.append(curve)
        columns.append(np.frombuffer(column, ">i4", 3, 8) / 65536)
    return curves, np.stack(columns, axis=1)


def _curve_tag(tag: bytes) -> _Matrix | None:
    """A curveType or parametricCurveType (ICC.1, 10.6 and 10.18) as a table over [0, 1]; None for anything else."""
    # Dense enough that straight lines between the steps are off by less than a 16-bit step, near black as well.
    values = np.linspace(0, 1, 65536)
    if tag[:4] == b"curv" and len(tag) >= 12:
        count = int.from_bytes(tag[8:12], "big")
        if len(tag) < 12 + 2 * count:
            return None
        numbers = np.frombuffer(tag, ">u2", count, 12)
        if count == 0:
            return values
        return np.asarray(values ** (numbers[0] / 256) if count == 1 else numbers / 65535, np.float64)
    if tag[:4] != b"para" or len(tag) < 12:
        return None
    kind = int.from_bytes(tag[8:10], "big")
    size = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(kind)
    if size is None or len(tag) < 12 + 4 * size:
        return None
    parameters = [int(number) / 65536 for number in np.frombuffer(tag, ">i4", size, 12)]
    g, a, b, c, d, e, f = parameters + [0.0] * (7 - size)
    if kind == 0:
        a, b, c, d, e, f = 1, 0, 0, 0, 0, 0
    elif kind in {1, 2}:
        if a == 0:
            return None
        shift = c if kind == 2 else 0.0
        c, d, e, f = 0.0, -b / a, shift, shift
    if not 0 < g < 100:
        return None
    above = np.maximum(a * values + b, 0) ** g + e
    return np.asarray(np.clip(np.where(values >= d, above, c * values + f), 0, 1), np.float64)


_is_srgb_cached = lru_cache(maxsize=64)(_is_srgb)
