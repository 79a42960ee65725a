"""FSIM matrices on disk. FSIM is the dearest part of preparing a group, and does not change between epochs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grepq_iqa.training.recipe import LowLevelRecipe, describe

_OF_VERSIONS = ("crop", "distortions_per_group", "levels_per_distortion", "families", "seed")


class SimilarityCache:
    """One file a photograph below ``folder / fsim-KEY``; KEY changes with whatever changes the versions."""

    def __init__(self, folder: Path, recipe: LowLevelRecipe) -> None:
        settings = {name: describe(recipe)[name] for name in _OF_VERSIONS}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = folder / f"fsim-{key}"

    def get(self, photograph: Path, compute: Callable[[], Tensor]) -> Tensor:
        """The matrix of ``photograph``, computed and kept where it is not there; a damaged file is made again."""
        status = photograph.stat()
        identity = f"{photograph.absolute()} {status.st_size} {status.st_mtime_ns}"
        path = self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npy"
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            matrix = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.part")  # several workers may meet at one photograph
        with fresh.open("wb") as file:
            np.save(file, matrix.numpy())
        fresh.replace(path)
        return matrix
