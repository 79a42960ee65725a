"""Scores against docs/method.md section 2 written again, slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grepq_iqa.data.patches import iter_patches, patch_grid, reflect_up_to
from grepq_iqa.zero_shot import (
    Moments,
    center_weights,
    cosine,
    distance_to_pristine,
    high_level_quality,
    low_level_quality,
    own_share,
    weighted_median,
)


def slow_patches(image: np.ndarray, size: int, stride: int) -> list[np.ndarray]:
    _, height, width = image.shape
    return [
        image[:, y : y + size, x : x + size]
        for y in range(0, height - size + 1, stride)
        for x in range(0, width - size + 1, stride)
    ]


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 300), (500, 500), (143, 144), (240, 96)])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_patches_are_those_of_a_double_loop(height, width, chunk):
    image = torch.arange(3 * height * width, dtype=torch.float32).view(3, height, width)
    fast = torch.cat(list(iter_patches(image, 96, 48, chunk)))
    slow = np.stack(slow_patches(image.numpy(), 96, 48))
    assert len(fast) == ((height - 96) // 48 + 1) * ((width - 96) // 48 + 1)
    np.testing.assert_array_equal(fast.numpy(), slow)


def test_a_500_pixel_image_has_81_patches():
    assert sum(len(chunk) for chunk in iter_patches(torch.zeros(3, 500, 500), 96, 48)) == 81


@pytest.mark.parametrize("shape", [(1, 1), (5, 200), (95, 96), (40, 3), (200, 300)])
def test_reflection_reaches_the_side_and_keeps_the_picture(shape):
    image = torch.rand(3, *shape)
    padded = reflect_up_to(image, 96)
    assert padded.shape == (3, max(96, shape[0]), max(96, shape[1]))
    y, x = (96 - shape[0]) // 2 if shape[0] < 96 else 0, (96 - shape[1]) // 2 if shape[1] < 96 else 0
    torch.testing.assert_close(padded[:, y : y + shape[0], x : x + shape[1]], image)
    assert padded.min() >= image.min() and padded.max() <= image.max()


vectors = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 40), st.just(6)), elements=st.floats(-1e3, 1e3, allow_nan=False, width=32)
)


@settings(deadline=None)
@given(vectors, st.integers(1, 13))
def test_moments_in_chunks_equal_numpy_at_once(x, chunk):
    moments = Moments(6)
    for start in range(0, len(x), chunk):
        moments.update(x[start : start + chunk])
    scale = 1 + np.abs(x).max() ** 2
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-9 * scale)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), atol=1e-9 * scale)


@settings(deadline=None)
@given(vectors, st.integers(1, 13), st.integers(0, 2**31))
def test_weighted_moments_equal_numpy_of_repeated_vectors(x, chunk, seed):
    weights = np.random.default_rng(seed).integers(1, 5, len(x))
    moments = Moments(6)
    for start in range(0, len(x), chunk):
        moments.update(x[start : start + chunk], 0.25 * weights[start : start + chunk])
    scale = 1 + np.abs(x).max() ** 2
    repeated = np.repeat(x, weights, axis=0)
    np.testing.assert_allclose(moments.mean, repeated.mean(0), atol=1e-9 * scale)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T, aweights=weights), atol=1e-9 * scale)
    assert moments.count == len(x) and moments.effective_count == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_weights_are_largest_in_the_middle_and_alike_around_it():
    grid = center_weights(5, 3, 0.8).reshape(5, 3)
    assert grid[2, 1] == grid.max() == 1 and grid[0, 0] == pytest.approx(np.exp(-2 / 2 / 0.64))
    np.testing.assert_allclose(grid, grid[::-1, ::-1])
    assert center_weights(1, 1, 0.1).tolist() == [1]
    assert np.ptp(center_weights(4, 4, 1e6)) < 1e-9


@given(st.integers(96, 500), st.integers(96, 500), st.sampled_from([32, 48]))
def test_the_grid_has_as_many_patches_as_there_are(height, width, stride):
    image = np.zeros((3, height, width), np.float32)
    rows, columns = patch_grid(height, width, 96, stride, dense=False)
    assert rows * columns == sum(len(patches) for patches in iter_patches(image, 96, stride))
    cells = [math.ceil(side / 32) for side in (height, width)]
    assert patch_grid(height, width, 96, 32, dense=True) == tuple(n - 2 for n in cells)


@pytest.mark.parametrize("share", [None, 0.0, 0.9, 1.0])
def test_distance_equals_the_formula_with_an_explicit_inverse(share):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 8)), rng.normal(1, 2, size=(70, 8))
    mu_t, mu_p, s_t, s_p = a.mean(0), b.mean(0), np.cov(a.T), np.cov(b.T)
    pooled = (s_p + s_t) / 2 if share is None else share * s_t + (1 - share) * s_p
    inverse = np.linalg.inv(pooled + 0.001 * np.eye(8))
    slow = 0.0
    for i in range(8):
        for j in range(8):
            slow += (mu_p[i] - mu_t[i]) * inverse[i, j] * (mu_p[j] - mu_t[j])
    given = {} if share is None else {"own_share": share}
    assert distance_to_pristine(mu_t, s_t, mu_p, s_p, **given) == pytest.approx(math.sqrt(slow), rel=1e-10)


def test_distances_of_patches_are_those_of_each_by_itself():
    rng = np.random.default_rng(1)
    patches, cov, mean, pristine = (
        rng.normal(size=(9, 5)),
        np.cov(rng.normal(size=(5, 30))),
        rng.normal(size=5),
        np.eye(5),
    )
    found = distance_to_pristine(patches, cov, mean, pristine, 0.5, 0.8)
    inverse = np.linalg.inv(0.8 * cov + 0.2 * pristine + 0.5 * np.eye(5))
    np.testing.assert_allclose(found, [math.sqrt((mean - one) @ inverse @ (mean - one)) for one in patches])
    assert distance_to_pristine(patches[3], cov, mean, pristine, 0.5, 0.8) == pytest.approx(found[3])


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e6)), st.integers(0, 2**31))
def test_the_weighted_median_is_the_one_of_repeated_values_and_lies_among_them(values, seed):
    assert weighted_median(values) == np.median(values)
    near = 1e-9 * (1 + values.max())
    assert weighted_median(values, np.full(len(values), 0.3)) == pytest.approx(np.median(values), abs=near)
    weights = np.random.default_rng(seed).integers(1, 6, len(values))
    median, repeated = weighted_median(values, weights / 7), np.sort(np.repeat(values, weights))
    assert values.min() <= median <= values.max()
    # The line through the middles of weights leaves the repeated values' median by one distinct value at most.
    distinct = np.unique(values)
    at = np.searchsorted(distinct, np.median(repeated))
    assert distinct[max(0, at - 1)] <= median <= distinct[min(len(distinct) - 1, at + 1)]
    assert weighted_median(values[::-1], weights[::-1]) == pytest.approx(median, abs=near)


@given(st.integers(0, 10_000), st.none() | st.floats(1e-3, 1e6))
def test_the_own_share_of_a_picture_grows_with_its_patches(patches, prior):
    share = own_share(patches, prior)
    assert share == 0.5 if prior is None else share == pytest.approx(1 - prior / (patches + prior))
    assert 0 <= share <= own_share(patches + 1, prior) <= 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_patches_never_give_nan(count):
    moments = Moments(128).update(np.random.default_rng(0).normal(size=(count, 128)))
    distance = distance_to_pristine(moments.mean, moments.covariance, np.zeros(128), np.eye(128))
    assert math.isfinite(distance) and 0 < low_level_quality(distance) <= 0.5


def test_qualities_equal_the_formulas_and_stay_finite():
    assert low_level_quality(37.0) == pytest.approx(1 - 1 / (1 + math.exp(-0.37)))
    assert low_level_quality(0) == 0.5 and low_level_quality(1e9) == 0
    f, good, bad = np.array([1.0, 2.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    want = 1 / (1 + math.exp(-10 * (1 - 2) / math.sqrt(5)))
    assert high_level_quality(f, good, bad) == pytest.approx(want)
    assert high_level_quality(np.zeros(2), good, bad) == 0.5
    assert cosine(np.zeros(2), good) == 0


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_low_level_quality_falls_with_distance(a, b):
    near, far = sorted((a, b))
    assert low_level_quality(near) >= low_level_quality(far)
