"""Severity series: one crop clean, at rising severities of one family, and in two mixtures as they occur in the wild.

Item ``k`` is a pure function of the seed and ``k``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.distortions import DISTORTIONS, SEVERITIES, compose
from grepq_iqa.training.data.pictures import crop_at_random, read_picture, shrink_at_random

KEY_FAMILIES = ("gaussian_blur", "white_noise", "jpeg", "underexposure")
"""What most photographs suffer from; every second series is one of these."""
SERIES_SEVERITIES = (0.4, *SEVERITIES)
"""Severities of a series. Without the mildest one a tower takes light compression for a picture that is cleaner."""
MIXTURES = 2


@dataclass(frozen=True)
class SeveritySeries:
    """One crop, ever worse.

    Attributes:
        pictures: ``(1 + len(SERIES_SEVERITIES) + MIXTURES, H, W, 3)`` float32 in [0, 1], rounded to 8 bits as
            files are.
        steps: what was done to each.
        clean_start: the crop comes from a pristine photograph, so pictures of different series can be compared.
    """

    pictures: NDArray[np.float32]
    steps: list[Steps]
    clean_start: bool


def make_severity_series(
    index: int, pristine: list[Path], unlabeled: list[Path], crop: int, seed: int
) -> SeveritySeries:
    """Series ``index``: even ones start from pristine photographs in turn, odd ones from random unlabeled images."""
    rng = np.random.default_rng((seed, index))
    clean_start = index % 2 == 0 or not unlabeled
    if clean_start:
        picture = shrink_at_random(read_picture(pristine[index // 2 % len(pristine)]), crop, rng)
    else:
        picture = read_picture(unlabeled[int(rng.integers(len(unlabeled)))])
    start = crop_at_random(picture, crop, rng)
    families = sorted(DISTORTIONS)
    key = index // 2 % 2 == 0
    family = KEY_FAMILIES[index // 4 % len(KEY_FAMILIES)] if key else str(rng.choice(families))
    steps: list[Steps] = [[], *([(family, severity)] for severity in SERIES_SEVERITIES)]
    for _ in range(MIXTURES):
        count = int(rng.integers(1, 4))
        worst = 5 if count == 1 else 3
        mixture = rng.choice(families, count, replace=False)
        steps.append([(str(name), int(rng.integers(1, worst + 1))) for name in mixture])
    # one seed for the whole series: noise of severity 5 is noise of severity 1, only stronger
    noise_seed = int(rng.integers(1 << 31))
    pictures = [compose(start, step, np.random.default_rng(noise_seed)) for step in steps]
    return SeveritySeries(np.round(np.stack(pictures) * 255) / np.float32(255), steps, clean_start)
