"""Arrays that processes make in parts, each kept as soon as it is made, so that a stopped run makes only the rest."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.files import replacing

Arrays = Mapping[str, NDArray[Any]]


def in_shards(
    make: Callable[[range], Arrays],
    count: int,
    folder: Path,
    *,
    name: str,
    size: int,
    workers: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> dict[str, NDArray[Any]]:
    """Arrays of items 0 to ``count - 1``, of which those that lie in ``folder`` are not made again.

    Args:
        make: gives arrays of some items, a row an item. Processes start anew, so it must be picklable, and what it
            gives depend on the items alone.
        count: of items, at least 1.
        folder: of shards, for one ``make`` and its settings; it is created.
        name: of these items, so that one folder can hold several kinds.
        size: items of a shard.
        workers: processes.
        on_done: told how many items there are, after each shard that was missing.

    Returns:
        Every array of ``make``, ``(count, ...)``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    members = [range(start, min(start + size, count)) for start in range(0, count, size)]
    # Named by the last item as well: with a larger count a last shard that was short is another one.
    paths = [folder / f"{name}-{some[0]:06d}-{some[-1]:06d}.npz" for some in members]
    missing = [(path, some) for path, some in zip(paths, members, strict=True) if not path.exists()]
    done = count - sum(len(some) for _, some in missing)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(max(1, workers), context)
    try:
        jobs = [pool.submit(partial(_write, make), path, some) for path, some in missing]
        for job, (_, some) in zip(jobs, missing, strict=True):
            job.result()
            done += len(some)
            on_done(done)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, what is being made is finished, and nothing else begun
    parts = [_read(path) for path in paths]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _write(make: Callable[[range], Arrays], path: Path, members: range) -> None:
    made = make(members)
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez(stream, **made)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
