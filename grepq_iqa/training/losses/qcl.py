r"""Quality-aware contrastive loss (QCL), for the low-level encoder.

Srinath et al., GRepQ, WACV 2024, section 3.1. Two views of every distorted copy of one photograph attract each other in
proportion to how alike the copies look, so negatives differ in quality and never in content::

    e_ij = exp(cos(a_i, b_j) / tau)
    w_ij = 2 - 2 / (1 + FSIM(i, j)^2)
    L    = mean_i -log(sum_j w_ij e_ij / sum_j e_ij) + mean_j -log(sum_i w_ij e_ij / sum_i e_ij)

Example:
    >>> import torch
    >>> loss = QualityContrastiveLoss()
    >>> a, b = torch.randn(8, 9, 128), torch.randn(8, 9, 128)
    >>> loss(a, b, similarity=torch.eye(9).expand(8, 9, 9)).shape
    torch.Size([])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QualityContrastiveLoss(nn.Module):
    """Mean over photographs of the symmetric, similarity-weighted contrastive loss.

    Args:
        temperature: tau of the formula; the paper's is 0.5.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def forward(self, a: Tensor, b: Tensor, similarity: Tensor) -> Tensor:
        """Loss, a scalar.

        Args:
            a: features of the first view, ``(photographs, copies, dim)``; any length, normalized here.
            b: features of the second view, the same shape.
            similarity: FSIM between copies, ``(photographs, copies, copies)``, ones on the diagonal.
        """
        a, b = F.normalize(a.float(), dim=-1), F.normalize(b.float(), dim=-1)
        logits = a @ b.transpose(1, 2) / self.temperature
        # log w_ii = 0; a pair without any likeness has weight 0 and simply leaves the numerator
        weighted = logits + torch.log(2 - 2 / (1 + similarity.float() ** 2))
        forward = logits.logsumexp(2) - weighted.logsumexp(2)
        backward = logits.logsumexp(1) - weighted.logsumexp(1)
        return (forward + backward).mean()
