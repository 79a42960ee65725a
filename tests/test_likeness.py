"""Likeness to pristine photographs: the regression by its formula, and what pictures it is learned from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.severity_series import MIXTURES, SERIES_SEVERITIES
from grepq_iqa.training.high_level import projection
from grepq_iqa.training.high_level.components import leading_components
from grepq_iqa.training.high_level.distortion_head import OUTPUTS
from grepq_iqa.training.high_level.likeness import PENALTY, clean_copies, likeness_direction, taught_direction
from grepq_iqa.training.high_level.pooled_features import PooledSeries
from grepq_iqa.training.high_level.projection import ProjectionRecipe, train_projection

SIZES = [6, 10]


def slow_direction(pristine: np.ndarray, unlabeled: np.ndarray, count: int) -> np.ndarray:
    """Weights by eigenvectors of the covariance and plain minimization of the penalized, balanced loss."""
    equal = np.concatenate([np.full(size, size**-0.5) for size in SIZES])
    mean = unlabeled.mean(0)
    _, vectors = np.linalg.eigh(np.cov(((unlabeled - mean) * equal).T))
    basis = vectors[:, ::-1][:, :count]
    scores = np.concatenate([(x - mean) * equal @ basis for x in (pristine, unlabeled)])
    scores = scores / scores.std()
    sign = np.repeat([1, -1], [len(pristine), len(unlabeled)])
    each = np.repeat([0.5 / len(pristine), 0.5 / len(unlabeled)], [len(pristine), len(unlabeled)]) * len(sign)

    def loss(parameters: np.ndarray) -> float:
        margin = sign * (scores @ parameters[:-1] + parameters[-1])
        return PENALTY * float(each @ np.logaddexp(0, -margin)) + float(parameters[:-1] @ parameters[:-1]) / 2

    found = minimize(loss, np.zeros(count + 1), method="BFGS", options={"gtol": 1e-7})
    weights = equal * (basis @ found.x[:-1])
    return weights / (unlabeled @ weights).std(ddof=1)


@pytest.mark.parametrize("count", [1, 5, 16])
def test_the_direction_is_the_penalized_logistic_regression_on_leading_components(count):
    rng = np.random.default_rng(count)
    unlabeled = rng.normal(size=(120, 16)) @ np.diag(np.linspace(3, 0.5, 16))
    pristine = rng.normal(0.4, 1.2, size=(40, 16))
    clean, wild = torch.from_numpy(pristine).float(), torch.from_numpy(unlabeled).float()
    weights, offset = likeness_direction(clean, wild, wild, leading_components(wild, SIZES, count))
    np.testing.assert_allclose(weights.numpy(), slow_direction(pristine, unlabeled, count), atol=2e-3)
    likeness_of = unlabeled @ weights.numpy() + offset
    assert likeness_of.mean() == pytest.approx(0, abs=1e-4) and likeness_of.std(ddof=1) == pytest.approx(1, abs=1e-4)
    assert (pristine @ weights.numpy() + offset).mean() > 0


def test_the_second_round_learns_from_the_best_and_the_worse_half_of_the_first():
    rng = np.random.default_rng(0)
    wild = torch.from_numpy(rng.normal(size=(100, 16))).float()
    clean = torch.from_numpy(rng.normal(0.4, 1, size=(30, 16))).float()
    quality = wild[:, 0] * 5
    leading = leading_components(wild, SIZES, 6)
    first, offset = likeness_direction(clean, wild, wild, leading)
    known = (quality / quality.std() + 0.25 * (wild @ first + offset)).numpy()
    order = np.argsort(known)
    want = likeness_direction(torch.cat([clean, wild[order[70:]]]), wild[order[:50]], wild, leading)
    found = taught_direction(clean, wild, quality, SIZES, 6)
    torch.testing.assert_close(found[0], want[0], atol=1e-4, rtol=1e-3)
    assert found[1] == pytest.approx(want[1], abs=1e-4)
    agreement = [np.corrcoef(wild @ weights, quality)[0, 1] for weights in (first, found[0])]
    assert agreement[1] > agreement[0] + 0.2


def test_clean_copies_are_good_files_of_parts_and_the_same_every_time(photos):
    first, again = (list(clean_copies(photos[:2], 2, seed=3)) for _ in range(2))
    assert len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other) and one.shape[0] == 3 and max(one.shape[1:]) <= 512
        assert one.min() >= 0 and one.max() <= 1 and torch.equal(one, (one * 255).round() / 255)
    assert not torch.equal(first[0][:, :64, :64], first[1][:, :64, :64])
    other_seed = next(clean_copies(photos[:1], 1, seed=4))
    assert other_seed.shape != first[0].shape or not torch.equal(other_seed, first[0])


RECIPE = ProjectionRecipe(
    **dict.fromkeys(("clutter", "distortion", "captions", "gcl"), 0.0), model="tf_efficientnet_lite0", layers=[2],
    center_weighted=False, head=False, severity_series=1, crop=32, unlabeled_images=4, steps=1, batch_series=1,
    learning_rate=1e-3, weight_decay=0.0, dropout=0.0, across=0.0, neighbors=0.0, caption_temperature=0.07, gcl_batch=1,
    gcl_extremes=1, gcl_temperature=0.5, margin=1.0, seed=0, likeness=0.25,
)  # fmt: skip


def test_projection_says_what_likeness_needs(tmp_path):
    tower = PooledEfficientNet((2,), 384)
    pooled = torch.randn(8, tower.feature_dim)
    with pytest.raises(UsageError, match="likeness in"):
        train_projection(tower, one_series(tower.feature_dim), pooled, RECIPE, tmp_path)
    train_projection(tower, one_series(tower.feature_dim), pooled, RECIPE, tmp_path / "again", pristine=pooled + 1)


def test_likeness_is_taught_by_all_that_is_known_of_images_regions_included(tmp_path, monkeypatch):
    """Unlabeled images are pooled before there is anything to compare regions by; that number comes later."""
    told = {}

    def note(pristine, unlabeled, quality, sizes, count):
        told["quality"] = quality.detach()
        return torch.zeros(unlabeled.shape[1]), 0.0

    monkeypatch.setattr(projection, "taught_direction", note)
    torch.manual_seed(0)
    tower = PooledEfficientNet((2, 3), 384, region_contrast={"layers": [2, 3]})
    pooled = torch.randn(12, tower.feature_dim)
    pooled[:, -1] = 0
    tower.set_standardization(pooled)
    regions = torch.randn(12, 36, tower.region_contrast.mean.shape[0]) * torch.linspace(0.5, 3, 12)[:, None, None]
    recipe = dataclasses.replace(RECIPE, layers=[2, 3], likeness=0.5, region=2.0, region_layers=[2, 3])
    train_projection(tower, one_series(tower.feature_dim), pooled, recipe, tmp_path, regions=regions, pristine=pooled)
    excess = tower.region_contrast.excess(regions)[:, 0]
    assert abs(np.corrcoef(told["quality"], excess)[0, 1]) > 0.5


def test_a_constant_part_is_at_a_right_angle_to_prompts_and_leaves_the_order():
    rng = np.random.default_rng(0)
    embeddings = torch.from_numpy(rng.normal(1, 1, size=(50, 12))).float()
    prompts = torch.from_numpy(rng.normal(size=(4, 12))).float()
    part = projection.constant_part(embeddings, prompts, 3.0)
    assert part.norm() == pytest.approx(3 * float(embeddings.norm(dim=1).mean()), rel=1e-5)
    torch.testing.assert_close(prompts @ part, torch.zeros(4), atol=1e-4, rtol=0)
    axis = prompts[0] - prompts[1]
    lengths = (embeddings + part).norm(dim=1)
    assert float(lengths.std() / lengths.mean()) < float(embeddings.norm(dim=1).std() / embeddings.norm(dim=1).mean())
    torch.testing.assert_close((embeddings + part) @ axis, embeddings @ axis, atol=1e-3, rtol=1e-4)


def one_series(dim: int) -> PooledSeries:
    steps = [[], *([("jpeg", severity)] for severity in SERIES_SEVERITIES), *([("jpeg", 1)] for _ in range(MIXTURES))]
    return PooledSeries(torch.randn(1, len(steps), dim), [steps], torch.tensor([True]))


def test_what_a_family_of_distortions_costs_is_the_only_change(tmp_path):
    """So many standard deviations of good - bad for one of the amount; no other feature counts differently."""
    outputs = list(OUTPUTS)
    tower = PooledEfficientNet((2,), 384, distortion_head={"start": 5, "outputs": outputs}).requires_grad_(False)
    pooled = torch.randn(64, tower.feature_dim, generator=torch.Generator().manual_seed(0))
    tower.set_standardization(pooled)
    series = one_series(tower.feature_dim)

    def trained(costs: dict[str, float]) -> tuple[np.ndarray, float]:
        recipe = dataclasses.replace(RECIPE, likeness=0.0, family_costs=costs)
        prompts = train_projection(tower, series, pooled, recipe, tmp_path / str(len(list(tmp_path.iterdir()))))
        axis = torch.nn.functional.normalize(prompts["good"] - prompts["bad"], dim=0)
        return (tower.projection.weight.T @ axis).numpy(), float((tower.project(pooled) @ axis).std())

    plain, spread = trained({})
    costly, _ = trained({"motion_blur": 0.5})
    index = tower.distortion_features.start + outputs.index("motion_blur")
    amount = tower.standardize(pooled)[:, index].std()
    changed = np.zeros_like(plain)
    changed[index] = -0.5 * spread / float(amount)
    np.testing.assert_allclose(costly - plain, changed, atol=1e-4 * abs(changed[index]))
    with pytest.raises(UsageError, match=r"no family snow; known: gaussian_blur, defocus"):
        trained({"snow": 1.0})
    headless = PooledEfficientNet((2,), 384)
    with pytest.raises(UsageError, match="need a section"):
        recipe = dataclasses.replace(RECIPE, likeness=0.0, family_costs={"jpeg": 0.1})
        train_projection(
            headless, one_series(headless.feature_dim), pooled[:, : headless.feature_dim], recipe, tmp_path
        )
