r"""Make a direction in feature space invariant to some distortions, changing it as little as that allows.

With moves ``m`` of features under the distortions, in units of the features' standard deviation over unlabeled
in-the-wild images::

    w' = argmin |w' - w|^2 + STRENGTH mean_m (w' m)^2 = (I + STRENGTH mean_m m m^T)^-1 w
"""

from __future__ import annotations

import torch
from torch import Tensor

STRENGTH = 3.0


def made_invariant(direction: Tensor, moves: Tensor) -> Tensor:
    """``direction`` ``(d,)`` that hardly follows ``moves`` ``(n, d)``; itself where there are none."""
    if not len(moves):
        return direction
    m = moves.double()
    normal = torch.eye(m.shape[1], dtype=m.dtype) + STRENGTH * m.T @ m / len(m)
    result: Tensor = torch.linalg.solve(normal, direction.double()).to(direction.dtype)
    return result
