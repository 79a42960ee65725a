"""Regions' contrast and leading components: against slow versions, on odd sizes, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.regions import GRID, SOFTNESS, RegionContrast, region_mean_and_std
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.pictures import read_picture
from grepq_iqa.training.high_level.components import leading_part
from grepq_iqa.training.high_level.regions import fit_regions


def slow_regions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in every region, each pixel of ``(C, h, w)`` counted by the share of it that is inside."""
    channels, height, width = x.shape
    means, stds = np.zeros((channels, GRID * GRID)), np.zeros((channels, GRID * GRID))
    for region in range(GRID * GRID):
        row, column = divmod(region, GRID)
        top, bottom = row * height / GRID, (row + 1) * height / GRID
        left, right = column * width / GRID, (column + 1) * width / GRID
        weight = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                rows = max(0, min(i + 1, bottom) - max(i, top))
                weight[i, j] = rows * max(0, min(j + 1, right) - max(j, left))
        weight /= weight.sum()
        means[:, region] = (x * weight).sum((1, 2))
        stds[:, region] = np.sqrt(((x - means[:, region, None, None]) ** 2 * weight).sum((1, 2)))
    return means, stds


@given(st.integers(1, 23), st.integers(1, 23), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_statistics_of_regions_are_those_of_a_loop_over_pixels(height, width, seed):
    x = np.random.default_rng(seed).normal(3, 2, (2, height, width)).astype(np.float32)
    found = region_mean_and_std(torch.from_numpy(x)[None])
    for fast, slow in zip(found, slow_regions(x.astype(np.float64)), strict=True):
        np.testing.assert_allclose(fast[0].numpy(), slow, atol=2e-3)


def test_excess_is_the_soft_maximum_beyond_the_mean_and_nothing_for_a_picture_that_is_the_same_everywhere():
    torch.manual_seed(0)
    contrast = RegionContrast([3])
    contrast.mean.normal_()
    contrast.scale.uniform_(0.5, 2)
    contrast.weight.normal_()
    x = torch.randn(2, 3, 20, 26)
    z = ((contrast.statistics([x]) - contrast.mean) / contrast.scale).clamp(-4, 4)
    quality = (z @ contrast.weight).numpy().astype(np.float64)
    slow = np.log(np.exp(SOFTNESS * quality).mean(1)) / SOFTNESS - quality.mean(1)
    np.testing.assert_allclose(contrast([x])[:, 0].numpy(), slow, rtol=1e-4)
    same = x[:1, :, :1, :1].expand(1, 3, 24, 24)
    assert float(contrast([same])) == pytest.approx(0, abs=1e-5)


def test_the_excess_rises_when_the_ground_is_blurred_and_falls_when_all_is(photos):
    """What it is for: shallow depth of field is no blur."""
    tower, _ = fitted_tower(photos)
    picture = read_picture(photos[1])
    blurred = ndimage.gaussian_filter(picture, (4, 4, 0))
    inside = np.zeros(picture.shape[:2], np.float32)
    height, width = inside.shape
    inside[height // 4 : -height // 4, width // 4 : -width // 4] = 1
    inside = ndimage.gaussian_filter(inside, 12)[..., None]
    views = [picture, inside * picture + (1 - inside) * blurred, blurred]
    with torch.no_grad():
        excess = [float(tower.pooled(as_input(view))[0, tower.region_features]) for view in views]
    assert excess[1] > excess[0] and excess[1] > 1.2 * excess[2]


def as_input(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float() * 2 - 1


def fitted_tower(photos) -> tuple[PooledEfficientNet, torch.Tensor]:
    """The bundled tower, whose regions are judged by the sharpness of three stages."""
    from grepq_iqa.weights import resolve
    from grepq_iqa.weights.loading import load_components

    found = resolve("compact")
    stored = load_components(found.name, found.files).high_level.tower
    torch.manual_seed(0)
    tower = PooledEfficientNet((2, 3, 4), 8, head=False, region_contrast={"layers": [2, 3, 4]}).eval()
    known = {key: value for key, value in stored.state_dict().items() if key.startswith(("stem.", "stages."))}
    tower.load_state_dict(known, strict=False)
    axis = torch.nn.functional.one_hot(torch.tensor(0), 8).float()
    with torch.no_grad():
        tower.projection.weight.zero_()
        start = 0
        for size in tower.block_sizes[:3]:
            tower.projection.weight[0, start + size // 2 : start + size] = 1  # deviations
            start += size
        statistics = torch.cat([tower.region_statistics(as_input(read_picture(photo))) for photo in photos])
        fit_regions(tower, statistics, axis)
    return tower, axis


def test_regions_are_fitted_on_what_is_given(photos):
    tower, axis = fitted_tower(photos)
    with torch.no_grad():
        statistics = torch.cat([tower.region_statistics(as_input(read_picture(photo))) for photo in photos])
        excess = torch.stack([tower.pooled(as_input(read_picture(photo)))[0, -1] for photo in photos])
    contrast = tower.region_contrast
    assert float(contrast.quality(statistics).std()) == pytest.approx(1, rel=1e-4)
    assert float(tower.pool_mean[-1]) == pytest.approx(float(excess.mean()), rel=1e-3)
    assert float(tower.pool_scale[-1]) == pytest.approx(float(excess.std()), rel=1e-3)
    assert tower.region_features == slice(tower.feature_dim - 1, tower.feature_dim)
    with pytest.raises(UsageError, match="region_layers"):
        fit_regions(PooledEfficientNet((2,), 8), statistics, axis)
    with pytest.raises(UsageError, match=r"region_layers \[3\] are not among the layers"):
        fit_regions(PooledEfficientNet((2,), 8, region_contrast={"layers": [3]}), statistics[..., :160], axis)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_leading_part_is_the_regression_on_principal_components(count):
    rng = np.random.default_rng(count)
    sizes = [6, 10]
    z = rng.normal(size=(40, 16)) @ rng.normal(size=(16, 16))
    target = z @ rng.normal(size=16) + 3
    weights, offset = leading_part(torch.from_numpy(z).float(), sizes, torch.from_numpy(target).float(), count)
    scaled = z / np.repeat(np.sqrt(sizes), sizes)
    centered = scaled - scaled.mean(0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    scores = centered @ vectors[:, np.argsort(values)[::-1][:count]]
    slow = scores @ np.linalg.lstsq(scores, target - target.mean(), rcond=None)[0] + target.mean()
    np.testing.assert_allclose(z @ weights.numpy() + offset, slow, atol=2e-2)
