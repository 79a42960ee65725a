"""FSIM matrices on disk. FSIM is the dearest part of preparing an item, and does not change between epochs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grepq_iqa._version import __version__
from grepq_iqa.files import replacing
from grepq_iqa.training.recipe import LowLevelRecipe, describe

_OF_COPIES = ("crop", "distortions_per_image", "levels_per_distortion", "families", "seed")


class FSIMCache:
    """One file a photograph below ``folder / fsim-KEY``.

    KEY changes with the settings that draw the copies and with the version of the code; a file's name is the SHA-256 of
    its photograph, by whose content the copies are drawn.
    """

    def __init__(self, folder: Path, recipe: LowLevelRecipe) -> None:
        settings = {name: describe(recipe)[name] for name in _OF_COPIES} | {"code": __version__}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = folder / f"fsim-{key}"

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
