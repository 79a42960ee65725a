r"""DISTS: how different two copies of a picture look to a tower trained on ImageNet.

Ding, Ma, Wang and Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity" (DISTS), IEEE TPAMI
44(5), 2022, with all channels weighted alike and maps of any tower. For maps x of the reference and y of the copy::

    l = (2 mu_x mu_y + c) / (mu_x^2 + mu_y^2 + c),   s = (2 cov_xy + c) / (var_x + var_y + c)
    d = 1 - mean over layers of the mean over channels of (l + s) / 2

It puts families of distortions on one scale, which measures of structure such as FSIM do not: color hardly moves those.

Example:
    >>> maps = [torch.rand(2, 6, 16, 48, 48), torch.rand(2, 6, 24, 24, 24)]
    >>> dists(maps).shape
    torch.Size([2, 6])
"""

from __future__ import annotations

import torch
from torch import Tensor

STABILITY = 0.01  # c beside the variance of a reference map: what varies less than this says nothing


def dists(maps: list[Tensor]) -> Tensor:
    """Distance of every copy to the first one, ``(sets, copies)``, 0 for itself, about 0.6 for a ruined one.

    Args:
        maps: one a layer, ``(sets, copies, channels, h, w)``.
    """
    layers = []
    for x in maps:
        x = x.float()
        mean = x.mean((-2, -1))
        centered = x - mean[..., None, None]
        variance = (centered**2).mean((-2, -1))
        covariance = (centered * centered[:, :1]).mean((-2, -1))
        c = STABILITY * variance[:, :1] + 1e-6
        luminance = (2 * mean * mean[:, :1] + c) / (mean**2 + mean[:, :1] ** 2 + c)
        structure = (2 * covariance + c) / (variance + variance[:, :1] + c)
        layers.append(1 - (luminance + structure).mean(-1) / 2)
    return torch.stack(layers).mean(0)
