"""Reasons to trust a score less, seen in the pixels themselves."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT_DEVIATION = 1 / 255
NOISE_CORRELATION = 0.1


def inspect(image: Tensor, patch: int) -> tuple[str, ...]:
    """Warnings for an image ``(3, H, W)`` in [0, 1], before any padding; empty for a usual photograph."""
    warnings = []
    height, width = image.shape[-2:]
    if min(height, width) < patch:
        warnings.append(f"tiny: {width}x{height} is smaller than one {patch}-pixel patch and was reflected up to it")
    luma = image.mean(0)
    if luma.std(correction=0) < FLAT_DEVIATION:
        warnings.append("flat: the image has no detail to judge")
    elif height > 1 and width > 1 and _neighbour_correlation(luma) < NOISE_CORRELATION:
        warnings.append("noise: neighbouring pixels have nothing in common, this is not a photograph")
    return tuple(warnings)


def _neighbour_correlation(luma: Tensor) -> float:
    """Correlation of pixels with their neighbours to the right and below, the larger of the two."""
    centred = luma - luma.mean()
    power = (centred**2).mean()
    right, below = (centred[:, 1:] * centred[:, :-1]).mean(), (centred[1:] * centred[:-1]).mean()
    return float(torch.maximum(right, below) / power)
