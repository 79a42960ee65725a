"""What every high-level encoder answers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class HighLevelOutput(NamedTuple):
    """Embedding and features of a batch.

    Attributes:
        embedding: ``(B, dim)``, what prompts are compared with; not normalized.
        features: ``(B, feature_dim)``, what regression uses.
    """

    embedding: Tensor
    features: Tensor
