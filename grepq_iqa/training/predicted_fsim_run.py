"""Training the prediction of FSIM from `prepare` folders and finished runs, so that a stopped run can go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch
from safetensors.numpy import load_file, save

from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.predicted_fsim import PREDICTED_FSIM, PredictedFsim, from_state, to_state
from grepq_iqa.errors import UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.training.data.prepare import Prepared, evenly
from grepq_iqa.training.fine_detail_run import read_fine_detail
from grepq_iqa.training.high_level.run_files import read_high_level
from grepq_iqa.training.parts_check import parts_read
from grepq_iqa.training.predicted_fsim import Read, Reader, fit_predicted_fsim, read_series, read_unlabeled
from grepq_iqa.training.recipe import PredictedFsimRecipe, describe
from grepq_iqa.training.run_record import RECORD, describe_data, run_key, write_record
from grepq_iqa.training.shards import Arrays, in_shards

SHARD = 20


def train_predicted_fsim(
    pristine: Prepared,
    unlabeled: Prepared,
    high_level: Path,
    fine_detail: Path | None,
    recipe: PredictedFsimRecipe,
    out: Path,
    *,
    recipe_name: str | None = None,
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
        recipe_name: of the recipe, for the record.
        max_side: longest side that the model looks at; None for any.
        workers: processes.
        on_done: told how many series and photographs are read.

    Returns:
        The file.

    Raises:
        UsageError: the high-level encoder has no distortion head, or its training is not finished.
    """
    high = read_high_level(high_level)
    encoder = high.encoder
    if not isinstance(encoder.tower, PooledEfficientNet) or encoder.tower.distortion_head is None:
        raise UsageError(
            "recipe: [predicted_fsim] reads what a distortion head tells, and [distortion_head] is missing"
        )
    if fine_detail is not None:
        read_fine_detail(fine_detail)  # or a sentence
    reads = parts_read(high, fine_detail)
    chosen = evenly(unlabeled.photographs, recipe.unlabeled_images)
    some, of_some = [Path(one.path) for one in chosen], [one.sha256 for one in chosen]
    key = run_key(pristine.sha256, of_some, reads, recipe.crop, max_side, recipe.seed)
    folder, read_by = out / f"read-{key}", partial(_reader, high_level, fine_detail)
    shards = partial(in_shards, folder=folder, size=SHARD, workers=workers)
    of_series = shards(
        partial(_read_series, read_by, pristine.paths, recipe.crop, recipe.seed),
        recipe.series,
        name="series",
        on_done=on_done,
    )
    of_unlabeled = shards(
        partial(_read_unlabeled, read_by, some, recipe.crop, max_side, recipe.seed),
        len(some),
        name="unlabeled",
        on_done=lambda done: on_done(recipe.series + done),
    )
    predicted = fit_predicted_fsim(
        Read(of_series["read"], of_series["fsim"], of_unlabeled["read"]), epochs=recipe.epochs, seed=recipe.seed
    )
    (out / RECORD).unlink(missing_ok=True)
    write_atomically(out / PREDICTED_FSIM, save(to_state(predicted)))
    write_record(
        out,
        {"predicted_fsim": describe(recipe)},
        describe_data(pristine=pristine, unlabeled=unlabeled),
        recipe_name=recipe_name,
        base_model=None,
        mixed_precision={},
        steps={},
        reads=reads,
    )
    return out / PREDICTED_FSIM


def read_predicted_fsim(out: Path) -> PredictedFsim:
    """What `train_predicted_fsim` left in ``out``.

    Raises:
        UsageError: nothing is there.
    """
    if not (out / PREDICTED_FSIM).is_file():
        raise UsageError(
            f"{out} holds no {PREDICTED_FSIM}: its training has not come to its end; run `predicted-fsim` again"
        )
    return from_state(load_file(out / PREDICTED_FSIM))


def _read_series(read_by: Callable[[], Reader], clean: list[Path], crop: int, seed: int, members: range) -> Arrays:
    torch.set_num_threads(1)
    read, fsim = read_series(read_by(), clean, members, crop, seed)
    return {"read": read, "fsim": fsim}


def _read_unlabeled(
    read_by: Callable[[], Reader], photographs: list[Path], crop: int, max_side: int | None, seed: int, members: range
) -> Arrays:
    torch.set_num_threads(1)
    return {"read": read_unlabeled(read_by(), photographs, members, crop, max_side, seed)}


@lru_cache(maxsize=1)
def _reader(high_level: Path, fine_detail: Path | None) -> Reader:
    fine = None if fine_detail is None else read_fine_detail(fine_detail)
    return Reader(read_high_level(high_level).encoder, fine)
