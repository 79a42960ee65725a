"""The feature cache of the commands that look at many files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ

CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that keeps features of files already seen. [default: in your cache folder]"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep features of files already seen.")]


def open_cache(model: GRepQ, folder: Path | None, no_cache: bool) -> FeatureCache | None:
    """The cache that the two options ask for."""
    from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key

    if no_cache:
        if folder is not None:
            raise UsageError("--cache and --no-cache exclude each other")
        return None
    return FeatureCache(folder or default_directory(), model_key(model))
