"""Render the fixed copies of all photographs and their FSIM matrices, a process a core; killed, it goes on later."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.contrastive_views import ContrastiveViews
from grepq_iqa.training.data.copy_store import CopyStore
from grepq_iqa.training.data.prepare import Photograph, Prepared
from grepq_iqa.training.recipe import LowLevelRecipe

_VIEWS: ContrastiveViews | None = None


def render_copies(
    prepared: Prepared,
    recipe: LowLevelRecipe,
    folder: Path,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Path:
    """Make what ``folder`` lacks, and return where the copies are.

    Args:
        prepared: the photographs.
        recipe: with ``fixed_copies``.
        folder: of `prepare`.
        workers: processes of one thread each, which together hold as many photographs; by default one a core.
        on_done: called with the number of photographs that are there.

    Raises:
        UsageError: copies that change with the epoch cannot be kept, or the disk has no room for them.
        ImageError: a photograph cannot be read any more.
    """
    if not recipe.fixed_copies:
        raise UsageError("this recipe distorts a photograph anew each time: there are no copies to keep")
    store = CopyStore(folder, recipe)
    store.require_space(prepared.photographs, recipe)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    arguments = (recipe, folder)
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, context, _start, arguments) as pool:
        for count, _ in enumerate(pool.map(_render, prepared.photographs, chunksize=1), start=1):
            if on_done:
                on_done(count)
    return store.folder


def _start(recipe: LowLevelRecipe, folder: Path) -> None:
    global _VIEWS
    import torch

    torch.set_num_threads(1)
    _VIEWS = ContrastiveViews([], recipe, 0, folder)


def _render(photograph: Photograph) -> None:
    assert _VIEWS is not None and _VIEWS.cache is not None and _VIEWS.store is not None  # set by _start
    views, store = _VIEWS, _VIEWS.store
    copies = store.get(photograph.sha256, lambda: views.fixed_copies(photograph))
    views.similarity(photograph, copies)
