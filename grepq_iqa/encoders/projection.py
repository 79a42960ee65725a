"""The high-level encoder's last step, features to embedding, in NumPy: cheap, linear, and the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

STATISTICS_CLIP = 5.0
"""Standardized statistics are limited to +- this, so that an odd picture cannot leave the range of training."""


@dataclass(frozen=True)
class Projection:
    """``W z + b`` with ``z = (x - mean) / scale`` limited to +-``STATISTICS_CLIP``; of an EfficientNet's statistics.

    Attributes:
        mean, scale: ``(feature_dim,)``.
        weight: ``(dim, feature_dim)``.
        bias: ``(dim,)``.
    """

    mean: Array
    scale: Array
    weight: Array
    bias: Array

    def __call__(self, features: Array) -> Array:
        """Embedding ``(n, dim)`` of features ``(n, feature_dim)``."""
        z = np.clip((features - self.mean) / self.scale, -STATISTICS_CLIP, STATISTICS_CLIP)
        result: Array = z @ self.weight.T + self.bias
        return result
