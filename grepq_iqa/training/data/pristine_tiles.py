"""Pristine patches: which tiles of clean photographs count, and the moments of their features.

See docs/method.md, section 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.data.images import load_image
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.files import write_atomically
from grepq_iqa.zero_shot import Moments

TILE = 96
SHARPNESS_RATIO, COLORFULNESS_RATIO = 0.75, 0.8


def sharpness(tiles: Tensor) -> Tensor:
    """Sum over pixels of the local standard deviation of luma, ``(n,)``, of tiles ``(n, 3, h, w)``.

    Local means are by a 7x7 Gaussian of sigma 7/6, as NIQE's (Mittal et al. 2013).
    """
    luma = (tiles * tiles.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    offsets = torch.arange(-3, 4, dtype=tiles.dtype)
    window = torch.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    kernel = torch.outer(window, window)[None, None] / window.sum() ** 2
    # A tile is padded with zeros, as in the reference implementation: other padding chooses other tiles.
    mean, mean_of_squares = F.conv2d(luma, kernel, padding=3), F.conv2d(luma**2, kernel, padding=3)
    return (mean_of_squares - mean**2).abs().sqrt().sum((1, 2, 3))


def colorfulness(tiles: Tensor) -> Tensor:
    """Standard deviation and mean of the opponent colors, ``(n,)`` (Hasler and Suesstrunk 2003)."""
    r, g, b = tiles.unbind(1)
    red_green, yellow_blue = (r - g).abs().flatten(1), (0.5 * (r + g) - b).abs().flatten(1)
    std = (red_green.std(1) ** 2 + yellow_blue.std(1) ** 2).sqrt()
    return std + (red_green.mean(1) ** 2 + yellow_blue.mean(1) ** 2).sqrt()


def select_tiles(image: Tensor, tile: int = TILE) -> list[tuple[int, int]]:
    """Grid positions (row, column) of the pristine tiles of a photograph ``(3, H, W)``; empty if none fits.

    Tiles sharper than 0.75 of the sharpest, and of those the ones more colorful than 0.8 of the most colorful.
    """
    _, height, width = image.shape
    rows, columns = height // tile, width // tile
    if not rows or not columns:
        return []
    grid = image[:, : rows * tile, : columns * tile].view(3, rows, tile, columns, tile)
    tiles = grid.permute(1, 3, 0, 2, 4).flatten(0, 1)
    sharp = sharpness(tiles)
    kept = torch.nonzero(sharp > SHARPNESS_RATIO * sharp.max()).flatten()
    if not len(kept):
        return []
    color = colorfulness(tiles[kept])
    kept = kept[color > COLORFULNESS_RATIO * color.max()]
    return [divmod(int(index), columns) for index in kept]


def write_tiles(photographs: list[Path], out: Path, on_done: Callable[[int], None] | None = None) -> int:
    """List the pristine tiles in ``out/tiles.json``, photograph to grid positions; returns how many there are."""
    chosen: dict[str, list[tuple[int, int]]] = {}
    for count, path in enumerate(photographs, start=1):
        chosen[str(path)] = select_tiles(load_image(path))
        if on_done:
            on_done(count)
    content = {"tile": TILE, "positions": "row, column of a grid of tiles", "photographs": chosen}
    write_atomically(out / "tiles.json", json.dumps(content, indent=1))
    return sum(map(len, chosen.values()))


@torch.inference_mode()
def pristine_moments(encoder: LowLevelEncoder, photographs: list[Path], *, dense: bool, tile: int = TILE) -> Moments:
    """Moments of the features of all pristine tiles.

    Args:
        dense: take them from the map of the whole photograph, as the model's dense evaluation does; else encode every
            tile by itself.
    """
    moments = Moments(encoder.dim)
    for path in photographs:
        image = load_image(path)
        positions = select_tiles(image, tile)
        if positions:
            moments.update(_tile_features(encoder, image, positions, tile, dense))
    return moments


def _tile_features(
    encoder: LowLevelEncoder, image: Tensor, positions: list[tuple[int, int]], tile: int, dense: bool
) -> NDArray[np.float32]:
    if dense:
        grid = encoder.tiles(image[None].contiguous(memory_format=torch.channels_last), tile)[0]
        features = torch.stack([grid[row, column] for row, column in positions])
    else:
        tiles = [image[:, r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r, c in positions]
        features = encoder(torch.stack(tiles).contiguous(memory_format=torch.channels_last))
    array: NDArray[np.float32] = features.numpy()
    return array
