r"""A direction from simple pictures to cluttered ones, invariant to distortions and found without any human score.

Known distortions teach what spoils a photograph, not what makes one good. Simplicity does: a clear subject on a quiet
ground against clutter (Ke, Tang and Jing, "The Design of High-Level Features for Photo Quality Assessment", CVPR 2006).
Clutter shows as many of ImageNet's concepts at once, that is, as a high mean over all channels of the last map before
the classifier. But distortions quieten that map, so the mean itself would prefer ruined pictures. The direction ``w``
therefore follows it over photographs and must not move along severity series::

    min_w  mean_photographs (w z - y)^2  +  INVARIANCE mean_steps (w (z_k - z_{k+1}))^2  +  PENALTY |w|^2

That this mean is worth a look was learned from MOS: see EXPERIMENTS.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

INVARIANCE = 100.0
PENALTY = 1.0


def clutter_of(last: Tensor) -> Tensor:
    """Mean activation, ``(n,)``, of pooled last maps ``(n, channels)``; higher is more cluttered."""
    return last.mean(1)


def clutter_direction(photographs: Tensor, clutter: Tensor, series: Tensor) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of a clutter that has mean 0 and standard deviation 1 over ``photographs``.

    Args:
        photographs: standardized statistics ``(n, d)`` of unlabeled in-the-wild images.
        clutter: :func:`clutter_of` each, ``(n,)``.
        series: standardized statistics ``(series, steps, d)`` of contents in order of rising severity.

    Returns:
        ``w`` and ``b``; the clutter of a row ``z`` is ``z @ w + b``.
    """
    z = photographs.double() - photographs.double().mean(0)
    y = clutter.double()
    y = (y - y.mean()) / y.std()
    moves = (series[:, 1:] - series[:, :-1]).double().flatten(0, 1)
    normal = z.T @ z / len(z) + INVARIANCE * moves.T @ moves / len(moves) + PENALTY * torch.eye(z.shape[1]).double()
    weights = torch.linalg.solve(normal, z.T @ y / len(z)).float()
    found = photographs @ weights
    std = float(found.std().clamp_min(1e-12))
    return weights / std, -float(found.mean()) / std
