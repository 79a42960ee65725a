"""Copies of rated photographs that people would have rated alike: mirrored, and cut a little on all sides.

Small networks learn from them beside the photographs themselves, as networks for recognition do (Krizhevsky et al.,
"ImageNet classification with deep convolutional neural networks", NIPS 2012): what changes between both is not what
people judge by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from grepq_iqa.batch import score_sources
from grepq_iqa.cli.progress import track
from grepq_iqa.data.images import load_image
from grepq_iqa.errors import LabelsError
from grepq_iqa.feature_cache import FeatureCache
from grepq_iqa.files import sha256_of
from grepq_iqa.model import GRepQ

SHARE = (0.75, 0.97)  # of width and height that is kept


def features_of_copies(
    model: GRepQ, paths: Sequence[Path], copies: int, cache: FeatureCache | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features ``(m, d)`` of ``m`` copies, and of which photograph each is one, ``(m,)``.

    Copy ``k`` of a photograph is a pure function of ``k`` and the content of its file.

    Args:
        model: by which.
        paths: photographs.
        copies: of each.
        cache: of features; None: none is kept.

    Raises:
        LabelsError: a photograph cannot be used.
    """
    of = np.repeat(np.arange(len(paths)), copies)
    keys = [_key(digest, copy) for digest in map(sha256_of, paths) for copy in range(copies)]
    known = {i: entry.features for i, key in enumerate(keys) if cache and (entry := cache.read(key))}
    missing = [i for i in range(len(keys)) if i not in known]
    sources = ((str(paths[of[i]]), partial(_load_copy, paths[of[i]], keys[i], model.max_side)) for i in missing)
    results = track(score_sources(model, sources), "features of copies", total=len(missing))
    for i, result in zip(missing, results, strict=True):
        if result.features is None:
            raise LabelsError(f"{result.path}: {result.error}", result.path)
        known[i] = result.features
        if cache:
            cache.write(keys[i], result.features)
    return np.array([known[i] for i in range(len(keys))], dtype=np.float32), of


def mirrored_cut(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Of a picture ``(c, h, w)`` a part of the same shape, anywhere in it, with left and right changed."""
    share = rng.uniform(*SHARE)
    height, width = (max(1, round(share * size)) for size in picture.shape[1:])
    top = int(rng.integers(0, picture.shape[1] - height + 1))
    left = int(rng.integers(0, picture.shape[2] - width + 1))
    return picture[:, top : top + height, left : left + width].flip(2)


def _key(digest: str, copy: int) -> str:
    """64 hex digits for a copy of a file of that digest, by which it is drawn and its features are kept."""
    return hashlib.sha256(f"{digest} mirrored cut {SHARE} {copy}".encode()).hexdigest()


def _load_copy(path: Path, key: str, max_side: int | None) -> Tensor:
    return mirrored_cut(load_image(path, max_side=max_side), np.random.default_rng(int(key[:16], 16)))
