"""EfficientNet-Lite0 without its classifier (Tan and Le, ICML 2019; Lite has ReLU6 and no squeeze-excitation).

Equal to timm's ``tf_efficientnet_lite0``, with its parameter names, and here only because importing timm takes longer
than importing torch, which every start of the command line would pay for.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPS = 1e-3  # TensorFlow's, with which the weights were trained
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# kernel, stride, expansion, channels, blocks
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": to ceil(size / stride), the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, C', ceil(h / stride), ceil(w / stride))``."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        top, left = pads[0] // 2, pads[1] // 2
        if pads[0] == 2 * top and pads[1] == 2 * left:  # symmetric: the convolution pads by itself, without a copy
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        return super().forward(F.pad(x, (left, pads[1] - left, top, pads[0] - top)))


class NormAct(nn.BatchNorm2d):
    """Batch normalization and ReLU6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.relu6(super().forward(x), inplace=True)


class SeparableBlock(nn.Module):
    """Depthwise convolution, then a pointwise one."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(in_channels, in_channels, kernel, stride, groups=in_channels, bias=False)
        self.bn1 = NormAct(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
        self.has_skip = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` to ``(B, channels, ...)``."""
        out = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        result: Tensor = out + x if self.has_skip else out
        return result


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, pointwise projection (Sandler et al., CVPR 2018)."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.conv_pw = nn.Conv2d(in_channels, wide, 1, bias=False)
        self.bn1 = NormAct(wide)
        self.conv_dw = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn2 = NormAct(wide)
        self.conv_pwl = nn.Conv2d(wide, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
        self.has_skip = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` to ``(B, channels, ...)``."""
        out = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        result: Tensor = out + x if self.has_skip else out
        return result


def build_lite0() -> tuple[nn.Sequential, list[nn.Sequential], nn.Sequential]:
    """Stem, ``(B, 3, H, W)`` to 32 channels at half size; the seven stages; the head, to 1280. Random weights."""
    stem = nn.Sequential(SameConv2d(3, STEM_CHANNELS, 3, 2, bias=False), NormAct(STEM_CHANNELS))
    stages, channels = [], STEM_CHANNELS
    for kernel, stride, expansion, out_channels, blocks in STAGES:
        stage: list[nn.Module] = []
        for block in range(blocks):
            step = stride if block == 0 else 1
            if expansion == 1:
                stage.append(SeparableBlock(channels, out_channels, kernel, step))
            else:
                stage.append(InvertedResidual(channels, out_channels, kernel, step, expansion))
            channels = out_channels
        stages.append(nn.Sequential(*stage))
    head = nn.Sequential(nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False), NormAct(HEAD_CHANNELS))
    return stem, stages, head
