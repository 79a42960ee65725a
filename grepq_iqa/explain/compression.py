"""What is left of compression in pixels: the grid of blocks, wherever a crop has moved it, and its quantization."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.traces import BLOCK, Plane, best_phase, block_coefficients, by_phase, grid_strength

NAMES = (
    "grid_rows",
    "grid_columns",
    "grid_flat_rows",
    "grid_flat_columns",
    "zeros_low",
    "zeros_mid",
    "zeros_high",
    "zeros_low_more",
    "zeros_mid_more",
    "zeros_high_more",
    "quantization",
    "quantization_strength",
    "flat_blocks",
)

# The luminance table of JPEG's annex K, of which encoders take a multiple by their quality.
_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float32,
)
_SCALES = np.geomspace(0.12, 6.5, 40).astype(np.float32)
_COEFFICIENTS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
_MOST_BLOCKS = 4096


def compression(luma: Plane) -> list[float]:
    """Strength of the 8-pixel grid, coefficients that are zero on it and more often than off it, and its step.

    Args:
        luma: ``(h, w)`` on 0..255, at the pixels of the file: a resized picture has no grid.
    """
    column_phase, columns, flat_columns = _grid(luma)
    row_phase, rows, flat_rows = _grid(luma.T)
    aligned = block_coefficients(luma, row_phase, column_phase, _MOST_BLOCKS)
    shifted = block_coefficients(luma, (row_phase + 4) % BLOCK, (column_phase + 4) % BLOCK, _MOST_BLOCKS)
    zeros, others = _zeros(aligned), _zeros(shifted)
    scale, strength = _step(aligned)
    ac = np.abs(aligned).reshape(len(aligned), -1)[:, 1:]
    return [
        rows,
        columns,
        flat_rows,
        flat_columns,
        *zeros,
        *(a - b for a, b in zip(zeros, others, strict=True)),
        float(np.log2(scale)),
        strength,
        float((ac.max(1) < 1).mean()),
    ]


def _grid(luma: Plane) -> tuple[int, float, float]:
    """Where blocks begin (0..7), and how much their borders exceed the next best places, in all and where flat."""
    excess, flat = grid_strength(luma)
    by_column = by_phase(excess)
    of_flat = by_phase(excess * flat) / (by_phase(flat) + 1e-3)
    phase = best_phase(excess)
    # The step at index i is between pixels i + 1 and i + 2, and a block begins at the latter.
    return (
        (phase + 2) % BLOCK,
        _signed_log(by_column[phase] - np.delete(by_column, phase).max()),
        _signed_log(of_flat[phase] - np.delete(of_flat, phase).max()),
    )


def _zeros(coefficients: NDArray[np.float32]) -> list[float]:
    """Share of coefficients below one level, of low, middle and high frequency."""
    order = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
    small = (np.abs(coefficients) < 1).mean(0)
    return [float(small[(order >= low) & (order < high)].mean()) for low, high in ((1, 4), (4, 7), (7, 15))]


def _step(coefficients: NDArray[np.float32]) -> tuple[float, float]:
    """The largest multiple of JPEG's table at whose multiples coefficients gather, and how much they do, -1 to 1."""
    gathered = np.zeros(len(_SCALES))
    for index, scale in enumerate(_SCALES):
        votes, count = 0.0, 0
        for i, j in _COEFFICIENTS:
            step = max(1.0, float(scale * _TABLE[i, j]))
            values = coefficients[:, i, j]
            far = values[np.abs(values) > 0.6 * step]
            votes += float(np.cos(2 * np.pi / step * far).sum())
            count += len(far)
        gathered[index] = votes / (count + 30)  # a few coefficients gather by chance
    best = float(gathered.max())
    # Multiples of a step are multiples of its parts, too.
    largest = int(np.nonzero(gathered >= 0.7 * best)[0][-1]) if best > 0.2 else 0
    return float(_SCALES[largest]), best


def _signed_log(value: float) -> float:
    return float(np.sign(value) * np.log1p(10 * abs(float(value))))
