"""Make a trained encoder fast to evaluate, without changing what it computes beyond rounding.

Batch normalization in evaluation mode is a scale and a shift of every channel, which the convolution before it can do
itself (Jacob et al., CVPR 2018, section 3.2). Eager PyTorch otherwise reads and writes every map once more for it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from grepq_iqa.encoders.efficientnet_lite import NormAct


def prepare_for_inference(encoder: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Fold batch normalizations, move to ``device``, and keep the convolutions' weights in ``dtype``, all in place.

    Autocast to ``dtype`` would convert those weights anew for every picture; other weights are small and stay float32.
    """
    fold_batch_norm(encoder)
    encoder.to(device).to(memory_format=torch.channels_last)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)


def fold_batch_norm(encoder: nn.Module) -> None:
    """Put every batch normalization into the convolution registered just before it in the same module, in place.

    What takes its place is what it did besides: nothing, or its activation.
    """
    for module in list(encoder.modules()):
        children = list(module.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and type(norm) in (nn.BatchNorm2d, NormAct):
                _fold(conv, norm)  # type: ignore[arg-type]  # the line above says so
                setattr(module, name, nn.ReLU6(inplace=True) if isinstance(norm, NormAct) else nn.Identity())


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.training or norm.running_mean is None or norm.running_var is None:
        raise ValueError("only a batch normalization in evaluation mode is a fixed scale and shift")
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
