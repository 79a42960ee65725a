"""What is measured of every small cell of a picture, for the map: detail of four sizes, noise, blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import dctn

from grepq_iqa.data.traces import BLOCK, Plane, best_phase, grid_strength, immerkaer

CELL = 16
"""Side of a cell in pixels: the map's resolution."""
NEIGHBORHOODS = (3, 7)
"""Sides, in cells, of what is averaged around each as its context."""
SIGMAS = (1.0, 2.0, 4.0, 8.0)  # of the Gaussians whose differences are the bands of detail

_OF_CELL = (
    *(f"band_{index}" for index in range(len(SIGMAS))),
    *(f"most_{index}" for index in range(len(SIGMAS))),
    "noise",
    "noise_flattest",
    "grid",
    "grid_off",
    "zeros_middle",
    "zeros_high",
    "luma",
)
LOCAL_MEASURES = (*_OF_CELL, *(f"{name}_{side}" for side in NEIGHBORHOODS for name in _OF_CELL))
"""Names of the measures, in order."""


def local_measures(luma: Plane) -> NDArray[np.float32]:
    """``(rows, columns, len(LOCAL_MEASURES))`` of luma ``(h, w)`` on 0..255, reflected up to whole cells."""
    height, width = luma.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.pad(luma, ((0, rows * CELL - height), (0, columns * CELL - width)), mode="symmetric")
    planes: list[NDArray[Any]] = []
    blurred = [padded, *(ndimage.gaussian_filter(padded, sigma, truncate=2.5) for sigma in SIGMAS)]
    bands = [np.abs(a - b) for a, b in pairwise(blurred)]
    planes += [np.log10(_mean(band) + 0.02) for band in bands]
    planes += [np.log10(_max(band) + 0.1) for band in bands]
    residual = np.pad(np.abs(immerkaer(padded)), 1, mode="edge")
    planes.append(np.log10(_mean(residual) + 0.02))
    planes.append(np.log10(_least_of_blocks(residual) + 0.02))
    planes += _blockiness(padded)
    planes.append(_mean(padded) / 255)
    own = np.stack(planes, axis=-1).astype(np.float32)
    around = [ndimage.uniform_filter(own, (side, side, 1), mode="nearest") for side in NEIGHBORHOODS]
    return np.concatenate([own, *around], axis=-1)


def _mean(plane: Plane) -> NDArray[np.float32]:
    result: NDArray[np.float32] = _split(plane).mean((1, 3))
    return result


def _max(plane: Plane) -> NDArray[np.float32]:
    result: NDArray[np.float32] = _split(plane).max((1, 3))
    return result


def _split(plane: Plane, side: int = CELL) -> Plane:
    return plane.reshape(plane.shape[0] // side, side, plane.shape[1] // side, side)


def _least_of_blocks(plane: Plane) -> NDArray[np.float32]:
    """Of every cell the least mean of its blocks."""
    blocks = _split(plane, BLOCK).mean((1, 3))
    result: NDArray[np.float32] = _split(blocks, CELL // BLOCK).min((1, 3))
    return result


def _blockiness(luma: Plane) -> list[NDArray[np.float32]]:
    """Steps at the borders of the grid's blocks and halfway between, and coefficients of its blocks that are zero."""
    phases: list[int] = []
    borders: list[tuple[Plane, Plane]] = []
    for plane in (luma, luma.T):
        excess, _ = grid_strength(plane)
        phase = best_phase(excess)
        phases.append((phase + 2) % BLOCK)
        full = np.pad(excess, ((0, 0), (0, plane.shape[1] - excess.shape[1])))
        index = np.arange(full.shape[1]) % BLOCK
        on, off = (_mean(full * (index == place)) for place in (phase, (phase + 4) % BLOCK))
        borders.append((on, off) if plane is luma else (on.T, off.T))
    left, top = phases
    # Blocks of the grid are put where they nearly are, so that every cell holds four.
    shifted = np.pad(luma, ((0, top), (0, left)), mode="symmetric")[top:, left:]
    blocks = _split(shifted, BLOCK).transpose(0, 2, 1, 3)
    small = np.abs(dctn(blocks, axes=(2, 3), norm="ortho")) < 1
    order = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
    zeros = [small[..., (order >= low) & (order < high)].mean(-1) for low, high in ((3, 7), (7, 15))]
    (on, off), (on_rows, off_rows) = borders
    return [on + on_rows, off + off_rows, *(_split(share, CELL // BLOCK).mean((1, 3)) for share in zeros)]
