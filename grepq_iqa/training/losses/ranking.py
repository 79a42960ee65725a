r"""Ranking loss over pictures whose distortions are known.

Where picture i is more distorted than j, its score should be lower by a margin that grows with the difference (RankIQA,
Liu et al., ICCV 2017, with a soft hinge)::

    L = mean over pairs with d_i > d_j of softplus( (s_i - s_j + margin (d_i - d_j)) / T ) T

Example:
    >>> import torch
    >>> SeverityRankingLoss()(torch.randn(16, 8), torch.rand(16, 8)).shape
    torch.Size([])
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SeverityRankingLoss(nn.Module):
    """Mean over all pairs within a row that differ in strength of distortion by at least ``least``.

    Args:
        margin: difference of scores wanted for a difference of strength of 1.
        temperature: T of the formula, softness of the hinge.
        least: smaller differences of strength say nothing.
    """

    def __init__(self, margin: float = 1.0, temperature: float = 0.1, least: float = 0.01) -> None:
        super().__init__()
        self.margin, self.temperature, self.least = margin, temperature, least

    def forward(self, scores: Tensor, strength: Tensor) -> Tensor:
        """Loss, a scalar; zero where no pair counts.

        Args:
            scores: higher is better, ``(rows, pictures)``.
            strength: of the distortions, 0 is clean, the same shape.
        """
        more = strength[:, :, None] - strength[:, None, :]  # i more distorted than j
        violation = scores[:, :, None] - scores[:, None, :] + self.margin * more
        losses = F.softplus(violation / self.temperature) * self.temperature
        counts = (more >= self.least).to(losses.dtype)
        return (losses * counts).sum() / counts.sum().clamp_min(1)

    def neighbors(self, scores: Tensor) -> Tensor:
        """Loss of pictures in order of rising severity against the next one only, without margin: none may tie.

        Args:
            scores: ``(rows, pictures)``, the least distorted first.
        """
        return F.softplus((scores[:, 1:] - scores[:, :-1]) / self.temperature).mean()
