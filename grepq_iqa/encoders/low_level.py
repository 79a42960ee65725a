"""The low-level encoder: a ResNet-18 trained from scratch with the quality-aware contrastive loss.

Paper: Srinath et al., "Learning Generalizable Perceptual Representations for Data-Efficient No-Reference Image
Quality Assessment", WACV 2024, section 3.1. The network is the ResNet-18 of He et al. (CVPR 2016) with
torchvision's parameter names, followed by a two-layer head.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` to ``(B, channels, ceil(h / stride), ceil(w / stride))``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        activated: Tensor = self.relu(out + self.downsample(x))
        return activated


class ResNet18(nn.Module):
    """Image ``(B, 3, H, W)`` to the last feature map ``(B, 512, ceil(H / 32), ceil(W / 32))``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """The last feature map."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        last: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return last


class LowLevelEncoder(nn.Module):
    """ResNet-18, global average pool, Linear 512 -> 512, ReLU, Linear 512 -> 128 (docs/method.md, section 1).

    Input is ``(B, 3, H, W)`` in [0, 1] without any normalization, of any size; output is ``(B, 128)``, not normalized.
    """

    dim = 128
    stride = 32
    """Pixels between the cells of the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18()
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, 128)`` of whole images."""
        return self._of_map(self.trunk(x))

    def whole_and_windows(self, x: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Features of whole images, and of all their windows, in one pass.

        A window stands for the patch of as many pixels: it is the mean over ``window // stride`` cells a side of the
        last feature map, at every cell's position.

        Args:
            x: images ``(B, 3, H, W)``.
            window: side of a patch in pixels, a multiple of ``stride`` and no more than H or W.

        Returns:
            ``(B, 128)`` and ``(B, windows, 128)``.
        """
        feature_map = self.trunk(x)
        pooled = F.avg_pool2d(feature_map.float(), window // self.stride, stride=1)
        windows: Tensor = self.head(pooled.flatten(2).transpose(1, 2))
        return self._of_map(feature_map), windows

    def tiles(self, x: Tensor, tile: int) -> Tensor:
        """Features ``(B, rows, columns, 128)`` of the windows that lie side by side, the first in the corner.

        Args:
            x: images ``(B, 3, H, W)``.
            tile: side in pixels, a multiple of ``stride``.
        """
        cells = tile // self.stride
        pooled = F.avg_pool2d(self.trunk(x), cells, cells)
        features: Tensor = self.head(pooled.permute(0, 2, 3, 1))
        return features

    def _of_map(self, feature_map: Tensor) -> Tensor:
        features: Tensor = self.head(feature_map.mean(dim=(2, 3)))
        return features
