"""Statistics of maps against NumPy's, and their gradients where a map is flat, as that of a dead channel is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grepq_iqa.encoders.pooling import CENTER_STD, center_weighted_mean_and_std, mean_and_std


def by_hand(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = (x * weight).sum((2, 3)) / weight.sum()
    return mean, np.sqrt((((x - mean[..., None, None]) ** 2) * weight).sum((2, 3)) / weight.sum())


def test_mean_and_std_are_those_of_numpy():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    down, across = np.linspace(-1, 1, 5)[:, None], np.linspace(-1, 1, 4)
    center = np.exp(-((down / CENTER_STD) ** 2 + (across / CENTER_STD) ** 2) / 2)
    for pool, weight in ((mean_and_std, np.ones((5, 4))), (center_weighted_mean_and_std, center)):
        for found, wanted in zip(pool(torch.from_numpy(x)), by_hand(x, weight), strict=True):
            np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("pool", [mean_and_std, center_weighted_mean_and_std])
def test_a_flat_map_has_no_deviation_and_a_finite_gradient(pool):
    """The root's slope is infinite at 0: a training on crops of which one map is flat became NaN."""
    x = torch.rand(1, 3, 4, 4)
    x[:, 0], x[:, 1] = 0, 0.25
    for picture in (x, x[..., :1, :1]):
        picture = picture.clone().requires_grad_()
        mean, std = pool(picture)
        np.testing.assert_allclose(std[0, :2].detach().numpy(), 0, atol=1e-6)
        (mean.sum() + std.sum()).backward()
        assert picture.grad.isfinite().all()
