"""Groups for the low-level encoder: one photograph in several versions, two fragment views, their FSIM matrix.

Item ``k`` of the data set is a pure function of the seed and ``k``, so a run that was killed goes on with exactly the
items that it would have seen. With ``fixed_versions`` a photograph's versions are the same in every epoch, and only the
fragments change.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from grepq_iqa.training.data.distortions import DISTORTIONS, SEVERITIES, Picture, distort
from grepq_iqa.training.data.fragments import fragment_positions, take_fragments
from grepq_iqa.training.data.pictures import read_photograph
from grepq_iqa.training.recipe import LowLevelRecipe
from grepq_iqa.training.similarity.fsim import fsim_matrix
from grepq_iqa.training.similarity.fsim_cache import SimilarityCache


class QualityGroups(Dataset[dict[str, Tensor]]):
    """``length`` groups drawn from ``photographs``, each photograph once per pass in an order of its own.

    Items: ``first`` and ``second``, views ``(versions, 3, S, S)`` with ``S = grid * cell``; ``similarity``,
    ``(versions, versions)``.

    Args:
        cache: keeps FSIM matrices of fixed versions; None computes them for every item.
    """

    def __init__(
        self, photographs: list[Path], recipe: LowLevelRecipe, length: int, cache: SimilarityCache | None = None
    ) -> None:
        self.photographs, self.recipe, self.length = photographs, recipe, length
        self.cache = cache if recipe.fixed_versions else None
        self.families = sorted(DISTORTIONS) if recipe.families == "all" else list(recipe.families)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, index))
        number = self._photograph_of(index)
        versions = self.versions(number, rng)
        views = [self._view(versions, rng) for _ in range(2)]
        for axis in (-1, -2):
            if rng.random() < 0.5:
                views[1] = views[1].flip(axis)
        similarity = self.similarity(number, versions).clamp(0, 1) ** recipe.similarity_power
        return {"first": views[0], "second": views[1].contiguous(), "similarity": similarity}

    def versions(self, number: int, rng: np.random.Generator | None = None) -> Tensor:
        """Photograph ``number`` and its damaged versions, ``(versions, 3, H, W)``; ``rng`` draws ones not fixed."""
        if self.recipe.fixed_versions or rng is None:
            rng = np.random.default_rng((self.recipe.seed, 2, number))
        picture = crop_at_random(read_photograph(self.photographs[number]), self.recipe.crop, rng)
        return torch.from_numpy(np.stack(self.make_versions(picture, rng))).permute(0, 3, 1, 2)

    def similarity(self, number: int, versions: Tensor) -> Tensor:
        """FSIM ``(versions, versions)``, from the cache where there is one."""
        if self.cache is None:
            return fsim_matrix(versions)
        return self.cache.get(self.photographs[number], lambda: fsim_matrix(versions))

    def fill_cache(self, on_done: Callable[[int], None] | None = None) -> None:
        """Compute what the cache lacks, once for every photograph."""
        assert self.cache is not None, "versions that change with the epoch have no matrix to keep"
        for number, photograph in enumerate(self.photographs):
            self.cache.get(photograph, partial(self._fsim_of, number))
            if on_done:
                on_done(number + 1)

    def _fsim_of(self, number: int) -> Tensor:
        return fsim_matrix(self.versions(number))

    def make_versions(self, picture: Picture, rng: np.random.Generator) -> list[Picture]:
        """The picture itself, then each drawn family at its drawn severities."""
        families = rng.choice(self.families, self.recipe.distortions_per_group, replace=False)
        versions = [picture]
        for family in families:
            severities = rng.choice(SEVERITIES, self.recipe.levels_per_distortion, replace=False)
            versions += [distort(picture, str(family), int(severity), rng) for severity in np.sort(severities)]
        return versions

    def _view(self, versions: Tensor, rng: np.random.Generator) -> Tensor:
        height, width = versions.shape[-2:]
        corners = fragment_positions(height, width, self.recipe.grid, self.recipe.cell, rng)
        return take_fragments(versions, corners, self.recipe.cell)

    def _photograph_of(self, index: int) -> int:
        epoch, position = divmod(index, len(self.photographs))
        return int(np.random.default_rng((self.recipe.seed, 1, epoch)).permutation(len(self.photographs))[position])


def crop_at_random(picture: Picture, side: int, rng: np.random.Generator) -> Picture:
    """A random ``side`` x ``side`` square, or the whole picture where ``side`` is 0 or does not fit."""
    height, width = picture.shape[:2]
    if not side or side > min(height, width):
        return picture
    y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return np.ascontiguousarray(picture[y : y + side, x : x + side])
