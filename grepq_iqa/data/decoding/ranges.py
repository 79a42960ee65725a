"""The range of samples: by what their kind can hold, and for floats by what most of them hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.errors import ImageError

A_LITTLE = 0.05
"""How far floats may leave their range by resampling and sharpening before they must be of another range."""

GLINTS = 0.01
"""Share of the pixels that may be brighter than white: suns, lamps and glints in linear light."""


def unit_range(samples: NDArray[Any], bits: int, name: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Samples scaled to [0, 1] by what their kind can hold; of floats, by what most of them hold.

    Raises:
        ImageError: they are not finite, or of a range that cannot be told.
    """
    kind = samples.dtype.kind
    if kind == "u" and bits < 32:
        if samples.dtype.itemsize * 8 != bits and int(samples.max()) >= 1 << bits:
            raise ImageError(name, "is truncated or damaged: its values have more bits than it says")
        return samples.astype(np.float32) / np.float32(2**bits - 1), ()
    if kind in "ui":
        low, high = float(samples.min()), float(samples.max())
        # Files of 32 bits mostly hold values of 16.
        scale = float(2 ** (bits - 1) - 1) if kind == "i" and bits <= 16 else 65535.0 if high <= 65535 else 2.0**32 - 1
        if high > scale:
            raise ImageError(name, "is truncated or damaged: its values have more bits than it says")
        if low < 0:
            raise ImageError(name, f"has values from {low:g} to {high:g}", "scale them to 0..1")
        signed = "has signed samples, of which 0 was taken as black and the most as white"
        return (samples / max(scale, 1.0)).astype(np.float32), (signed,) if kind == "i" else ()
    if not np.isfinite(samples).all():
        raise ImageError(name, "has pixels that are NaN or infinite")
    low, high = float(samples.min()), float(samples.max())
    white = _scale_of(samples, high)
    if white is None:
        raise ImageError(name, f"has values from {low:g} to {high:g}, of which many are over 1", "scale them to 0..1")
    scale = white
    most = float(np.quantile(samples, 1 - GLINTS)) if high > scale * (1 + A_LITTLE) else high
    least = float(np.quantile(samples, 0.001)) if low < -scale * A_LITTLE else low
    if least < -scale * A_LITTLE or most > scale * (1 + A_LITTLE):
        raise ImageError(name, f"has values from {low:g} to {high:g}", "scale them to 0..1")
    values = np.asarray(samples, np.float32) if scale == 1 else (samples / scale).astype(np.float32)
    if low < 0 or high > scale:
        said = f"has values from {low:g} to {high:g}, which were cut to 0..{scale:g}"
        return np.clip(values, 0, 1, dtype=np.float32), (said,) if low < -1e-3 * scale or high > scale * 1.001 else ()
    return values, ()


def _scale_of(samples: NDArray[Any], high: float) -> float | None:
    """The white of floats: 1 or 255; None where either would be a guess."""
    if high <= 1 + A_LITTLE:
        return 1.0
    if not np.mod(samples, 1).any():  # 8-bit values that were converted
        return 255.0
    if float(np.quantile(samples, 1 - GLINTS)) <= 1 + A_LITTLE:
        return 1.0
    return 255.0 if float(np.median(samples)) > 1 + A_LITTLE else None
