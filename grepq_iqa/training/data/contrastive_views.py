"""What the low-level encoder learns from: distorted copies of one photograph, two fragment views of each, their FSIM.

Item ``k`` of the data set is a pure function of the seed and ``k``, so a run that was killed goes on with exactly the
items that it would have seen. With ``fixed_copies`` the copies are drawn by the photograph's content, so they are the
same in every epoch, and stay so whatever other photographs join the list; only the fragments change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from grepq_iqa.training.data.copy_store import CopyStore
from grepq_iqa.training.data.distortions import DISTORTIONS, SEVERITIES, Picture, distort
from grepq_iqa.training.data.fragments import fragment_positions, take_fragments
from grepq_iqa.training.data.pictures import crop_at_random, read_picture
from grepq_iqa.training.data.prepare import Photograph
from grepq_iqa.training.recipe import LowLevelRecipe
from grepq_iqa.training.similarity.fsim import fsim_matrix
from grepq_iqa.training.similarity.fsim_cache import FSIMCache


def as_float(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1], of uint8 or of float32 that are so already."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


class ContrastiveViews(Dataset[dict[str, Tensor]]):
    """``length`` items drawn from ``photographs``, each photograph once per pass in an order of its own.

    Items: ``first`` and ``second``, views ``(copies, 3, S, S)`` with ``S = grid * cell``, uint8 of fixed copies and
    float32 in [0, 1] of others; ``similarity``, ``(copies, copies)``. The first copy is the photograph itself.

    Args:
        photographs: as `prepare` listed them.
        recipe: settings.
        length: number of items.
        folder: keeps fixed copies and their FSIM matrices; None makes them anew for every item.
    """

    def __init__(
        self, photographs: list[Photograph], recipe: LowLevelRecipe, length: int, folder: Path | None = None
    ) -> None:
        self.photographs, self.recipe, self.length = photographs, recipe, length
        kept = folder if recipe.fixed_copies else None
        self.store = None if kept is None else CopyStore(kept, recipe)
        self.cache = None if kept is None else FSIMCache(kept, recipe)
        self.families = sorted(DISTORTIONS) if recipe.families == "all" else list(recipe.families)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, index))
        photograph = self.photographs[self._position(index)]
        copies = self.copies(photograph, rng)
        views = [self._view(copies, rng) for _ in range(2)]
        for axis in (-1, -2):
            if rng.random() < 0.5:
                views[1] = views[1].flip(axis)
        similarity = self.similarity(photograph, copies).clamp(0, 1) ** recipe.similarity_power
        return {"first": views[0], "second": views[1].contiguous(), "similarity": similarity}

    def copies(self, photograph: Photograph, rng: np.random.Generator) -> Tensor:
        """A photograph and its distorted copies, ``(copies, 3, H, W)``; ``rng`` draws those that are not fixed."""
        if not self.recipe.fixed_copies:
            return self._render(crop_at_random(read_picture(Path(photograph.path)), self.recipe.crop, rng), rng)
        if self.store is None:
            return self.fixed_copies(photograph)
        return self.store.get(photograph.sha256, lambda: self.fixed_copies(photograph))

    def fixed_copies(self, photograph: Photograph) -> Tensor:
        """The copies that a photograph has in every epoch, uint8 ``(copies, 3, H, W)``."""
        rng = np.random.default_rng((self.recipe.seed, 2, int(photograph.sha256, 16)))
        picture = read_picture(Path(photograph.path), max_side=self.recipe.copies_max_side or None)
        copies = self._render(crop_at_random(picture, self.recipe.crop, rng), rng)
        return (copies * 255).round_().to(torch.uint8)

    def similarity(self, photograph: Photograph, copies: Tensor) -> Tensor:
        """FSIM ``(copies, copies)``, from the cache where there is one."""
        if self.cache is None:
            return fsim_matrix(as_float(copies))
        return self.cache.get(photograph.sha256, lambda: fsim_matrix(as_float(copies)))

    def make_copies(self, picture: Picture, rng: np.random.Generator) -> list[Picture]:
        """The picture itself, then each drawn family at its drawn severities."""
        families = rng.choice(self.families, self.recipe.distortions_per_image, replace=False)
        copies = [picture]
        for family in families:
            severities = rng.choice(SEVERITIES, self.recipe.levels_per_distortion, replace=False)
            copies += [distort(picture, str(family), int(severity), rng) for severity in np.sort(severities)]
        return copies

    def _render(self, picture: Picture, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(np.stack(self.make_copies(picture, rng))).permute(0, 3, 1, 2).contiguous()

    def _view(self, copies: Tensor, rng: np.random.Generator) -> Tensor:
        height, width = copies.shape[-2:]
        corners = fragment_positions(
            height, width, self.recipe.grid, self.recipe.cell, rng, equal_cells=self.recipe.equal_cells
        )
        return take_fragments(copies, corners, self.recipe.cell)

    def _position(self, index: int) -> int:
        epoch, position = divmod(index, len(self.photographs))
        return int(np.random.default_rng((self.recipe.seed, 1, epoch)).permutation(len(self.photographs))[position])
