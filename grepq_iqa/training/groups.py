"""Groups for the low-level encoder: one photograph in several versions, two fragment views, their FSIM matrix.

Item ``k`` of the data set is a pure function of the seed and ``k``, so a run that was killed goes on with exactly the
items that it would have seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from grepq_iqa.training.distortions import DISTORTIONS, SEVERITIES, Picture, distort
from grepq_iqa.training.fragments import fragment_positions, take_fragments
from grepq_iqa.training.fsim import fsim_matrix
from grepq_iqa.training.photographs import read_photograph
from grepq_iqa.training.recipe import LowLevelRecipe


class QualityGroups(Dataset[dict[str, Tensor]]):
    """``length`` groups drawn from ``photographs``, each photograph once per pass in an order of its own.

    Items: ``first`` and ``second``, views ``(versions, 3, S, S)`` with ``S = grid * cell``; ``similarity``,
    ``(versions, versions)``.
    """

    def __init__(self, photographs: list[Path], recipe: LowLevelRecipe, length: int) -> None:
        self.photographs, self.recipe, self.length = photographs, recipe, length
        self.families = sorted(DISTORTIONS) if recipe.families == "all" else list(recipe.families)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, index))
        picture = crop_at_random(read_photograph(self.photographs[self._photograph_of(index)]), recipe.crop, rng)
        versions = torch.from_numpy(np.stack(self.make_versions(picture, rng))).permute(0, 3, 1, 2)
        views = [self._view(versions, rng) for _ in range(2)]
        for axis in (-1, -2):
            if rng.random() < 0.5:
                views[1] = views[1].flip(axis)
        similarity = fsim_matrix(versions).clamp(0, 1) ** recipe.similarity_power
        return {"first": views[0], "second": views[1].contiguous(), "similarity": similarity}

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
