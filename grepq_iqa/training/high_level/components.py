"""What in-the-wild images differ by most: a direction of features reduced to their leading principal components.

A direction learned from synthetic distortions also leans on combinations of features in which photographs hardly
differ, and there it is noise. What it says of photographs is kept as far as their leading components can say it, as in
principal component regression (Jolliffe, "A note on the use of principal components in regression", Applied Statistics
31(3), 1982), with the direction's own word for a label: no human score is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Components(NamedTuple):
    """Leading principal components of features whose blocks count equally.

    Attributes:
        mean: ``(d,)`` of the features.
        basis: ``(d, count)``, of which a centered feature vector makes its scores.
        singular: ``(count,)``, the length of each component's scores over the images that it was found on.
    """

    mean: Tensor
    basis: Tensor
    singular: Tensor

    def scores(self, z: Tensor) -> Tensor:
        """``(n, count)`` of standardized features ``(n, d)``."""
        return (z - self.mean) @ self.basis


@torch.no_grad()
def leading_components(z: Tensor, block_sizes: Sequence[int], count: int) -> Components:
    """The ``count`` leading components, or as many as there are.

    Args:
        z: standardized features ``(n, d)`` of unlabeled images.
        block_sizes: of the d features.
        count: of components.
    """
    equal = torch.cat([torch.full((size,), size**-0.5) for size in block_sizes])
    mean = z.mean(0)
    _, singular, right = torch.linalg.svd((z - mean) * equal, full_matrices=False)
    return Components(mean, right[:count].T * equal[:, None], singular[:count])


@torch.no_grad()
def leading_part(z: Tensor, block_sizes: Sequence[int], target: Tensor, count: int) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of the least-squares fit of ``target`` on the leading components.

    Args:
        z, block_sizes, count: as `leading_components` takes them.
        target: ``(n,)``.
    """
    leading = leading_components(z, block_sizes, count)
    along = leading.scores(z).T @ (target - target.mean())
    weights = leading.basis @ (along / leading.singular.clamp_min(1e-6) ** 2)
    return weights, float(target.mean() - leading.mean @ weights)
