"""Fixed distorted copies on disk: rendered once, uncompressed, and read by memory map.

An epoch then costs a worker the fragments that it cuts out and nothing else, whatever the size of the photographs. At
1,024 pixels a side a photograph's nine copies take some 19 MB, at 512 some 5 MB.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.training.data.prepare import Photograph
from grepq_iqa.training.recipe import LowLevelRecipe, key_of_copies


class CopyStore:
    """One file a photograph below ``folder / copies-KEY``, with KEY from `key_of_copies`.

    A file is NumPy's own format, uint8 ``(copies, 3, H, W)``; its name is the SHA-256 of the photograph's file.
    """

    def __init__(self, folder: Path, recipe: LowLevelRecipe) -> None:
        self.folder = folder / f"copies-{key_of_copies(recipe)}"

    def holds(self, sha256: str) -> bool:
        """Whether the copies of a photograph are there."""
        return self._path(sha256).is_file()

    def get(self, sha256: str, render: Callable[[], Tensor]) -> Tensor:
        """Copies of a photograph, uint8 ``(copies, 3, H, W)``, mapped and not read; rendered and kept if not there.

        A broken file is made again. What is returned may be written to: the file stays as it is.

        Args:
            sha256: of the photograph's file.
            render: makes the copies.
        """
        path = self._path(sha256)
        try:
            return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        except (OSError, ValueError, EOFError):
            copies = render()
        with replacing(path) as beside:  # several workers may meet at one photograph
            np.save(beside, copies.numpy())
        return copies

    def require_space(self, photographs: Sequence[Photograph], recipe: LowLevelRecipe) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            UsageError: it cannot.
        """
        copies = 1 + recipe.distortions_per_image * recipe.levels_per_distortion
        needed = 0
        for photograph in photographs:
            if not self.holds(photograph.sha256):
                longest = max(photograph.width, photograph.height)
                shrunk = min(1.0, recipe.copies_max_side / longest) if recipe.copies_max_side else 1.0
                pixels = photograph.width * photograph.height * shrunk**2
                needed += round(min(pixels, recipe.crop**2) if recipe.crop else pixels) * 3 * copies
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UsageError(
                f"the distorted copies need {needed / 1e9:.1f} GB in {self.folder}, where {free / 1e9:.1f} GB are "
                "free: free some space, choose another --out, or lower copies_max_side in the recipe"
            )

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.npy"
