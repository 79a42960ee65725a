"""A fitted model on disk: the model directory plus calibration.safetensors, bound to the encoders by their hash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from grepq_iqa.calibration.prior import PRIORS, column_names
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import replacing, write_atomically

if TYPE_CHECKING:
    from grepq_iqa.calibration.pairs import PairwiseRegressor
    from grepq_iqa.calibration.regressor import MOSRegressor

CALIBRATION = "calibration.safetensors"
PAIRS = "pairs"
"""What the metadata of a fit on comparisons say that it was fitted on; others say nothing."""


class Calibration(NamedTuple):
    """What a fitted model holds beside its encoders.

    Attributes:
        regressor: fitted.
        max_side: of the pictures that it was fitted on (0: not shrunk); None in files that did not note it.
        prior: head start of the fit, resolved; "none" in files of version 0.1.
        lower_is_better: whether its labels measure distortion; files before this was noted are taken not to.
    """

    regressor: MOSRegressor | PairwiseRegressor
    max_side: int | None
    prior: str
    lower_is_better: bool = False


def write_directory(
    directory: Path,
    files: Mapping[str, Path],
    encoder_hash: str,
    regressor: MOSRegressor | PairwiseRegressor | None,
    max_side: int | None,
    *,
    prior: str = "none",
    ratings_hash: str | None = None,
    engine: str = "torch float32",
    features_hash: str | None = None,
    agreement: float | None = None,
    lower_is_better: bool = False,
    known: Collection[str] = (),
) -> Path:
    """Copy a model's ``files`` into ``directory``, with the regressor as it is now.

    Every file takes its place whole, and the regressor comes last: a full disk leaves a model that was there usable.

    Args:
        directory: made if need be.
        files: name in a model directory -> path.
        encoder_hash: of the features that the regressor was fitted on.
        regressor: None leaves calibration.safetensors out.
        max_side: to which the pictures were shrunk that the regressor was fitted on, None for not at all.
        prior: head start of the fit, resolved.
        ratings_hash: of the ratings predictor, where the prior uses one.
        engine: name and number format of the engine whose features the regressor was fitted on.
        features_hash: of that engine.
        agreement: how far its features lie from torch's, where it is not torch.
        lower_is_better: whether the labels measure distortion.
        known: names that files of a model have; those that ``files`` lack are another model's, and are taken away.

    Raises:
        UsageError: ``directory`` is a file, holds something that is not a model, or cannot be written.
    """
    require_model_folder(directory)
    try:
        for name, path in files.items():
            if name != CALIBRATION and Path(path).resolve() != (directory / name).resolve():
                with replacing(directory / name) as beside:
                    shutil.copyfile(path, beside)
        for name in set(known) - set(files) - {CALIBRATION}:
            (directory / name).unlink(missing_ok=True)
        if regressor is None:
            (directory / CALIBRATION).unlink(missing_ok=True)
        else:
            state = {key: np.ascontiguousarray(value) for key, value in regressor.state().items()}
            notes = {"encoder_hash": encoder_hash, "max_side": str(max_side or 0), "prior": prior, "engine": engine}
            if features_hash is not None:
                notes["features_hash"] = features_hash
            if agreement is not None:
                notes["agreement"] = f"{agreement:.6f}"
            if "factor" in state:  # files of other fits stay those of version 0.1
                notes["fitted_on"] = PAIRS
            if lower_is_better:
                notes["lower_is_better"] = "true"
            if ratings_hash and prior in ("ratings", "both"):
                notes["ratings_hash"] = ratings_hash
            write_atomically(directory / CALIBRATION, save(state, metadata=notes))
    except OSError as error:
        raise UsageError(f"cannot write the model to {directory}: {error.strerror or error}") from error
    return directory


def require_model_folder(directory: Path) -> None:
    """Refuse a folder that must not be written to, before any work is done for it.

    Raises:
        UsageError: ``directory`` is a file, or holds something that is not a model.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file; give a folder")
    if directory.is_dir() and any(directory.iterdir()) and not _is_ours(directory / "config.json"):
        raise UsageError(f"{directory} holds other files and no model of grepq; give a new folder")


def _is_ours(config: Path) -> bool:
    """Whether a file is a config of a model of ours, of any format; other programs have a config.json, too."""
    try:
        known = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(known, dict) and {"low_level", "high_level"} <= known.keys()


class FittedOn(NamedTuple):
    """Whose features a model was fitted on.

    Attributes:
        engine: name and number format, such as "onnx int8"; files before 0.2 say nothing and are torch's.
        features_hash: of the engine, or None where the file says nothing.
        agreement: how far its features lie from torch's float32 ones, None for torch.
    """

    engine: str
    features_hash: str | None
    agreement: float | None


def fitted_on(files: Mapping[str, Path]) -> FittedOn:
    """What `write_directory` noted of the engine; a file that cannot be read is for `read_calibration` to refuse."""
    try:
        with safe_open(files[CALIBRATION], framework="numpy") as stored:
            notes = stored.metadata() or {}
    except Exception:  # safetensors raises its own type, OSError or ValueError
        notes = {}
    agreement = notes.get("agreement")
    engine = notes.get("engine") or "torch"
    return FittedOn(engine, notes.get("features_hash"), None if agreement is None else float(agreement))


def read_calibration(
    files: Mapping[str, Path], encoder_hash: str, name: str, ratings_hash: str | None = None
) -> Calibration:
    """What `write_directory` left in ``files`` of a fit, or version 0.1 did.

    Args:
        files: name in a model directory -> path.
        encoder_hash: of the model's encoders.
        name: of the model, for errors.
        ratings_hash: of the model's ratings predictor; None without one.

    Raises:
        WeightsError: it is damaged, or was fitted on the features of other encoders or with other ratings.
    """
    from grepq_iqa.calibration.regressor import MOSRegressor

    try:
        with safe_open(files[CALIBRATION], framework="numpy") as stored:
            notes = stored.metadata() or {}
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # safetensors raises its own type, OSError or ValueError
        raise WeightsError(f"{files[CALIBRATION]} cannot be read: {error}", name, CALIBRATION) from error
    fitted_on = notes.get("encoder_hash")
    if fitted_on != encoder_hash:
        raise WeightsError(
            f"{CALIBRATION} of {name!r} was fitted on the features of other encoders ({str(fitted_on)[:12]}, not "
            f"{encoder_hash[:12]})",
            name,
            CALIBRATION,
            "fit again with this model, or take the weights that it was fitted on (compact@0.1: those of version 0.1)",
        )
    if notes.get("ratings_hash", ratings_hash) != ratings_hash:
        raise WeightsError(
            f"{CALIBRATION} of {name!r} was fitted with another ratings.safetensors than the model has",
            name,
            CALIBRATION,
            "fit again with this model",
        )
    side, prior = notes.get("max_side"), notes.get("prior", "none")
    regressor: MOSRegressor | PairwiseRegressor
    if notes.get("fitted_on") == PAIRS:
        from grepq_iqa.calibration.pairs import PairwiseRegressor

        regressor = PairwiseRegressor.from_state(state, name=name)
    else:
        regressor = MOSRegressor.from_state(state, name=name)
    if prior == "auto" or prior not in PRIORS or regressor.unclipped != len(column_names(prior)):
        raise WeightsError(f"{CALIBRATION} of {name!r} has an unknown head start {prior!r}", name, CALIBRATION)
    side_length = int(side) if side and side.isdigit() else None
    return Calibration(regressor, side_length, prior, notes.get("lower_is_better") == "true")
