"""Scores and features of many photographs, in one process per core."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.model import GRepQ

_MODEL: GRepQ | None = None


@dataclass(frozen=True)
class ScoredPhotographs:
    """Scores and features in the order of the photographs.

    Attributes:
        low, high: Q_L and Q_H, ``(n,)``.
        features: ``(n, d)`` float32.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    features: NDArray[np.float32]

    @property
    def total(self) -> NDArray[np.float64]:
        """Q, ``(n,)``."""
        return self.low + self.high


def score_photographs(
    directory: Path,
    photographs: list[Path],
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> ScoredPhotographs:
    """Score ``photographs`` by the model in ``directory``; single-threaded processes beat one with threads.

    Raises:
        ImageError: one of them cannot be read.
    """
    workers = workers or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    low, high, features = [], [], []
    with ProcessPoolExecutor(workers, context, _start, (directory,)) as pool:
        for count, (a, b, vector) in enumerate(pool.map(_score, map(str, photographs), chunksize=4), start=1):
            low.append(a)
            high.append(b)
            features.append(vector)
            if on_done:
                on_done(count)
    return ScoredPhotographs(np.array(low), np.array(high), np.stack(features))


def _start(directory: Path) -> None:
    global _MODEL
    import torch

    torch.set_num_threads(1)
    _MODEL = GRepQ.from_pretrained(directory, device="cpu", dtype="float32")


def _score(path: str) -> tuple[float, float, NDArray[np.float32]]:
    assert _MODEL is not None  # set by _start in this process
    [score], features = _MODEL.score_and_features([path])
    return score.low_level, score.high_level, features[0]
