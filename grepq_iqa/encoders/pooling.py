"""Statistics of feature maps over the picture."""

from __future__ import annotations

from torch import Tensor, nn


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel of ``(B, C, h, w)``, two tensors ``(B, C)``, in float32 whatever autocast does.

    A map of one pixel has no spread, not a NaN.
    """
    x = x.float().flatten(2)
    return x.mean(2), x.std(2, correction=0)


def out_channels(stage: nn.Module) -> int:
    """Channels of the map that ``stage`` ends with."""
    return [module.out_channels for module in stage.modules() if isinstance(module, nn.Conv2d)][-1]
