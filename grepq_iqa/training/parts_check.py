"""Whether the parts of a model that were trained apart belong together, before `export` says in its provenance so."""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.encoders.fine_detail import FINE_DETAIL
from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of
from grepq_iqa.training.high_level.run_files import HighLevelRun
from grepq_iqa.training.recipe import FineDetailRecipe, PredictedFsimRecipe, describe, load_recipe
from grepq_iqa.training.run_record import read_record, state_hash

SECTIONS = {"fine_detail": FineDetailRecipe, "predicted_fsim": PredictedFsimRecipe}
OF_EXPORT = {"weight", "close_up"}
"""Settings that no training of these parts looks at: `export` alone does."""


def require_parts(recipe: str, high: HighLevelRun, fine_detail: Path | None, predicted_fsim: Path | None) -> None:
    """Refuse parts of other settings than the recipe's, and predicted FSIM that read other parts than these.

    Args:
        recipe: name or file.
        high: the high-level encoder.
        fine_detail, predicted_fsim: folders of those trainings; None: the model has no such part.

    Raises:
        UsageError: so it is, or a training has not come to its end.
    """
    for folder, section in ((fine_detail, "fine_detail"), (predicted_fsim, "predicted_fsim")):
        if folder is None:
            continue
        was, wanted = (
            {name: value for name, value in settings.items() if name not in OF_EXPORT}
            for settings in (
                read_record(folder)["settings"][section],
                describe(load_recipe(recipe, section, SECTIONS[section])),
            )
        )
        if differ := sorted(name for name in was | wanted if was.get(name) != wanted.get(name)):
            raise UsageError(
                f"{folder} was trained with other settings ({', '.join(differ)}) than [{section}] of the recipe has: "
                f"give that recipe, or train it again"
            )
    if predicted_fsim is not None and read_record(predicted_fsim).get("reads") != parts_read(high, fine_detail):
        raise UsageError(
            f"{predicted_fsim} learned from other encoders than these: run `predicted-fsim` again with the same "
            "--high-level and --fine-detail as `export`"
        )


def parts_read(high: HighLevelRun, fine_detail: Path | None) -> dict[str, str | None]:
    """What tells apart the parts that predicted FSIM reads."""
    of_fine = None if fine_detail is None else sha256_of(fine_detail / FINE_DETAIL)
    return {"high_level": state_hash(high.encoder), "fine_detail": of_fine}
