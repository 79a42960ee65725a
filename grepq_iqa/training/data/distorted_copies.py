"""Distorted copies of one crop, for a tower that is to see distortions: which, and how severe.

Item ``k`` is a pure function of the seed and ``k``. Severities are continuous, from barely visible on, since it is the
mild distortions that towers trained to recognize things have learned to ignore.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.distortions import DISTORTIONS, compose
from grepq_iqa.training.data.pictures import crop_at_random, read_picture, shrink_at_random
from grepq_iqa.training.data.severity_series import KEY_FAMILIES

COPIES = 6
MILDEST, WORST = 0.2, 5.0
SHIFT = 8
"""Pixels by which a crop may lie off the grid of an encoder's blocks, so that towers do not learn where it starts."""

FAMILIES = tuple(DISTORTIONS)
"""In the order in which cameras and websites do them, roughly: optics, sensor, file; light and color after."""


class DistortedCopies(Dataset[dict[str, Tensor]]):
    """``length`` sets of copies; even ones start from ``pristine`` photographs, odd ones from ``unlabeled`` images.

    Items: ``pictures``, uint8 ``(COPIES, 3, crop, crop)``, the untouched crop first; ``severity``, float32
    ``(COPIES, families)`` in [0, 1]; ``clean``, bool: the untouched crop has no distortion of its own.

    The others are two severities of one family, two of another, and a mixture of two to four.
    """

    def __init__(self, pristine: list[Path], unlabeled: list[Path], crop: int, length: int, seed: int) -> None:
        self.pristine, self.unlabeled = pristine, unlabeled
        self.crop, self.length, self.seed = crop, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        clean = index % 2 == 0
        photographs = self.pristine if clean else self.unlabeled
        picture = read_picture(photographs[int(rng.integers(len(photographs)))])
        picture = shrink_at_random(picture, self.crop + SHIFT, rng)
        start = crop_at_random(picture, self.crop + SHIFT, rng)
        steps = draw_steps(rng)
        noise_seed = int(rng.integers(1 << 31))  # noise of one set is the same noise, only stronger
        y, x = rng.integers(0, SHIFT + 1, 2)
        pictures = np.stack([compose(start, step, np.random.default_rng(noise_seed)) for step in steps])
        pictures = np.round(pictures[:, y : y + self.crop, x : x + self.crop] * 255).astype(np.uint8)
        severity = torch.zeros(COPIES, len(FAMILIES))
        for copy, step in enumerate(steps):
            for name, level in step:
                severity[copy, FAMILIES.index(name)] = level / WORST
        return {
            "pictures": torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
            "severity": severity,
            "clean": torch.tensor(clean),
        }


def draw_steps(rng: np.random.Generator) -> list[Steps]:
    """What is done to each copy: nothing, two families at two severities each, a mixture of milder ones."""
    first = str(rng.choice(KEY_FAMILIES if rng.random() < 0.4 else FAMILIES))
    second = str(rng.choice([name for name in FAMILIES if name != first]))
    steps: list[Steps] = [[]]
    for family in (first, second):
        steps += [[(family, severity)] for severity in np.sort(rng.uniform(MILDEST, WORST, 2)).tolist()]
    count = int(rng.integers(2, 5))
    mixture = sorted(rng.choice(len(FAMILIES), count, replace=False).tolist())
    return [*steps, [(FAMILIES[i], float(rng.uniform(MILDEST, 3.5))) for i in mixture]]
