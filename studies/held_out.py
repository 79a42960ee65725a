"""Which photographs a study takes: all that were named, or the held-out ones among them, known by what is in them."""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.files import sha256_of


def photographs_of(named: list[str], held_out: Path | None = None) -> list[Path]:
    """Photographs of files and folders in their order.

    Args:
        named: files and folders.
        held_out: a list of SHA-256, one a line, of the ones to take; None takes all.
    """
    paths = list(iter_image_paths(named))
    if held_out is None:
        return paths
    wanted = set(held_out.read_text().split())
    return [path for path in paths if sha256_of(path) in wanted]
