"""BatchNorm's running statistics, estimated anew on what a model will meet: photographs, whole and undistorted by us.

Training leaves an average over its last steps, of small fragments of distorted copies: the distance to pristine patches
then moves with what came last. Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", 2016, take
them from the pictures of another domain; Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, from many of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from grepq_iqa.data.images import load_image
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError


@torch.no_grad()
def estimate_statistics(encoder: LowLevelEncoder, photographs: Sequence[Path], max_side: int | None = None) -> None:
    """Give every BatchNorm the mean over photographs of the mean and variance within one; changes ``encoder``.

    Every photograph passes by its own statistics, so what a layer gets does not depend on those of the layers before.

    Args:
        encoder: comes back in evaluation mode.
        photographs: at least one, larger than a cell of the last map.
        max_side: longer ones are shrunk to this side, as the model does; None never.

    Raises:
        UsageError: there are none.
    """
    if not photographs:
        raise UsageError("no photographs to estimate BatchNorm's statistics on")
    layers = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean
    encoder.train()
    for path in photographs:
        encoder.trunk(load_image(path, max_side=max_side)[None].contiguous(memory_format=torch.channels_last))
    for layer, before in zip(layers, momentum, strict=True):
        layer.momentum = before
    encoder.eval()
