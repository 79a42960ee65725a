"""What the reasons are learned from: measures of clean photographs with known distortions, without any human score.

``grepq_iqa/explain/reasons.safetensors`` is made here. Item ``k`` is a pure function of the seed and ``k``: a clean
photograph, shrunk so that no trace of its own compression is left, cropped, then distorted by none to three families
at random severities, then half of the time saved as a good JPEG, as most photographs are. A small network learns the
severity of every reason from the measures; thresholds are set on clean photographs that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grepq_iqa.explain.measures import measure
from grepq_iqa.explain.network import GROUPS, OUTPUTS
from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.distortions import DISTORTIONS, Picture, distort, through_file
from grepq_iqa.training.data.pictures import clean_start, crop_at_random

SHRINK = (0.5, 0.7)
"""Of a photograph's sides before anything else: pristine ones are JPEG at quality 95, and 60 % hides that."""
CROPS = (320, 512)
COUNT_CHANCES = (0.23, 0.44, 0.26, 0.07)  # of 0, 1, 2, 3 distortions
HARD, HARD_WEIGHT = ("bright", "color_cast", "dull", "garish"), 1.8
"""Reasons that clean photographs resemble most, and how much more often they are drawn."""
SAVED = 0.5  # how often a picture is saved as a good JPEG in the end
GOOD_QUALITIES = (80, 96)
OTHER_KERNELS = 0.4
"""How often pixels are enlarged by a kernel that the registry's family does not use."""


@dataclass(frozen=True)
class Items:
    """Measures ``(n, len(MEASURES))``, severities ``(n, len(OUTPUTS))`` and the photograph that each came from."""

    measures: NDArray[np.float32]
    severities: NDArray[np.float32]
    photographs: NDArray[np.int64]


def make_item(photographs: list[Path], index: int, seed: int) -> tuple[Picture, Steps]:
    """The picture of item ``index``, rounded to 8 bits, and what was done to it."""
    rng = np.random.default_rng((seed, index))
    picture = clean_start(photographs[index % len(photographs)], rng.uniform(*SHRINK))
    picture = crop_at_random(picture, min(int(rng.integers(*CROPS)), *picture.shape[:2]), rng)
    count = int(rng.choice(len(COUNT_CHANCES), p=COUNT_CHANCES))
    steps: Steps = []
    weights = np.array([HARD_WEIGHT if name in HARD else 1.0 for name in GROUPS])
    for name in rng.choice(list(GROUPS), count, replace=False, p=weights / weights.sum()):
        family = str(rng.choice(GROUPS[str(name)]))
        severity = float(rng.uniform(0.3, 5 if count == 1 else 4.5))
        steps.append((family, severity))
        if family == "rescale" and rng.random() < OTHER_KERNELS:
            picture = _enlarged(picture, severity, rng)
        else:
            picture = distort(picture, family, severity, rng)
    picture = np.round(picture * 255) / np.float32(255)
    if rng.random() < SAVED:
        quality = int(rng.integers(*GOOD_QUALITIES))
        levels = DISTORTIONS["jpeg"].levels
        severity = float(np.interp(-quality, [-levels[0], -levels[1]], [0, 1]))
        steps.append(("jpeg", severity))
        picture = saved(picture, quality)
    return picture, steps


def severities_of(steps: Steps) -> NDArray[np.float32]:
    """The worst severity of every reason and of every family by `OUTPUTS`; 0 where it is not there."""
    found = dict.fromkeys(OUTPUTS, 0.0)
    for family, severity in steps:
        for name in (family, next(group for group, members in GROUPS.items() if family in members)):
            found[name] = max(found[name], severity)
    return np.array([found[name] for name in OUTPUTS], dtype=np.float32)


def make_items(photographs: list[Path], indices: Iterable[int], seed: int) -> Items:
    """Measures and severities of items."""
    measures, severities, origins = [], [], []
    for index in indices:
        picture, steps = make_item(photographs, index, seed)
        measures.append(measure(picture))
        severities.append(severities_of(steps))
        origins.append(index % len(photographs))
    return Items(np.stack(measures), np.stack(severities), np.array(origins))


def _enlarged(x: Picture, severity: float, rng: np.random.Generator) -> Picture:
    factor = float(np.interp(severity, range(6), DISTORTIONS["rescale"].levels))
    height, width = x.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    image = Image.fromarray(np.round(np.clip(x, 0, 1) * 255).astype(np.uint8))
    kernel = Image.Resampling(int(rng.choice([Image.Resampling.NEAREST, Image.Resampling.LANCZOS])))
    enlarged = image.resize(small, Image.Resampling.LANCZOS).resize((width, height), kernel)
    result: Picture = np.asarray(enlarged, dtype=np.float32) / np.float32(255)
    return result


def saved(x: Picture, quality: int) -> Picture:
    """The picture after a JPEG file of ``quality``."""
    return through_file(x, "JPEG", quality=quality)
