"""Reasons to trust a score less, seen in the pixels themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLAT_STD = 1 / 255
NOISE_CORRELATION = 0.1


def image_warnings(image: NDArray[np.float32], patch: int) -> tuple[str, ...]:
    """One sentence for every reason; empty for a usual photograph.

    Args:
        image: ``(3, H, W)`` in [0, 1], before any padding.
        patch: side of the patches that are encoded, in pixels.
    """
    warnings = []
    height, width = image.shape[-2:]
    if min(height, width) < patch:
        warnings.append(f"tiny: {width}x{height} is smaller than one {patch}-pixel patch and was reflected up to it")
    luma = image.mean(0)
    if luma.std() < FLAT_STD:
        warnings.append("flat: the image has no detail to judge")
    elif height > 1 and width > 1 and _neighbor_correlation(luma) < NOISE_CORRELATION:
        warnings.append("noise: neighboring pixels have nothing in common, this is not a photograph")
    return tuple(warnings)


def _neighbor_correlation(luma: NDArray[np.float32]) -> float:
    """Correlation of pixels with their neighbors to the right and below, the larger of the two."""
    centered = luma - luma.mean()
    power = np.vdot(centered, centered) / centered.size
    right, below = centered[:, 1:] * centered[:, :-1], centered[1:] * centered[:-1]
    return float(max(right.mean(), below.mean()) / power)
