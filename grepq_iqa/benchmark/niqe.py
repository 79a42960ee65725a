"""NIQE: distance of an image's patch statistics from those of pristine photographs.

Mittal, Soundararajan, Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal Processing Letters
20(3), 2013. Per 96x96 block, at full and at half size, 18 parameters of (asymmetric) generalized Gaussians fitted to
the locally normalized luma and to its products with four neighbors; with mean and covariance of the blocks (mu, S) and
of the authors' pristine photographs (mu_p, S_p)::

    NIQE = sqrt((mu_p - mu)^T ((S_p + S) / 2)^+ (mu_p - mu))

The pristine model is not ours to ship; `grepq_iqa.benchmark.baselines` finds a copy in an installed package.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grepq_iqa.errors import UsageError

Array = NDArray[np.float64]

BLOCK = 96
_SIGMA, _RADIUS = 7 / 6, 3
_SHAPES = np.arange(0.2, 10.001, 0.001)
# MATLAB's rgb2ycbcr, on which the published numbers rest.
_LUMA, _LUMA_OFFSET = np.array([65.481, 128.553, 24.966]) / 255, 16


def niqe(image: NDArray[np.uint8], mean: Array, covariance: Array) -> float:
    """Distance from the pristine model, about 2 to 10 for photographs; lower is better.

    Args:
        image: RGB ``(H, W, 3)``, both sides at least 96 pixels and room for at least 2 blocks.
        mean: of the pristine model, ``(36,)``.
        covariance: ``(36, 36)``.

    Raises:
        UsageError: the image is too small, or has no two blocks with any detail.
    """
    luma = np.round(np.asarray(image, dtype=np.float64) @ _LUMA + _LUMA_OFFSET)
    features = block_features(luma)
    usable = features[np.isfinite(features).all(axis=1)]
    if len(usable) < 2:
        raise UsageError("NIQE needs two blocks of 96x96 pixels with detail in them")
    # The authors' code takes the mean of every value that is a number, but the covariance of whole rows only.
    difference = np.nanmean(np.where(np.isfinite(features), features, np.nan), axis=0) - mean
    pooled = (covariance + np.cov(usable, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def block_features(luma: Array) -> Array:
    """The 36 parameters of every block of a luma image ``(H, W)`` in [0, 255]; NaN for a block without detail."""
    rows, columns = (side // BLOCK for side in luma.shape)
    luma = luma[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for size in (BLOCK, BLOCK // 2):
        blocks = _normalized(luma).reshape(rows, size, columns, size).swapaxes(1, 2).reshape(-1, size, size)
        scales.append(_parameters(blocks))
        half = Image.fromarray(luma.astype(np.float32))
        luma = np.asarray(half.resize((half.width // 2, half.height // 2), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.hstack(scales)


def _normalized(luma: Array) -> Array:
    from scipy.ndimage import gaussian_filter

    def blur(values: Array) -> Array:
        result: Array = gaussian_filter(values, _SIGMA, mode="nearest", radius=_RADIUS)
        return result

    mean = blur(luma)
    result: Array = (luma - mean) / (np.sqrt(np.abs(blur(luma**2) - mean**2)) + 1)
    return result


def _parameters(blocks: Array) -> Array:
    """18 parameters of each block: of itself, then of its products with four (cyclic) neighbors."""
    from scipy.special import gamma

    shape, left, right = _asymmetric_gaussian(blocks)
    columns = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        columns += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(columns, axis=1)


def _asymmetric_gaussian(blocks: Array) -> tuple[Array, Array, Array]:
    """Shape and left and right scale of the asymmetric generalized Gaussian with each block's moments."""
    from scipy.special import gamma

    ratios = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))  # rises with the shape
    values = blocks.reshape(len(blocks), -1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a flat block becomes NaN, and is left out by the caller
        left, right = (np.sqrt((values**2 * side).sum(axis=1) / side.sum(axis=1)) for side in (values < 0, values > 0))
        skew = left / right
        ratio = np.abs(values).mean(axis=1) ** 2 / (values**2).mean(axis=1)
        wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    above = np.searchsorted(ratios, wanted).clip(1, len(ratios) - 1)
    nearest = above - (wanted - ratios[above - 1] < ratios[above] - wanted)
    shape = np.where(np.isfinite(wanted), _SHAPES[nearest], np.nan)
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
