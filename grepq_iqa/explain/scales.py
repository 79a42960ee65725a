"""Severities 0 to 5 on scales that people know: pixels, 8-bit levels, JPEG quality, stops, per cent.

An amount says: this picture looks like a clean one with so much of a plain distortion. The values belong to severities
0, 1, ... 5 of `grepq_iqa.training.data.distortions`, whose families the severities are learned from.
"""

from __future__ import annotations

import numpy as np

NAMES = (
    "sharpness",
    "noise",
    "compression",
    "dark",
    "bright",
    "contrast",
    "color_cast",
    "saturation",
    "over_sharpening",
    "upscaling",
)
"""The reasons, in the order of `Explanation.amounts`."""

LEVELS: dict[str, tuple[float, ...]] = {
    "sharpness": (0, 0.7, 1.2, 2.0, 3.2, 5.0),
    "noise": (0, 3.8, 7.7, 15.3, 28.1, 51.0),
    "compression": (95, 45, 28, 16, 9, 4),
    "dark": (0, 0.69, 1.32, 2.18, 3.32, 4.64),
    "bright": (0, 0.43, 0.77, 1.14, 1.58, 2.17),
    "contrast": (100, 75, 58, 43, 30, 18),
    "color_cast": (0, 12, 22, 34, 48, 65),
    "dull": (100, 65, 45, 28, 12, 0),
    "garish": (100, 150, 190, 250, 340, 500),
    "over_sharpening": (0, 80, 150, 260, 420, 700),
    "upscaling": (1, 1.5, 2.0, 3.0, 4.5, 7.0),
}
"""Of every group: blur as the sigma of a Gaussian in pixels; noise as its sigma in 8-bit levels; JPEG quality; stops
too dark and too bright; per cent of ordinary contrast; gain of a color channel in per cent; per cent of ordinary color
(both sides); per cent of an unsharp mask; factor of enlargement."""


def amount_of(group: str, severity: float) -> float:
    """``severity`` 0..5 on the scale of ``group``."""
    return float(np.interp(severity, range(6), LEVELS[group]))
