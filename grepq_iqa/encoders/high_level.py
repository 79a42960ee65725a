"""The high-level encoder: an image tower whose embedding can be compared with sentences.

Paper: Srinath et al., GRepQ, WACV 2024, section 3.2. Two architectures behind one class, chosen by config.json:
``open_clip``, CLIP's tower, and ``efficientnet``, the compact model's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.clip_resnet import ClipResNetTower
from grepq_iqa.encoders.high_level_output import HighLevelOutput
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError


class HighLevelEncoder(nn.Module):
    """Image ``(B, 3, H, W)`` in [0, 1], of any size, to :class:`HighLevelOutput`.

    Args:
        config: the ``high_level`` object of config.json, format 2: ``architecture``, ``model``, ``mean``, ``std``, and
            for an EfficientNet ``layers`` (stages to pool), ``center_weighted`` (whether to pool them center-weighted,
            too; default false), ``head`` (whether to pool the last map before the classifier, too; default false),
            ``distortion_head`` (``start``, the first stage that is copied, and ``outputs``, the names of its amounts;
            default none), ``region_contrast`` (``layers``, the stages whose regions are compared; default none) and
            ``dim``.

    Raises:
        UsageError: an unknown architecture or model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)
        architecture = config.get("architecture")
        self.tower: ClipResNetTower | PooledEfficientNet
        if architecture == "open_clip":
            self.tower = ClipResNetTower(config["model"])
        elif architecture == "efficientnet":
            self.tower = PooledEfficientNet(
                tuple(config["layers"]),
                config["dim"],
                model=config["model"],
                center_weighted=config.get("center_weighted", False),
                head=config.get("head", False),
                distortion_head=config.get("distortion_head"),
                region_contrast=config.get("region_contrast"),
            )
        else:
            raise UsageError(f"config.json: unknown architecture {architecture!r} (open_clip or efficientnet)")
        self.dim: int = self.tower.dim
        self.feature_dim: int = self.tower.feature_dim

    def normalize(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] to what the tower was trained on."""
        return (x - self.mean) / self.std

    def embed(self, features: Tensor) -> Tensor:
        """Embedding ``(B, dim)`` of the features ``(B, feature_dim)`` that `forward` answers."""
        return self.tower.project(features) if isinstance(self.tower, PooledEfficientNet) else features

    def forward(self, x: Tensor) -> HighLevelOutput:
        """Embedding and features of images ``(B, 3, H, W)`` in [0, 1]."""
        output: HighLevelOutput = self.tower(self.normalize(x))
        return output
