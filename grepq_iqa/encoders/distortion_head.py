"""A second copy of a tower's later stages, trained to see damage, and what it reads.

A tower trained to recognise things has learnt to ignore mild damage; the copy has unlearnt that. From the pooled
statistics of its stages one linear layer reads a few named amounts: how far a picture is from an undamaged one, and how
severe each family of damage is. ``grepq_iqa.training.high_level.distortion_head`` trains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.pooling import mean_and_std, out_channels


class DamageReader(nn.Module):
    """The map ``(B, C, h, w)`` where the copied stages start to amounts of damage ``(B, reads)``.

    Statistics are standardised with ``mean`` and ``scale``, those of ordinary photographs before training, and clipped
    to +-``CLIP``.

    Args:
        stages: to copy; the originals stay as they are.
        reads: number of amounts.
    """

    CLIP = 5.0
    mean: Tensor
    scale: Tensor

    def __init__(self, stages: Iterable[nn.Module], reads: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(deepcopy(stage) for stage in stages)
        dim = sum(2 * out_channels(stage) for stage in self.stages)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.read = nn.Linear(dim, reads)

    @property
    def reads(self) -> int:
        """How many amounts are read."""
        return self.read.out_features

    def pooled(self, x: Tensor) -> Tensor:
        """``(B, dim)``, of each stage the channels' means, then their deviations."""
        statistics: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            statistics.extend(mean_and_std(x))
        return torch.cat(statistics, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        z = (self.pooled(x) - self.mean) / self.scale
        with torch.autocast(x.device.type, enabled=False):  # a thousand small terms add up, so bfloat16 would show
            return self.read(z.clamp(-self.CLIP, self.CLIP))
