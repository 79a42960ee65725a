"""Ladders: one crop clean, through rising severities of one family, and in two mixtures as they occur in the wild.

Item ``k`` is a pure function of the seed and ``k``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.contrastive_views import crop_at_random
from grepq_iqa.training.data.distortions import DISTORTIONS, SEVERITIES, Picture, compose
from grepq_iqa.training.data.pictures import read_photograph

KEY_FAMILIES = ("gaussian_blur", "white_noise", "jpeg", "underexposure")
"""What most photographs suffer from; every second ladder is one of these."""
RUNGS = (0.4, *SEVERITIES)
"""Severities of a ladder. Without the mildest one a tower takes light compression for a picture that is cleaner."""
MIXTURES = 2


@dataclass(frozen=True)
class Ladder:
    """Attributes:
    pictures: ``(1 + len(RUNGS) + MIXTURES, H, W, 3)`` float32 in [0, 1], rounded to 8 bits as files are.
    steps: what was done to each.
    clean_start: the crop comes from a pristine photograph, so pictures of different ladders can be compared.
    """

    pictures: np.ndarray
    steps: list[Steps]
    clean_start: bool


def make_ladder(index: int, pristine: list[Path], ordinary: list[Path], crop: int, seed: int) -> Ladder:
    """Ladder ``index``: even ones start from pristine photographs in turn, odd ones from random ordinary ones."""
    rng = np.random.default_rng((seed, index))
    clean_start = index % 2 == 0 or not ordinary
    if clean_start:
        picture = shrink_at_random(read_photograph(pristine[index // 2 % len(pristine)]), crop, rng)
    else:
        picture = read_photograph(ordinary[int(rng.integers(len(ordinary)))])
    start = crop_at_random(picture, crop, rng)
    families = sorted(DISTORTIONS)
    key = index // 2 % 2 == 0
    family = KEY_FAMILIES[index // 4 % len(KEY_FAMILIES)] if key else str(rng.choice(families))
    steps: list[Steps] = [[], *([(family, severity)] for severity in RUNGS)]
    for _ in range(MIXTURES):
        count = int(rng.integers(1, 4))
        worst = 5 if count == 1 else 3
        mixture = rng.choice(families, count, replace=False)
        steps.append([(str(name), int(rng.integers(1, worst + 1))) for name in mixture])
    # one seed for the whole ladder: noise of severity 5 is noise of severity 1, only stronger
    noise_seed = int(rng.integers(1 << 31))
    pictures = [compose(start, step, np.random.default_rng(noise_seed)) for step in steps]
    return Ladder(np.round(np.stack(pictures) * 255) / np.float32(255), steps, clean_start)


def shrink_at_random(picture: Picture, least: int, rng: np.random.Generator) -> Picture:
    """Four times in ten shrunk by up to 0.45, since people look at the same photograph at several sizes."""
    if rng.random() >= 0.4:
        return picture
    factor = max(rng.uniform(0.45, 0.9), least / min(picture.shape[:2]))
    if factor >= 1:
        return picture
    height, width = picture.shape[:2]
    image = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    small = image.resize(
        (max(least, round(width * factor)), max(least, round(height * factor))), Image.Resampling.LANCZOS
    )
    return np.asarray(small, dtype=np.float32) / np.float32(255)
