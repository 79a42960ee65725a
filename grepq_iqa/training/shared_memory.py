"""Shared memory, through which processes that prepare pictures hand them over; containers often have 64 MB of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

FOLDER = Path("/dev/shm")
AHEAD = 2
"""Batches that a worker of torch's DataLoader prepares ahead."""


def warn_if_small(item: Mapping[str, Tensor], workers: int, batch_size: int, folder: Path = FOLDER) -> None:
    """Warn where shared memory does not hold the batches under way: a worker then dies of a "bus error".

    Args:
        item: of the data set, like all the others in size.
        workers: processes that prepare them.
        batch_size: items of a batch in this process.
        folder: where the operating system shows shared memory; nothing is known where it is absent.
    """
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):  # macOS and Windows have no such folder
        return
    needed = sum(tensor.nbytes for tensor in item.values()) * batch_size * workers * AHEAD
    free = status.f_bavail * status.f_frsize
    if needed > free:
        warnings.warn(
            f"{workers} workers hold up to {needed / 1e6:.0f} MB of batches in shared memory and {folder} has "
            f"{free / 1e6:.0f} MB free: start the container with a larger --shm-size, or give fewer --workers",
            stacklevel=2,
        )
