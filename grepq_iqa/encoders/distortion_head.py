"""A second copy of a tower's later stages, trained to see distortions, and what it says of a picture.

A tower trained to recognize things has learned to ignore mild distortions; the copy has unlearned that. From the pooled
statistics of its stages one linear layer tells a few named amounts: how far a picture is from an undistorted one, and
how severe each family of distortions is. ``grepq_iqa.training.high_level.distortion_head`` trains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.pooling import mean_and_std, out_channels, standardize


class DistortionHead(nn.Module):
    """The map ``(B, C, h, w)`` where the copied stages start to amounts of distortion ``(B, outputs)``.

    Statistics are standardized with ``mean`` and ``scale``, those of unlabeled in-the-wild images before training, and
    clipped to +-``CLIP``.

    Args:
        stages: to copy; the originals stay as they are.
        outputs: number of amounts.
    """

    CLIP = 5.0
    mean: Tensor
    scale: Tensor

    def __init__(self, stages: Iterable[nn.Module], outputs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(deepcopy(stage) for stage in stages)
        dim = sum(2 * out_channels(stage) for stage in self.stages)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.linear = nn.Linear(dim, outputs)

    @property
    def outputs(self) -> int:
        """How many amounts there are."""
        return self.linear.out_features

    def pooled(self, x: Tensor) -> Tensor:
        """``(B, dim)``, of each stage the channels' means, then their standard deviations."""
        statistics: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            statistics.extend(mean_and_std(x))
        return torch.cat(statistics, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Amounts ``(B, outputs)``, the distance from an undistorted picture first."""
        z = standardize(self.pooled(x), self.mean, self.scale, self.CLIP)
        with torch.autocast(x.device.type, enabled=False):  # a thousand small terms add up, so bfloat16 would show
            amounts: Tensor = self.linear(z)
        return amounts
