r"""A direction from busy pictures to simple ones, blind to damage and found without any score.

Known damage teaches what spoils a photograph, not what makes one good. Simplicity does: a clear subject on a quiet
ground against clutter (Ke, Tang and Jing, "The Design of High-Level Features for Photo Quality Assessment", CVPR 2006).
Clutter shows as many of ImageNet's concepts at once, that is, as a high mean over all channels of the last map before
the classifier. But damage also quietens that map, so the mean itself would prefer ruined pictures. The direction ``w``
therefore follows it over photographs and must not move along ladders of known damage::

    min_w  mean_photographs (w z - y)^2  +  BLINDNESS mean_steps (w (z_k - z_{k+1}))^2  +  PENALTY |w|^2
"""

from __future__ import annotations

import torch
from torch import Tensor

BLINDNESS = 100.0
PENALTY = 1.0


def simplicity_of(last: Tensor) -> Tensor:
    """Minus the mean activation, ``(n,)``, of pooled last maps ``(n, channels)``; higher is simpler."""
    return -last.mean(1)


def simplicity_direction(photographs: Tensor, simplicity: Tensor, ladders: Tensor) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of a simplicity that has mean 0 and spread 1 over ``photographs``.

    Args:
        photographs: standardised statistics ``(n, d)`` of ordinary photographs.
        simplicity: :func:`simplicity_of` each, ``(n,)``.
        ladders: standardised statistics ``(ladders, steps, d)`` of contents in order of rising damage.

    Returns:
        ``w`` and ``b``; the simplicity of a row ``z`` is ``z @ w + b``.
    """
    z = photographs.double() - photographs.double().mean(0)
    y = simplicity.double()
    y = (y - y.mean()) / y.std()
    moves = (ladders[:, 1:] - ladders[:, :-1]).double().flatten(0, 1)
    normal = z.T @ z / len(z) + BLINDNESS * moves.T @ moves / len(moves) + PENALTY * torch.eye(z.shape[1]).double()
    weights = torch.linalg.solve(normal, z.T @ y / len(z)).float()
    found = photographs @ weights
    spread = float(found.std().clamp_min(1e-12))
    return weights / spread, -float(found.mean()) / spread
