"""A direction from ordinary photographs to fine ones, found without any score.

Known damage teaches what spoils a photograph, not what makes one good. Photographs that somebody chose as wallpapers
or stock pictures against ordinary ones do: a logistic regression tells them apart, so strongly penalised that it is
little more than the difference of their means, since a few hundred photographs would otherwise be learnt by heart.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

PENALTY = 1e4  # on standardised statistics; SRCC on dev is the same from 1e3 to 1e5


def fine_direction(pristine: Tensor, ordinary: Tensor) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of a fineness that has mean 0 and spread 1 over ``ordinary``.

    Args:
        pristine: standardised statistics ``(m, d)`` of fine photographs.
        ordinary: the same ``(n, d)`` of ordinary ones, seen at the same size.

    Returns:
        ``w`` and ``b``; the fineness of a row ``z`` is ``z @ w + b``.
    """
    rows = torch.cat([pristine, ordinary]).numpy()
    is_fine = np.repeat([1, 0], [len(pristine), len(ordinary)])
    classifier = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=500).fit(rows, is_fine)
    weights = torch.from_numpy(classifier.coef_[0]).float()
    fineness = ordinary @ weights
    spread = float(fineness.std().clamp_min(1e-12))
    return weights / spread, -float(fineness.mean()) / spread
