"""What the regions of a picture are judged by: the projection's own direction, read for parts of the picture.

No human score is used: the direction is the one that good - bad has already, and what is standardized is unlabeled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError


@torch.no_grad()
def fit_regions(tower: PooledEfficientNet, statistics: Tensor, axis: Tensor) -> Tensor:
    """Fill ``tower``'s `RegionContrast`; returns the excess ``(n,)`` of the unlabeled images, now among its features.

    Args:
        tower: with a projection.
        statistics: ``(n, regions, dim)`` of unlabeled images, from `PooledEfficientNet.region_statistics`.
        axis: ``(dim of the embedding,)``, good - bad of unit length.

    Raises:
        UsageError: the tower compares no regions, or one of its regions' stages is not among its layers.
    """
    contrast = tower.region_contrast
    if contrast is None:
        raise UsageError("recipe: region in [high_level] needs region_layers")
    contrast.mean.copy_(statistics.mean((0, 1)))
    contrast.scale.copy_(statistics.std((0, 1)).clamp_min(1e-5))
    contrast.weight.copy_(_weights(tower, tower.projection.weight.T @ axis))
    contrast.weight.div_(contrast.quality(statistics).std().clamp_min(1e-12))
    excess = contrast.excess(statistics)[:, 0]
    tower.pool_mean[tower.region_features] = excess.mean()
    tower.pool_scale[tower.region_features] = excess.std().clamp_min(1e-5)
    return excess


def _weights(tower: PooledEfficientNet, direction: Tensor) -> Tensor:
    """Of the regions' statistics: what ``direction (feature_dim,)`` makes of the whole picture's, however pooled."""
    missing = set(tower.region_layers) - set(tower.layers)
    if missing:
        raise UsageError(f"recipe: region_layers {sorted(missing)} are not among the layers")
    blocks = dict(zip(tower.layers, torch.split(direction, tower.block_sizes), strict=False))
    poolings = len(tower.poolings)
    return torch.cat([blocks[layer].reshape(poolings, -1).sum(0) for layer in tower.region_layers])
