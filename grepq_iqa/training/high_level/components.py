"""What in-the-wild images differ by most: a direction of features reduced to their leading principal components.

A direction learned from synthetic distortions also leans on combinations of features in which photographs hardly
differ, and there it is noise. What it says of photographs is kept as far as their leading components can say it, as in
principal component regression (Jolliffe, "A note on the use of principal components in regression", Applied Statistics
31(3), 1982), with the direction's own word for a label: no human score is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def leading_part(z: Tensor, block_sizes: Sequence[int], target: Tensor, count: int) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of the least-squares fit of ``target`` on the leading components.

    Args:
        z: standardized features ``(n, d)`` of unlabeled images.
        block_sizes: of the d features, whose blocks count equally in what varies most.
        target: ``(n,)``.
        count: of components.
    """
    equal = torch.cat([torch.full((size,), size**-0.5) for size in block_sizes])
    mean = z.mean(0)
    left, singular, right = torch.linalg.svd((z - mean) * equal, full_matrices=False)
    scores = left[:, :count].T @ (target - target.mean())
    weights = right[:count].T @ (scores / singular[:count].clamp_min(1e-6)) * equal
    return weights, float(target.mean() - mean @ weights)
