"""The compact model's high-level encoder: pooled statistics of an EfficientNet's maps, and their linear projection.

Mean and standard deviation of several feature maps, standardized, go through one linear layer into the space of a
sentence encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.distortion_head import DistortionHead
from grepq_iqa.encoders.efficientnet_lite import build_lite0
from grepq_iqa.encoders.high_level_output import HighLevelOutput
from grepq_iqa.encoders.pooling import center_weighted_mean_and_std, mean_and_std, out_channels, standardize
from grepq_iqa.encoders.projection import STATISTICS_CLIP
from grepq_iqa.encoders.regions import RegionContrast
from grepq_iqa.errors import UsageError

MODEL = "tf_efficientnet_lite0"
"""timm's name of the one EfficientNet that is built here."""


class PooledEfficientNet(nn.Module):
    """Mean and standard deviation of the maps after several stages of EfficientNet-Lite0, and their projection.

    With ``head`` the mean of the last map before the classifier joins them: what the picture shows. With
    ``distortion_head`` a :class:`~grepq_iqa.encoders.distortion_head.DistortionHead`, which goes its own way from one
    of the maps, adds its amounts. With ``region_contrast`` a :class:`~grepq_iqa.encoders.regions.RegionContrast` adds
    how much the best regions of the picture exceed the whole.

    The statistics are standardized with ``pool_mean`` and ``pool_scale``, which training measures on unlabeled
    in-the-wild images, and clipped to +-``CLIP``.

    Args:
        layers: indices of stages, ascending; what follows the last one that is needed is not even built.
        dim: length of the embedding.
        model: `MODEL`.
        center_weighted: pool layers a second time, center-weighted.
        head: pool the map that ImageNet's classifier pools, too.
        distortion_head: ``start``, the first stage that is copied, and ``outputs``, the names of the amounts; None
            has none.
        region_contrast: ``layers``, the stages whose maps it looks at; None has none.

    Attributes:
        block_sizes: number of features of every block in order: each layer's means and standard deviations (then the
            center-weighted ones), the head's means, the amounts of distortion, and the contrast of regions.
        head_features, distortion_features, region_features: where those stand; empty slices without them.

    Raises:
        UsageError: another model.
    """

    CLIP = STATISTICS_CLIP
    pool_mean: Tensor
    pool_scale: Tensor

    def __init__(
        self,
        layers: tuple[int, ...],
        dim: int,
        *,
        model: str = MODEL,
        center_weighted: bool = False,
        head: bool = False,
        distortion_head: dict[str, Any] | None = None,
        region_contrast: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if model != MODEL:
            raise UsageError(
                f"config.json: the high-level model {model!r} is not {MODEL}; other EfficientNets were built by "
                "grepq-iqa 0.1 through timm: use that version, or train again"
            )
        stem, stages, last = build_lite0()
        self.stem = stem
        self.distortion_start = distortion_head["start"] if distortion_head else 0
        self.distortion_head = (
            DistortionHead(stages[self.distortion_start :], len(distortion_head["outputs"]))
            if distortion_head
            else None
        )
        self.region_layers = tuple(sorted(region_contrast["layers"])) if region_contrast else ()
        last_pooled = max((*layers, *self.region_layers))
        self.stages = nn.ModuleList(stages if head else stages[: max(self.distortion_start, last_pooled + 1)])
        self.head = last if head else None
        self.layers, self.dim = tuple(sorted(layers)), dim
        self.poolings = (mean_and_std, center_weighted_mean_and_std) if center_weighted else (mean_and_std,)
        of_layers = [2 * len(self.poolings) * out_channels(self.stages[layer]) for layer in self.layers]
        of_head = [out_channels(last)] if head else []
        of_distortions = [self.distortion_head.outputs] if self.distortion_head else []
        self.region_contrast = (
            RegionContrast([out_channels(stages[layer]) for layer in self.region_layers]) if region_contrast else None
        )
        of_regions = [1] if region_contrast else []
        self.block_sizes = of_layers + of_head + of_distortions + of_regions
        self.feature_dim = sum(self.block_sizes)
        self.head_features = slice(sum(of_layers), sum(of_layers + of_head))
        self.distortion_features = slice(self.head_features.stop, self.head_features.stop + sum(of_distortions))
        self.region_features = slice(self.distortion_features.stop, self.feature_dim)
        self.register_buffer("pool_mean", torch.zeros(self.feature_dim))
        self.register_buffer("pool_scale", torch.ones(self.feature_dim))
        self.projection = nn.Linear(self.feature_dim, dim)

    def pooled(self, x: Tensor) -> Tensor:
        """``(B, feature_dim)``, the blocks of ``block_sizes`` side by side."""
        statistics: list[Tensor] = []
        amounts: list[Tensor] = []
        of_regions: list[Tensor] = []
        for passed, feature_map in enumerate(self.maps(x)):
            if passed - 1 in self.layers:
                statistics += [part for pool in self.poolings for part in pool(feature_map)]
            if passed - 1 in self.region_layers:
                of_regions.append(feature_map)
            if self.distortion_head is not None and passed == self.distortion_start:
                amounts = [self.distortion_head(feature_map)]
        if self.head is not None:
            statistics.append(self.head(feature_map).float().flatten(2).mean(2))
        if self.region_contrast is not None:
            amounts.append(self.region_contrast(of_regions))
        return torch.cat(statistics + amounts, dim=1)

    def distortion_map(self, x: Tensor) -> Tensor:
        """The map that the distortion head starts from, without the stages that it does not need."""
        return next(islice(self.maps(x), self.distortion_start, None))

    def region_statistics(self, x: Tensor) -> Tensor:
        """What the regions' quality is judged by, ``(B, regions, dim)``; needs ``region_contrast``."""
        assert self.region_contrast is not None
        maps = [x for passed, x in enumerate(self.maps(x)) if passed - 1 in self.region_layers]
        return self.region_contrast.statistics(maps)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """What the stem and then every stage make of ``x``, one at a time: a large picture's need much memory."""
        x = self.stem(x)
        yield x
        for stage in self.stages:
            x = stage(x)
            yield x

    def set_standardization(self, unlabeled: Tensor) -> None:
        """Standardize from now on by the statistics ``(n, feature_dim)`` of unlabeled in-the-wild images."""
        self.pool_mean.copy_(unlabeled.mean(0))
        self.pool_scale.copy_(unlabeled.std(0).clamp_min(1e-5))

    def standardize(self, pooled: Tensor) -> Tensor:
        """Pooled statistics in units of their standard deviation over unlabeled in-the-wild images, clipped."""
        return standardize(pooled, self.pool_mean, self.pool_scale, self.CLIP)

    def project(self, pooled: Tensor) -> Tensor:
        """Embedding ``(B, dim)`` of pooled statistics."""
        with torch.autocast(pooled.device.type, enabled=False):  # thousands of terms add up, so bfloat16 would show
            embedding: Tensor = self.projection(self.standardize(pooled))
        return embedding

    def forward(self, x: Tensor) -> HighLevelOutput:
        """Normalized images ``(B, 3, H, W)``; the features are the pooled statistics."""
        pooled = self.pooled(x)
        return HighLevelOutput(self.project(pooled), pooled)
