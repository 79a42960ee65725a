r"""Loss of a distortion head: how far from the untouched picture, by which families, and in which order.

For copy v of a picture, DISTS d_v of known maps and severities s_v, with predictions p (taken as they are where the
untouched picture is clean, else relative to those of the untouched one, whose own distortions nobody knows)::

    L = a huber(p_d, d) + b huber(p_s, s) + c mean over pairs with d_i > d_j of softplus((p_j - p_i + d_i - d_j) / T) T

Example:
    >>> found, distance, severity = torch.randn(8, 6, 21), torch.rand(8, 6), torch.rand(8, 6, 20)
    >>> loss, figures = DistortionLoss()(found, distance, severity, clean=torch.arange(8) % 2 == 0)
    >>> loss.shape
    torch.Size([])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.training.losses.ranking import SeverityRankingLoss


class DistortionLoss(nn.Module):
    """Weighted sum of the three terms.

    Args:
        distance, severity, ranking: a, b and c of the formula.
        delta: where Huber's loss turns from squares to lines.
    """

    def __init__(self, distance: float = 1.0, severity: float = 1.0, ranking: float = 1.0, delta: float = 0.1) -> None:
        super().__init__()
        self.weights, self.delta = (distance, severity, ranking), delta
        self._rank = SeverityRankingLoss(margin=1.0, temperature=0.02, least=0.005)

    def forward(
        self, found: Tensor, distance: Tensor, severity: Tensor, clean: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss, a scalar, and its terms.

        Args:
            found: ``(sets, copies, 1 + families)``, the distance first; copy 0 is untouched.
            distance: ``(sets, copies)``, 0 for copy 0.
            severity: ``(sets, copies, families)`` in [0, 1].
            clean: ``(sets,)`` bool, the untouched picture has no distortion of its own.
        """
        relative = torch.where(clean[:, None, None], found, found - found[:, :1])
        terms = {
            "distance": F.huber_loss(relative[..., 0], distance, delta=self.delta) / self.delta,
            "severity": F.huber_loss(relative[..., 1:], severity, delta=self.delta) / self.delta,
            "ranking": self._rank(-found[..., 0], distance),
        }
        loss = torch.stack([w * term for w, term in zip(self.weights, terms.values(), strict=True)]).sum()
        return loss, {name: term.item() for name, term in terms.items()}
