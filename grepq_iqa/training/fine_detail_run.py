"""Training the full-resolution branch from `prepare` folders, so that a stopped run can go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from grepq_iqa.encoders.fine_detail import FINE_DETAIL, FineDetail, from_state, to_state
from grepq_iqa.files import replacing, write_atomically
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.fine_detail import FineSeries, fit_fine_detail, make_series
from grepq_iqa.training.recipe import FineDetailRecipe
from grepq_iqa.training.run_record import run_key

SHARD = 200


def train_fine_detail(
    pristine: Prepared,
    unlabeled: Prepared,
    recipe: FineDetailRecipe,
    out: Path,
    *,
    workers: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> Path:
    """Make the series that are not made yet, and write the branch, of which what it costs is left to `export`.

    Args:
        pristine, unlabeled: photographs that crops are cut from.
        recipe: settings.
        out: folder.
        workers: processes.
        on_done: told how many series there are.

    Returns:
        The file.
    """
    folder = out / f"series-{run_key(pristine.sha256, unlabeled.sha256, recipe.seed)}"
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, recipe.series, SHARD)
    shards = [(folder / f"{start:06d}.npz", range(start, min(start + SHARD, recipe.series))) for start in starts]
    todo = [(path, members) for path, members in shards if not path.exists()]
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(max(1, workers), context) as pool:
        jobs = [
            pool.submit(_write_shard, path, pristine.paths, unlabeled.paths, members, recipe.seed)
            for path, members in todo
        ]
        for count, job in enumerate(jobs, start=len(shards) - len(todo) + 1):
            job.result()
            on_done(min(count * SHARD, recipe.series))
    parts = [_read_shard(path) for path, _ in shards]
    series = FineSeries(
        np.concatenate([part.measures for part in parts]),
        np.concatenate([part.amounts for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )
    fine = fit_fine_detail(series, epochs=recipe.epochs, seed=recipe.seed)
    write_atomically(out / FINE_DETAIL, save(to_state(fine)))
    return out / FINE_DETAIL


def read_fine_detail(out: Path) -> FineDetail:
    """What `train_fine_detail` left in ``out``."""
    return from_state(load_file(out / FINE_DETAIL))


def _write_shard(path: Path, pristine: list[Path], unlabeled: list[Path], members: range, seed: int) -> None:
    made = make_series(pristine, unlabeled, members, seed)
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez(stream, measures=made.measures, amounts=made.amounts, kind=made.kind)


def _read_shard(path: Path) -> FineSeries:
    with np.load(path, allow_pickle=False) as stored:
        return FineSeries(stored["measures"], stored["amounts"], stored["kind"])
