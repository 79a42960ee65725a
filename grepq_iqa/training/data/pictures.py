"""Photographs on disk as training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from grepq_iqa.training.data.distortions import Picture


def read_photograph(path: Path) -> Picture:
    """A photograph that ``prepare`` has checked, as float32 ``(H, W, 3)`` in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
