"""Traces that noise and compression leave in pixels: a residual without content, and the grid of 8-pixel blocks.

Everything takes luma, float32 ``(h, w)`` on 0..255.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Of R, G and B (ITU-R BT.601)."""
BLOCK = 8
"""Side of JPEG's blocks."""
FLAT = 12.0  # a step between neighbors that no edge makes, in 8-bit levels


def immerkaer(luma: Plane) -> Plane:
    """The difference of two Laplacians, zero on planes, of unit variance for white noise of sigma 1; ``(h-2, w-2)``.

    Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996.
    """
    across = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    filtered: Plane = (across[:-2] - 2 * across[1:-1] + across[2:]) / np.float32(6)
    return filtered


def grid_strength(luma: Plane) -> tuple[Plane, Plane]:
    """How much each step to the right exceeds its neighbors', ``(h, w - 3)``, and whether it is one of a flat place."""
    step = np.abs(np.diff(luma, axis=1))
    limited = np.minimum(step, FLAT)
    excess = limited[:, 1:-1] - (limited[:, :-2] + limited[:, 2:]) * np.float32(0.5)
    flat: Plane = ((step[:, :-2] < 2) & (step[:, 2:] < 2)).astype(np.float32)
    return excess, flat


def by_phase(values: Plane) -> NDArray[np.float32]:
    """Means ``(BLOCK,)`` of the columns of ``values`` by their index modulo `BLOCK`."""
    usable = values.shape[1] // BLOCK * BLOCK
    means: NDArray[np.float32] = values[:, :usable].mean(0).reshape(-1, BLOCK).mean(0)
    return means


def best_phase(excess: Plane) -> int:
    """The column modulo 8 of `grid_strength` where it is largest."""
    return int(np.argmax(by_phase(excess)))


def block_coefficients(luma: Plane, top: int, left: int, most: int | None = None) -> Plane:
    """Orthonormal DCT of blocks of the grid that begins at ``top``, ``left``, ``(n, 8, 8)``.

    Args:
        luma: at least a block and its offset large.
        top, left: 0..7.
        most: blocks, spread evenly over the picture; None takes all.
    """
    rows, columns = (luma.shape[0] - top) // BLOCK, (luma.shape[1] - left) // BLOCK
    cut = luma[top : top + rows * BLOCK, left : left + columns * BLOCK] - np.float32(128)
    blocks = cut.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3).reshape(-1, BLOCK, BLOCK)
    if most:
        blocks = blocks[:: max(1, len(blocks) // most)]
    basis = _basis()
    transformed: Plane = np.ascontiguousarray(basis @ blocks @ basis.T)
    return transformed


@cache
def _basis() -> Plane:
    position = np.arange(BLOCK)
    rows = np.cos(np.pi * (position + 0.5) * position[:, None] / BLOCK) * np.sqrt(2 / BLOCK)
    rows[0] /= np.sqrt(2)
    basis: Plane = rows.astype(np.float32)
    return basis
