"""What light distortions leave in the pixels themselves, as a few numbers of one view: NumPy alone, and fast.

A tower that begins at a quarter of the resolution cannot see that a picture was saved at quality 85, or that it has a
little noise. The grid of 8-pixel blocks and what is rounded off on it, the residual that no content makes, and how much
of the finest detail there is beside the coarser, can be measured.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.traces import BLOCK, LUMA, best_phase, block_coefficients, by_phase, grid_strength, immerkaer

Array = NDArray[np.float32]

LEAST_SIDE = 4 * BLOCK
_LIMITS = (0.5, 1.0, 2.0)  # coefficients below which count as rounded off, in 8-bit levels
_BANDS = ((1, 4), (4, 7), (7, 10), (10, 15))  # of the sum of a coefficient's two frequencies
_SHARES = (5, 10, 25, 50, 75)  # percentiles over blocks of the residual
_SHARPEST = (50, 90, 98)  # likewise, of detail
_OCTAVES = 3
_EPS = np.float32(0.05)

MEASURES: tuple[str, ...] = (
    *(f"grid_{axis}_{where}" for axis in ("columns", "rows") for where in ("all", "flat")),
    *(f"{kind}_{low}_{limit}" for kind in ("rounded", "rounded_more") for limit in _LIMITS for low, _ in _BANDS),
    *(f"noise_{share}" for share in _SHARES),
    *("noise_dark", "noise_bright", "noise_across", "noise_along", "noise_blue", "noise_red"),
    *(f"detail_{octave}_{share}" for octave in range(_OCTAVES) for share in _SHARPEST),
    *(f"fall_{octave}_{share}" for octave in range(_OCTAVES - 1) for share in _SHARPEST),
)
"""Names of the measures, in order."""


def measure_fine(pixels: Array) -> Array:
    """The vector by `MEASURES`, all finite, of sRGB ``(3, h, w)`` in [0, 1], both sides at least `LEAST_SIDE`."""
    levels = pixels * np.float32(255)
    luma = np.tensordot(LUMA, levels, axes=1)
    values = [*_grid(luma), *_noise(levels, luma), *_detail(luma)]
    return np.nan_to_num(np.array(values, dtype=np.float32), nan=0.0, posinf=1e3, neginf=-1e3)


def _grid(luma: Array) -> list[float]:
    """How much borders of blocks stand out, and how many coefficients are zero on the grid, and more than beside it."""
    phases, strengths = [], []
    for plane in (luma, np.ascontiguousarray(luma.T)):
        excess, flat = grid_strength(plane)
        phase = best_phase(excess)
        phases.append((phase + 2) % BLOCK)  # the step at index i is between pixels i + 1 and i + 2
        for values in (by_phase(excess), by_phase(excess * flat) / (by_phase(flat) + np.float32(1e-3))):
            strengths.append(_signed_log(float(values[phase] - np.delete(values, phase).max())))
    left, top = phases
    on = _rounded(block_coefficients(luma, top, left))
    beside = _rounded(block_coefficients(luma, (top + 4) % BLOCK, (left + 4) % BLOCK))
    return [*strengths, *on.tolist(), *(on - beside).tolist()]


def _rounded(coefficients: Array) -> Array:
    """Share of coefficients below each limit in each band."""
    size = np.abs(coefficients)
    order = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
    shares = []
    for limit in _LIMITS:
        small = (size < limit).mean(0)
        shares += [float(small[(order >= low) & (order < high)].mean()) for low, high in _BANDS]
    return np.array(shares, dtype=np.float32)


def _noise(levels: Array, luma: Array) -> list[float]:
    """Log sigma of the residual over blocks, in dark and in bright ones, its correlation, and that of both colors."""
    residual = immerkaer(luma)
    sigma = _block_means(np.abs(residual)) * np.float32(np.sqrt(np.pi / 2))
    level = _block_means(luma[1:-1, 1:-1])
    middle = np.median(level)
    halves = [np.percentile(part, 15) if len(part) else 0.0 for part in (sigma[level <= middle], sigma[level > middle])]
    power = float((residual**2).mean()) + 1e-3
    colors = [np.percentile(_block_means(np.abs(immerkaer(levels[c] - luma))), 15) for c in (2, 0)]
    return [
        *np.log10(np.percentile(sigma, _SHARES) + _EPS).tolist(),
        *(float(np.log10(half + _EPS)) for half in halves),
        float((residual[:, 1:] * residual[:, :-1]).mean()) / power,
        float((residual[1:] * residual[:-1]).mean()) / power,
        *(float(np.log10(color + _EPS)) for color in colors),
    ]


def _detail(luma: Array) -> list[float]:
    """Log of the gradient in blocks of each octave, where there is most and in the middle, and how it falls."""
    found = []
    for octave in range(_OCTAVES):
        if octave:
            rows, columns = (size // 2 * 2 for size in luma.shape)
            cut = luma[:rows, :columns]
            luma = (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) * np.float32(0.25)
        gradient = np.abs(np.diff(luma, axis=1))[:-1] + np.abs(np.diff(luma, axis=0))[:, :-1]
        found.append(np.log10(np.percentile(_block_means(gradient), _SHARPEST) + _EPS))
    falls = [fine - coarse for fine, coarse in pairwise(found)]
    return [float(value) for part in (*found, *falls) for value in part]


def _block_means(plane: Array) -> Array:
    """Of all whole blocks, ``(n,)``."""
    rows, columns = (max(1, size // BLOCK) for size in plane.shape)
    cut = plane[: rows * BLOCK, : columns * BLOCK]
    if cut.shape != (rows * BLOCK, columns * BLOCK):
        return np.asarray(cut.mean(keepdims=True).ravel(), np.float32)
    means: Array = cut.reshape(rows, BLOCK, columns, BLOCK).mean((1, 3)).ravel()
    return means


def _signed_log(value: float) -> float:
    return float(np.sign(value) * np.log1p(10 * abs(value)))
