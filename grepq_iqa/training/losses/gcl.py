r"""Group contrastive loss (GCL), for the high-level encoder.

Srinath et al., GRepQ, WACV 2024, section 3.2. The best and the worst photographs of a batch, as the encoder itself
ranks them, form two groups; members of a group attract each other and repel the other group::

    p_i = mean of cos(z_i, z_j) over the other members j of i's group
    L   = mean_i -log( exp(p_i / T) / (exp(p_i / T) + sum_{k in the other group} exp(cos(z_i, z_k) / T)) )

Example:
    >>> import torch
    >>> z, quality = torch.randn(128, 128), torch.rand(128)
    >>> best, worst = select_extremes(quality, size=4)
    >>> GroupContrastiveLoss()(z[best], z[worst]).shape
    torch.Size([])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def select_extremes(quality: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Indices ``(size,)`` of the best and of the worst of a batch by ``quality`` ``(B,)``.

    Raises:
        ValueError: the batch is too small for two groups, or a group would have no pair.
    """
    if size < 2 or 2 * size > len(quality):
        raise ValueError(
            f"two groups of {size} need a batch of at least {2 * size} and a size of 2, got {len(quality)}"
        )
    order = quality.detach().argsort(descending=True)
    return order[:size], order[-size:]


class GroupContrastiveLoss(nn.Module):
    """Mean over the members of both groups.

    Args:
        temperature: T of the formula; the paper's is 0.5.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def forward(self, best: Tensor, worst: Tensor) -> Tensor:
        """Loss, a scalar.

        Args:
            best, worst: projected features ``(size, dim)`` of the two groups; any length, normalized here.
        """
        best, worst = F.normalize(best.float(), dim=-1), F.normalize(worst.float(), dim=-1)
        across = best @ worst.T / self.temperature
        losses = [self._one_group(best, across), self._one_group(worst, across.T)]
        return torch.cat(losses).mean()

    def _one_group(self, own: Tensor, across: Tensor) -> Tensor:
        similarity = own @ own.T / self.temperature
        positive = (similarity.sum(1) - similarity.diagonal()) / (len(own) - 1)
        return torch.cat([positive[:, None], across], dim=1).logsumexp(1) - positive
