"""What tones and colors tell: exposure, contrast, haze, casts and saturation, as numbers of one view of a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Colors = NDArray[np.float32]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_DARK_SIDE, _DARK_WINDOW = 160, 9  # of the dark channel: longest side that it is computed at, and its window
_CHANNELS = "rgb"
HUES = 6
"""Sectors of hue: skies, leaves and skin have saturations that are usual."""
_NEAR_END = 25.0  # codes beside an end of the range, to tell values that were cut off from values that fade out

NAMES = (
    *(f"luma_{p}" for p in PERCENTILES),
    "luma_mean",
    "luma_std",
    "log_luminance",
    "white",
    "black",
    "empty_codes",
    "lonely_codes",
    *(f"{channel}_{p}" for channel in _CHANNELS for p in (1, 50, 99)),
    *(f"{channel}_full" for channel in _CHANNELS),
    *(f"{channel}_zero" for channel in _CHANNELS),
    "gray_red",
    "gray_blue",
    "near_gray_red",
    "near_gray_blue",
    "bright_red",
    "bright_blue",
    "dark_red",
    "dark_blue",
    *(f"chroma_{p}" for p in (5, 50, 95, 99)),
    *(f"saturation_{p}" for p in (5, 50, 95)),
    "chroma_mean",
    "colorfulness",
    "contrast_local",
    "dark_channel",
    "dark_channel_5",
    "dark_channel_top",
    "dark_channel_bottom",
    *(f"{channel}_piled_up" for channel in _CHANNELS),
    *(f"{channel}_piled_down" for channel in _CHANNELS),
    *(f"hue_{sector}_share" for sector in range(HUES)),
    *(f"hue_{sector}_chroma" for sector in range(HUES)),
    "chroma_most",
    "contrast_middle",
)


def tones(pixels: Colors, luma: NDArray[np.float32]) -> list[float]:
    """Numbers by `NAMES` of sRGB ``(h, w, 3)`` and its luma ``(h, w)``, both on 0..255."""
    flat = pixels.reshape(-1, 3)
    flat = flat[:: max(1, len(flat) // 150_000)]
    gray = luma.reshape(-1)[:: max(1, luma.size // 150_000)]
    red, green, blue = flat.T
    unit = gray / 255
    of_channels = np.percentile(flat, (1, 50, 99), axis=0) / 255
    largest, smallest = flat.max(1), flat.min(1)
    chroma = largest - smallest
    saturation = chroma / (largest + 8)  # near black it says nothing
    ratios = []
    near_gray = chroma <= np.percentile(chroma, 20)
    for part in (np.ones_like(near_gray), near_gray, gray >= np.percentile(gray, 95), gray <= np.percentile(gray, 10)):
        mean = flat[part].mean(0) + 2
        ratios += [np.log2(mean[0] / mean[1]), np.log2(mean[2] / mean[1])]
    red_green, yellow_blue = np.abs(red - green), np.abs((red + green) / 2 - blue)
    spread = np.hypot(red_green.std(), yellow_blue.std()) + np.hypot(red_green.mean(), yellow_blue.mean())
    values = [
        *(np.percentile(unit, PERCENTILES)),
        unit.mean(),
        unit.std(),
        np.log2(unit**2.2 + 1e-4).mean(),
        (gray >= 250).mean(),
        (gray <= 4).mean(),
        *_codes(gray),
        *of_channels.T.ravel(),
        *np.sqrt((flat >= 254.5).mean(0)),
        *np.sqrt((flat <= 0.5).mean(0)),
        *ratios,
        *np.log2(np.percentile(chroma, (5, 50, 95, 99)) + 1),
        *np.percentile(saturation, (5, 50, 95)),
        np.log2(chroma.mean() + 0.5),
        np.log2(spread + 1),
        np.log2(_local_contrast(luma) + 0.5),
        *_dark_channel(pixels),
        *_piles(flat),
        *_hues(flat, chroma),
        np.log2(np.percentile(chroma, 99.9) + 1),
        np.log2(np.percentile(gray, 75) - np.percentile(gray, 25) + 1),
    ]
    return [float(value) for value in values]


def _piles(flat: Colors) -> list[float]:
    """Per channel, log share of values at the upper end against those just below it; then of the lower end."""
    full, near_full = (flat >= 254.5).mean(0), ((flat < 254.5) & (flat >= 254.5 - _NEAR_END)).mean(0)
    zero, near_zero = (flat <= 0.5).mean(0), ((flat > 0.5) & (flat <= 0.5 + _NEAR_END)).mean(0)
    piles = [np.log10((full + 1e-4) / (near_full + 1e-3)), np.log10((zero + 1e-4) / (near_zero + 1e-3))]
    return [float(pile) for pile in np.concatenate(piles)]


def _hues(flat: Colors, chroma: NDArray[np.float32]) -> list[float]:
    """Root of the share of pixels with color in each sector of hue, and how strong their colors get (log2, 0..8)."""
    red, green, blue = flat.T
    angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi)
    sector = np.floor((angle % 1) * HUES).astype(np.int64) % HUES
    colored = chroma > 6
    shares, strengths = [], []
    for hue in range(HUES):
        inside = chroma[colored & (sector == hue)]
        shares.append(float(np.sqrt(len(inside) / len(chroma))))
        strengths.append(float(np.log2(np.percentile(inside, 80) + 1)) if len(inside) > 50 else 0.0)
    return shares + strengths


def _codes(gray: NDArray[np.float32]) -> tuple[float, float]:
    """Shares of 8-bit codes between darkest and brightest that never occur, or far less than their neighbors."""
    low, high = np.percentile(gray, (0.5, 99.5))
    counts = np.bincount(np.clip(np.round(gray), 0, 255).astype(np.int64), minlength=256)[int(low) : int(high) + 1]
    if len(counts) < 3:
        return 0.0, 0.0
    around = ndimage.uniform_filter1d(counts.astype(np.float64), 5)
    return float((counts == 0).mean()), float((counts < 0.25 * around).mean())


def _local_contrast(luma: NDArray[np.float32]) -> float:
    step = max(1, max(luma.shape) // 512)
    small = luma[::step, ::step]
    mean = ndimage.uniform_filter(small, 15)
    variance = ndimage.uniform_filter(small**2, 15) - mean**2
    return float(np.sqrt(np.maximum(variance, 0)).mean())


def _dark_channel(pixels: Colors) -> list[float]:
    """Mean, 5th percentile, and means of upper and lower third of the dark channel (He et al., CVPR 2009), 0..1."""
    step = max(1, max(pixels.shape[:2]) // _DARK_SIDE)
    small = pixels[: pixels.shape[0] // step * step, : pixels.shape[1] // step * step]
    height, width = small.shape[0] // step, small.shape[1] // step
    darkest = small.min(2).reshape(height, step, width, step).mean((1, 3)) / 255
    dark = ndimage.minimum_filter(darkest, _DARK_WINDOW)
    third = max(1, height // 3)
    return [dark.mean(), np.percentile(dark, 5), dark[:third].mean(), dark[-third:].mean()]
