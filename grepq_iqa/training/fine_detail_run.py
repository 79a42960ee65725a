"""Training the full-resolution branch from `prepare` folders, so that a stopped run can go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors.numpy import load_file, save

from grepq_iqa.encoders.fine_detail import FINE_DETAIL, FineDetail, from_state, to_state
from grepq_iqa.errors import UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.fine_detail import FineSeries, fit_fine_detail, make_series
from grepq_iqa.training.recipe import FineDetailRecipe, describe
from grepq_iqa.training.run_record import RECORD, describe_data, run_key, write_record
from grepq_iqa.training.shards import Arrays, in_shards

SHARD = 200


def train_fine_detail(
    pristine: Prepared,
    unlabeled: Prepared,
    recipe: FineDetailRecipe,
    out: Path,
    *,
    recipe_name: str | None = None,
    workers: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> Path:
    """Make the series that are not made yet, and write the branch, of which what it costs is left to `export`.

    Args:
        pristine, unlabeled: photographs that crops are cut from.
        recipe: settings.
        out: folder.
        recipe_name: of the recipe, for the record.
        workers: processes.
        on_done: told how many series there are.

    Returns:
        The file.
    """
    made = in_shards(
        partial(_make, pristine.paths, unlabeled.paths, recipe.seed),
        recipe.series,
        out / f"series-{run_key(pristine.sha256, unlabeled.sha256, recipe.seed)}",
        name="series",
        size=SHARD,
        workers=workers,
        on_done=on_done,
    )
    series = FineSeries(made["measures"], made["amounts"], made["kind"])
    fine = fit_fine_detail(series, epochs=recipe.epochs, seed=recipe.seed)
    (out / RECORD).unlink(missing_ok=True)
    write_atomically(out / FINE_DETAIL, save(to_state(fine)))
    data = describe_data(pristine=pristine, unlabeled=unlabeled)
    settings = {"fine_detail": describe(recipe)}
    write_record(out, settings, data, recipe_name=recipe_name, base_model=None, mixed_precision={}, steps={})
    return out / FINE_DETAIL


def read_fine_detail(out: Path) -> FineDetail:
    """What `train_fine_detail` left in ``out``.

    Raises:
        UsageError: nothing is there.
    """
    if not (out / FINE_DETAIL).is_file():
        raise UsageError(f"{out} holds no {FINE_DETAIL}: its training has not come to its end; run `fine-detail` again")
    return from_state(load_file(out / FINE_DETAIL))


def _make(pristine: list[Path], unlabeled: list[Path], seed: int, members: range) -> Arrays:
    made = make_series(pristine, unlabeled, members, seed)
    return {"measures": made.measures, "amounts": made.amounts, "kind": made.kind}
