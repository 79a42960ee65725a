"""What the best regions of a picture show beyond its average: a sharp subject before a background meant to blur.

A mean over the picture takes shallow depth of field for blur. So the picture is cut into a grid, each region is judged
by statistics of its own, and what counts is how much a soft maximum over regions exceeds their mean: nothing for a
picture that is equally sharp, or equally blurred, everywhere. The soft maximum is the log-mean-exp of Pinheiro and
Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.pooling import standardize

GRID = 6
"""Regions along each side, whatever the picture's size: what fills a sixth of a picture can be its subject."""
SOFTNESS = 2.0
"""Of the maximum, by the standard deviation of regions' quality: 0 is the mean, infinity the best region alone."""


class RegionContrast(nn.Module):
    """Maps ``(B, C_i, h_i, w_i)`` of several stages to how much the best regions exceed the mean, ``(B, 1)``, >= 0.

    A region's quality is linear in its channels' means and standard deviations, standardized by ``mean`` and ``scale``
    and clipped to +-``CLIP``; ``weight`` is such that quality has unit variance over regions of in-the-wild images.
    ``grepq_iqa.training.high_level.regions`` finds all three.

    Args:
        channels: of each map.
    """

    CLIP = 4.0
    mean: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        dim = 2 * sum(channels)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("weight", torch.zeros(dim))

    def statistics(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, GRID * GRID, dim)``, of each map its channels' means, then their standard deviations, in regions."""
        return torch.cat([part for x in maps for part in region_mean_and_std(x)], dim=1).transpose(1, 2)

    def quality(self, statistics: Tensor) -> Tensor:
        """Of regions ``(B, GRID * GRID)``, by their statistics."""
        return standardize(statistics, self.mean, self.scale, self.CLIP) @ self.weight

    def excess(self, statistics: Tensor) -> Tensor:
        """What `forward` answers, by `statistics`."""
        quality = self.quality(statistics)
        above = quality - quality.mean(1, keepdim=True)
        soft_maximum: Tensor = (SOFTNESS * above).exp().mean(1, keepdim=True).log() / SOFTNESS
        return soft_maximum

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The excess."""
        with torch.autocast(maps[0].device.type, enabled=False):  # many small terms add up, so bfloat16 would show
            return self.excess(self.statistics(maps))


def region_mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel of ``(B, C, h, w)`` in each region of the grid, two tensors ``(B, C, GRID * GRID)`` in float32.

    A pixel on a border between regions counts in both, by the share of its area; a map may have fewer pixels than
    regions.
    """
    rows, columns = (_shares(size, x.device) for size in x.shape[-2:])
    x = x.float()
    center = x.mean((2, 3), keepdim=True)  # squares of what is left are small, so that no digits cancel
    x = x - center
    mean = rows @ x @ columns.T
    square = rows @ x.square() @ columns.T
    std = (square - mean.square()).clamp_min(0).sqrt()
    return (mean + center).flatten(2), std.flatten(2)


def _shares(size: Tensor | int, device: torch.device) -> Tensor:
    """``(GRID, size)``, rows that sum to one: how much of each region each pixel along a side is.

    By `torch.arange` of the size, which an exported graph computes anew for every picture.
    """
    pixels = torch.arange(size, device=device, dtype=torch.float32)  # type: ignore[arg-type]  # a tensor in a trace
    bounds = torch.arange(GRID + 1, device=device, dtype=torch.float32)[:, None] / GRID * (pixels[-1:] + 1)
    covered = torch.minimum(pixels + 1, bounds[1:]) - torch.maximum(pixels, bounds[:-1])
    covered = covered.clamp_min(0)
    return covered / covered.sum(1, keepdim=True)
