"""Sharpness, colorfulness and choice of pristine tiles against a slow version of docs/method.md, section 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from grepq_iqa.data.images import load_image
from grepq_iqa.training.data.pristine_tiles import colorfulness, select_tiles, sharpness


def slow_sharpness(tile: np.ndarray) -> float:
    luma = 0.2989 * tile[0] + 0.587 * tile[1] + 0.114 * tile[2]
    window = np.array([[np.exp(-(x**2 + y**2) / (2 * (7 / 6) ** 2)) for x in range(-3, 4)] for y in range(-3, 4)])
    window /= window.sum()
    mean, squares = (convolve(plane, window, mode="constant", cval=0) for plane in (luma, luma**2))
    return float(np.sqrt(np.abs(squares - mean**2)).sum())


def slow_colorfulness(tile: np.ndarray) -> float:
    a, b = np.abs(tile[0] - tile[1]).ravel(), np.abs(0.5 * (tile[0] + tile[1]) - tile[2]).ravel()
    n = len(a)
    variance = [((x - x.sum() / n) ** 2).sum() / (n - 1) for x in (a, b)]
    return float(np.sqrt(sum(variance)) + np.sqrt((a.sum() / n) ** 2 + (b.sum() / n) ** 2))


@pytest.fixture(scope="module")
def tiles(photos) -> np.ndarray:
    image = load_image(photos[1]).double().numpy()
    rows, columns = image.shape[1] // 96, image.shape[2] // 96
    return np.stack([image[:, 96 * r : 96 * r + 96, 96 * c : 96 * c + 96] for r in range(rows) for c in range(columns)])


def test_both_measures_equal_the_slow_version(tiles):
    some = tiles[:: max(1, len(tiles) // 12)]
    found = sharpness(torch.from_numpy(some)), colorfulness(torch.from_numpy(some))
    np.testing.assert_allclose(found[0], [slow_sharpness(tile) for tile in some], rtol=1e-6)
    np.testing.assert_allclose(found[1], [slow_colorfulness(tile) for tile in some], rtol=1e-6)


def test_tiles_are_those_of_the_slow_rule(tiles, photos):
    sharp = np.array([slow_sharpness(tile) for tile in tiles])
    kept = np.flatnonzero(sharp > 0.75 * sharp.max())
    colorful = np.array([slow_colorfulness(tiles[i]) for i in kept])
    wanted = kept[colorful > 0.8 * colorful.max()]
    image = load_image(photos[1])
    assert select_tiles(image) == [divmod(int(i), image.shape[2] // 96) for i in wanted]


def test_a_bright_border_is_sharp(tiles):
    """Zeros around a tile: a flat bright one is not flat at its border."""
    flat = torch.full((1, 3, 96, 96), 0.9)
    assert sharpness(flat) > 50 > sharpness(flat * 0.01)
