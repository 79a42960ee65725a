"""Training the prediction of FSIM from `prepare` folders and finished runs, so that a stopped run can go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save

from grepq_iqa.encoders.fine_detail import FINE_DETAIL
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.predicted_fsim import PREDICTED_FSIM, PredictedFsim, from_state, to_state
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing, sha256_of, write_atomically
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.fine_detail_run import read_fine_detail
from grepq_iqa.training.high_level.pooled_features import evenly
from grepq_iqa.training.high_level.run_files import read_high_level
from grepq_iqa.training.predicted_fsim import Read, Reader, fit_predicted_fsim, read_series, read_unlabeled
from grepq_iqa.training.recipe import PredictedFsimRecipe
from grepq_iqa.training.run_record import run_key, state_hash

SHARD = 20
KINDS = ("series", "unlabeled")


def train_predicted_fsim(
    pristine: Prepared,
    unlabeled: Prepared,
    high_level: Path,
    fine_detail: Path | None,
    recipe: PredictedFsimRecipe,
    out: Path,
    *,
    max_side: int | None = None,
    workers: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> Path:
    """Read the pictures that are not read yet, and write the networks, of which the worth is left to `export`.

    Args:
        pristine, unlabeled: photographs.
        high_level: folder of that training, which had a distortion head.
        fine_detail: folder of that training; None: the model has no such branch.
        recipe: settings.
        out: folder.
        max_side: longest side that the model looks at; None for any.
        workers: processes.
        on_done: told how many series and photographs are read.

    Returns:
        The file.

    Raises:
        UsageError: the high-level encoder has no distortion head, or its training is not finished.
    """
    encoder = read_high_level(high_level).encoder
    if not isinstance(encoder.tower, PooledEfficientNet) or encoder.tower.distortion_head is None:
        raise UsageError(
            "recipe: [predicted_fsim] reads what a distortion head tells, and [distortion_head] is missing"
        )
    of_fine = None if fine_detail is None else sha256_of(fine_detail / FINE_DETAIL)
    chosen = evenly(unlabeled.photographs, recipe.unlabeled_images)
    some, of_some = [Path(one.path) for one in chosen], [one.sha256 for one in chosen]
    key = run_key(pristine.sha256, of_some, state_hash(encoder), of_fine, recipe.crop, max_side, recipe.seed)
    shards = [
        *(("series", members) for members in _shards(recipe.series)),
        *(("unlabeled", members) for members in _shards(len(some))),
    ]
    folder = out / f"read-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{kind}-{members[0]:05d}-{members[-1]:05d}.npz" for kind, members in shards]
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(max(1, workers), context) as pool:
        jobs = [
            pool.submit(
                _write_shard, path, kind, members, high_level, fine_detail, pristine.paths, some, max_side, recipe
            )
            for path, (kind, members) in zip(paths, shards, strict=True)
            if not path.exists()
        ]
        for count, job in enumerate(jobs, start=len(shards) - len(jobs) + 1):
            job.result()
            on_done(min(count * SHARD, recipe.series + len(some)))
    read = {
        kind: [_read(path) for path, shard in zip(paths, shards, strict=True) if shard[0] == kind] for kind in KINDS
    }
    predicted = fit_predicted_fsim(
        Read(
            np.concatenate([one["read"] for one in read["series"]]),
            np.concatenate([one["fsim"] for one in read["series"]]),
            np.concatenate([one["read"] for one in read["unlabeled"]]),
        ),
        epochs=recipe.epochs,
        seed=recipe.seed,
    )
    write_atomically(out / PREDICTED_FSIM, save(to_state(predicted)))
    return out / PREDICTED_FSIM


def read_predicted_fsim(out: Path) -> PredictedFsim:
    """What `train_predicted_fsim` left in ``out``."""
    return from_state(load_file(out / PREDICTED_FSIM))


def _shards(count: int) -> list[range]:
    return [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]


def _write_shard(
    path: Path,
    kind: str,
    members: range,
    high_level: Path,
    fine_detail: Path | None,
    pristine: list[Path],
    unlabeled: list[Path],
    max_side: int | None,
    recipe: PredictedFsimRecipe,
) -> None:
    torch.set_num_threads(1)
    reader = _reader(high_level, fine_detail)
    if kind == "series":
        rows, fsim = read_series(reader, pristine, members, recipe.crop, recipe.seed)
        made = {"read": rows, "fsim": fsim}
    else:
        made = {"read": read_unlabeled(reader, unlabeled, members, recipe.crop, max_side, recipe.seed)}
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez(stream, **made)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def _reader(high_level: Path, fine_detail: Path | None) -> Reader:
    fine = None if fine_detail is None else read_fine_detail(fine_detail)
    return Reader(read_high_level(high_level).encoder, fine)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
