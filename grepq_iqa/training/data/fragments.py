"""Fragments: small crops at native resolution, one from every cell of a grid, put side by side.

docs/method.md, section 4 (after Wu et al., "FAST-VQA", ECCV 2022): a 7x7 grid of 32-pixel crops makes a 224-pixel
picture that keeps local texture and samples the whole photograph. Positions are drawn once and used for all copies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def fragment_positions(
    height: int, width: int, grid: int, cell: int, rng: np.random.Generator, *, equal_cells: bool = False
) -> NDArray[np.int64]:
    """Top-left corners ``(grid, grid, 2)`` (row, column) of one random ``cell``-pixel crop inside every grid cell.

    Where a grid cell is smaller than a crop, crops of neighboring cells overlap but stay inside the picture.

    Args:
        height, width: of the picture.
        grid: cells a side.
        cell: side of a crop.
        rng: draws the positions.
        equal_cells: as the reference implementation: cells of ``size // grid`` pixels, which leave out the rest at the
            right and at the bottom, and offsets that stop one pixel short of a cell's end.

    Raises:
        ValueError: the picture is smaller than one crop.
    """
    if min(height, width) < cell:
        raise ValueError(f"a {width}x{height} picture has no room for a crop of {cell} pixels")
    corners = np.empty((grid, grid, 2), dtype=np.int64)
    for axis, size in enumerate((height, width)):
        if equal_cells:
            start = np.minimum(np.arange(grid) * (size // grid), size - cell)
            stop = np.minimum(start + max(0, size // grid - cell - 1), size - cell)
        else:
            edges = np.linspace(0, size, grid + 1).astype(np.int64)
            start = np.minimum(edges[:-1], size - cell)
            stop = np.clip(edges[1:] - cell, start, size - cell)
        shape = (grid, 1) if axis == 0 else (1, grid)
        corners[..., axis] = rng.integers(
            np.broadcast_to(start.reshape(shape), (grid, grid)), np.broadcast_to(stop.reshape(shape), (grid, grid)) + 1
        )
    return corners


def take_fragments(copies: Tensor, corners: NDArray[np.int64], cell: int) -> Tensor:
    """Cut ``(V, 3, H, W)`` at the same ``corners`` in every copy: ``(V, 3, grid * cell, grid * cell)``."""
    rows, columns = corners.shape[:2]
    fragments = copies.new_empty((*copies.shape[:2], rows * cell, columns * cell))
    for row in range(rows):
        for column in range(columns):
            y, x = corners[row, column].tolist()
            fragments[..., row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = copies[
                ..., y : y + cell, x : x + cell
            ]
    return fragments
