"""All that is measured of one view of a picture, as one vector, in NumPy and SciPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from grepq_iqa.data.traces import LUMA, immerkaer
from grepq_iqa.explain import compression, detail, tones

_CHROMA_NAMES = ("chroma_noise_blue", "chroma_noise_red", "chroma_detail")

MEASURES: tuple[str, ...] = (
    *detail.SPECTRUM_NAMES,
    *detail.NOISE_NAMES,
    *detail.EDGE_NAMES,
    *detail.PERIOD_NAMES,
    *compression.NAMES,
    *_CHROMA_NAMES,
    *tones.NAMES,
)
"""Names of the measures, in order."""


def measure(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector by `MEASURES`, all finite, of sRGB ``(h, w, 3)`` in [0, 1].

    Views smaller than `detail.LEAST_SIDE` are reflected up to it.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < detail.LEAST_SIDE:
        short = [max(0, detail.LEAST_SIDE - size) for size in (height, width)]
        widths = [(0, short[0]), (0, short[1]), (0, 0)]
        pixels = np.pad(pixels, widths, "reflect") if min(height, width) > 1 else np.pad(pixels, widths, "edge")
    levels = np.ascontiguousarray(pixels, dtype=np.float32) * np.float32(255)
    luma = levels @ LUMA
    values = [
        *detail.spectrum(luma),
        *detail.noise(luma),
        *detail.edges(luma),
        *detail.periods(luma),
        *compression.compression(luma),
        *_chroma(levels, luma),
        *tones.tones(levels, luma),
    ]
    return np.nan_to_num(np.array(values, dtype=np.float32), nan=0.0, posinf=1e3, neginf=-1e3)


def _chroma(levels: NDArray[np.float32], luma: NDArray[np.float32]) -> list[float]:
    """Log noise of both color differences where they are flattest, and of their fine detail beside luma's."""
    flattest = []
    energy = 0.0
    for channel in (2, 0):
        difference = levels[..., channel] - luma
        residual = np.abs(immerkaer(difference))
        local = ndimage.uniform_filter(residual, 8)[4::8, 4::8]
        flattest.append(float(np.log10(np.percentile(local, 15) * np.sqrt(np.pi / 2) + 0.05)))
        energy += float(residual.mean())
    return [*flattest, float(np.log10((energy + 0.05) / (float(np.abs(immerkaer(luma)).mean()) + 0.05)))]
