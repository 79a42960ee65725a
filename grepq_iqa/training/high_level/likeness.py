"""A direction from in-the-wild images to pristine photographs: what their photographers did well, beyond distortions.

A direction learned from synthetic distortions tells what spoils a photograph. Pristine photographs differ from
in-the-wild ones by more: light, depth, what is shown and how. As in NIQE (Mittal et al. 2013) they stand for quality,
but a distance to them counts every way to differ alike; so a logistic regression tells both kinds apart (Elkan and
Noto, "Learning classifiers from only positive and unlabeled data", KDD 2008). Pristine photographs are shrunk, cropped
and saved as good JPEG files first, for else it would learn what file an image came from.

Few photographs are pristine, and many in-the-wild images are good. So the regression is done twice (self-training;
Scudder, "Probability of error of some adaptive pattern-recognition machines", IEEE Trans. Information Theory 11(3),
1965): the second time the best in-the-wild images, by what is known of them till then, stand with the pristine ones,
and only the worse half stands against them. No human score is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from grepq_iqa.training.data.distortions import through_file
from grepq_iqa.training.data.pictures import SQUARE, clean_start
from grepq_iqa.training.high_level.components import Components, leading_components

SHRINK = (0.5, 0.8)
QUALITIES = (75, 96)
PENALTY = 0.1  # scikit-learn's C, of scores with unit standard deviation over all of them
FIRST = 0.25  # standard deviation of the first likeness beside that of quality, where it helps to choose examples
BEST, WORSE = 0.3, 0.5  # shares of in-the-wild images that become examples themselves


def clean_copies(paths: Sequence[Path], copies: int, seed: int) -> Iterator[Tensor]:
    """Of every photograph ``copies`` cuts ``(3, H, W)`` in [0, 1] of at most `SQUARE` pixels a side, as good files.

    Cut ``c`` of photograph ``k`` is a pure function of the seed, ``k`` and ``c``.

    Raises:
        ImageError: a photograph cannot be read.
    """
    for index, path in enumerate(paths):
        for copy in range(copies):
            rng = np.random.default_rng((seed, index, copy))
            picture = clean_start(path, rng.uniform(*SHRINK))
            top, left = (int(rng.integers(0, max(0, size - SQUARE) + 1)) for size in picture.shape[:2])
            picture = np.ascontiguousarray(picture[top : top + SQUARE, left : left + SQUARE])
            saved = through_file(picture, "JPEG", quality=int(rng.integers(*QUALITIES)))
            yield torch.from_numpy(saved).permute(2, 0, 1)


def taught_direction(
    pristine: Tensor, unlabeled: Tensor, quality: Tensor, block_sizes: Sequence[int], count: int
) -> tuple[Tensor, float]:
    """`likeness_direction` of the second round; arguments as there.

    Args:
        quality: of the unlabeled images, ``(n,)``, without likeness.
    """
    leading = leading_components(unlabeled, block_sizes, count)
    weights, offset = likeness_direction(pristine, unlabeled, unlabeled, leading)
    known = quality + FIRST * quality.std() * (unlabeled @ weights + offset)
    best, worse = unlabeled[known > known.quantile(1 - BEST)], unlabeled[known < known.quantile(WORSE)]
    return likeness_direction(torch.cat([pristine, best]), worse, unlabeled, leading)


def likeness_direction(like: Tensor, unlike: Tensor, unlabeled: Tensor, leading: Components) -> tuple[Tensor, float]:
    """Weights ``(d,)`` and offset of a likeness that has mean 0 and standard deviation 1 over unlabeled images.

    Args:
        like, unlike: standardized features ``(m, d)`` and ``(k, d)`` of images to be told apart.
        unlabeled: the same ``(n, d)`` of unlabeled in-the-wild images.
        leading: components of theirs, which are looked at.
    """
    scores = torch.cat([leading.scores(like), leading.scores(unlike)]).double().numpy()
    is_like = np.repeat([1, 0], [len(like), len(unlike)])
    classifier = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=2000)
    classifier.fit(scores / scores.std(), is_like)
    weights = leading.basis @ torch.from_numpy(classifier.coef_[0]).to(unlabeled.dtype)
    found = unlabeled @ weights
    std = float(found.std().clamp_min(1e-12))
    return weights / std, -float(found.mean()) / std
