"""FSIM matrices on disk. FSIM is the dearest part of preparing an item, and does not change between epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grepq_iqa.files import replacing
from grepq_iqa.training.recipe import LowLevelRecipe, key_of_copies


class FSIMCache:
    """One file a photograph below ``folder / fsim-KEY``, with KEY from `key_of_copies`.

    A file's name is the SHA-256 of its photograph, by whose content the copies are drawn.
    """

    def __init__(self, folder: Path, recipe: LowLevelRecipe) -> None:
        self.folder = folder / f"fsim-{key_of_copies(recipe)}"

    def get(self, sha256: str, compute: Callable[[], Tensor]) -> Tensor:
        """The matrix of a photograph, computed and kept where it is not there; a broken file is made again.

        Args:
            sha256: of the photograph's file.
            compute: makes the matrix.
        """
        path = self.folder / f"{sha256}.npy"
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            matrix = compute()
        with replacing(path) as beside:  # several workers may meet at one photograph
            np.save(beside, matrix.numpy())
        return matrix
