"""Trained encoders -> a model directory: fp16 weights, pristine moments, scales, quantiles, provenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from scipy.optimize import brentq
from scipy.special import expit, logit
from torch import Tensor, nn

from grepq_iqa._version import __version__
from grepq_iqa.encoders import fine_detail, predicted_fsim
from grepq_iqa.encoders.fine_detail import AMOUNTS, FINE_DETAIL, FineDetail
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.predicted_fsim import PREDICTED_FSIM, PredictedFsim
from grepq_iqa.errors import UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.model import GRepQ
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.data.pristine_tiles import pristine_moments
from grepq_iqa.training.high_level.run_files import HighLevelRun
from grepq_iqa.training.low_level import LowLevelRun
from grepq_iqa.training.parallel_scoring import ScoredPhotographs, score_photographs
from grepq_iqa.training.recipe import (
    FeatureRecipe,
    FineDetailRecipe,
    PredictedFsimRecipe,
    ProvenanceRecipe,
    ScoringRecipe,
    describe,
)
from grepq_iqa.training.run_record import describe_data
from grepq_iqa.weights.config import FORMAT, write_config
from grepq_iqa.weights.manifest import MODEL_FILES
from grepq_iqa.zero_shot import DISTANCE_SCALE, LOGIT_SCALE

QUANTILES = 1001
LICENSE = "MIT"
"""Of the weights that this code trains, unless what they start from says otherwise."""


def export_model(
    directory: Path,
    low: LowLevelRun,
    high: HighLevelRun,
    pristine: Prepared,
    unlabeled: Prepared,
    *,
    name: str,
    recipe_name: str | None = None,
    scoring: ScoringRecipe,
    weights: FeatureRecipe,
    provenance: ProvenanceRecipe,
    most: int = 2500,
    max_side: int | None = None,
    fine: FineDetail | None = None,
    fine_recipe: FineDetailRecipe | None = None,
    fsim: PredictedFsim | None = None,
    fsim_recipe: PredictedFsimRecipe | None = None,
    on_done: Callable[[int], None] | None = None,
) -> ScoredPhotographs:
    """Write the model directory; returns the scores of the unlabeled images on which its tables rest.

    The scale of a feature is its standard deviation over them, divided by its block's weight: a ridge then trusts it by
    as much less.

    Unless the recipe keeps the paper's scales, the logit scale and the distance scale give Q_H and Q_L the standard
    deviations over them that it asks for. No human score is used.

    Args:
        directory: to write.
        low, high: what the trainings left.
        pristine: photographs whose tiles make the pristine moments.
        unlabeled: in-the-wild images.
        name: of the model.
        recipe_name: of the recipe that the next three come from.
        scoring, weights, provenance: sections of that recipe.
        most: of the unlabeled images, for the tables.
        max_side: longest side that the model looks at; None for any.
        fine, fine_recipe: the full-resolution branch and the section that says what it costs; None: there is none.
        fsim, fsim_recipe: what predicts FSIM and the section that says what it is worth; None: there is none.
        on_done: called with the number of images scored.
    """
    for stale in MODEL_FILES:  # of another model, or of an export that was stopped
        (directory / stale).unlink(missing_ok=True)
    encoder = low.encoder
    dense = high.config["architecture"] != "open_clip"
    write_atomically(directory / "high_level.safetensors", save(_halved(high.encoder.tower) | _prompts(high.prompts)))
    tensors = _halved(encoder)
    # what ships is the rounded encoder, so its moments are measured on that
    encoder.load_state_dict({k.removeprefix("encoder."): v.float() for k, v in tensors.items()}, strict=False)
    moments = pristine_moments(encoder, pristine.paths, dense=dense)
    tensors |= {
        "pristine.mean": torch.from_numpy(moments.mean.astype(np.float32)),
        "pristine.cov": torch.from_numpy(moments.covariance.astype(np.float32)),
    }
    write_atomically(directory / "low_level.safetensors", save(tensors))

    images = unlabeled.paths[:most]
    config: dict[str, Any] = {
        "format": FORMAT,
        "family": "grepq",
        "name": name,
        "low_level": {
            "architecture": "resnet18",
            "patch": 96,
            "stride": encoder.stride if dense else 48,
            "evaluation": "dense" if dense else "exact",
            "distance_scale": DISTANCE_SCALE,
        },
        "high_level": high.config | {"logit_scale": LOGIT_SCALE},
        "max_side": max_side,
        **({"fine_detail": {"amounts": list(AMOUNTS)}} if fine else {}),
        **({"predicted_fsim": {"range": [-0.5, 0.5]}} if fsim else {}),
        "provenance": {
            "license": LICENSE,
            "low_level": low.record,
            "high_level": high.record,
            "export": {
                "recipe": recipe_name,
                "scoring": describe(scoring),
                "features": describe(weights),
                **({"fine_detail": describe(fine_recipe)} if fine_recipe else {}),
                **({"predicted_fsim": describe(fsim_recipe)} if fsim_recipe else {}),
                "data": describe_data(pristine=pristine, unlabeled=unlabeled),
                "pristine_tiles": moments.count,
                "unlabeled_images": len(images),
                "code_version": __version__,
            },
            "human_scores": {"in_training": False, "in_choosing_the_recipe": provenance.human_scores},
        },
    }
    config["low_level"] |= {
        key: value
        for key in ("ridge", "prior_patches", "center", "pooling")
        if (value := getattr(scoring, key)) != getattr(ScoringRecipe, key)  # the default is the paper's
    }
    write_config(directory / "config.json", config)
    if fine:
        if fine_recipe:  # tables are of the amounts that will be scored
            fine = replace(fine, close_up=fine_recipe.close_up)
        write_atomically(directory / FINE_DETAIL, save_arrays(fine_detail.to_state(fine)))
    if fsim:
        fsim = replace(fsim, inputs=_inputs_of_fsim(high.encoder, encoder, fine is not None))
        write_atomically(directory / PREDICTED_FSIM, save_arrays(predicted_fsim.to_state(fsim)))
    scored = score_photographs(directory, images, on_done=on_done)
    if fine and fine_recipe:
        scored = _with_costs(directory, scored, fine, fine_recipe)
    if fsim and fsim_recipe:
        scored = _with_fsim(directory, scored, fsim, fsim_recipe)

    distance_scale, logit_scale, balanced = _balance(scored, scoring)
    config["low_level"]["distance_scale"], config["high_level"]["logit_scale"] = distance_scale, logit_scale
    write_config(directory / "config.json", config)
    importance = feature_weights(high.encoder, encoder, weights)
    if fine:
        importance = np.append(importance, np.full(len(AMOUNTS), weights.fine, np.float32))
    tables = {
        "mean": scored.features.mean(0),
        "scale": np.maximum(scored.features.std(0), 1e-6) / importance,
        "quantiles": np.quantile(balanced.total, np.linspace(0, 1, QUANTILES)).astype(np.float32),
    }
    write_atomically(directory / "features.safetensors", save_arrays(tables))
    return balanced


def _with_costs(
    directory: Path, scored: ScoredPhotographs, fine: FineDetail, recipe: FineDetailRecipe
) -> ScoredPhotographs:
    """Write what amounts of light distortions cost, by what photographs show of them; the scores then."""
    spread = _spread(directory, scored)
    weight = np.array(recipe.weight, np.float32)
    expected = scored.features[:, -len(AMOUNTS) :].mean(0)
    weight = np.broadcast_to(weight * np.float32(spread), expected.shape).copy()
    costly = replace(fine, weight=weight, expected=expected)
    write_atomically(directory / FINE_DETAIL, save_arrays(fine_detail.to_state(costly)))
    return _scored_again(directory, scored)


def _with_fsim(
    directory: Path, scored: ScoredPhotographs, fsim: PredictedFsim, recipe: PredictedFsimRecipe
) -> ScoredPhotographs:
    """Write what predicted FSIM is worth, which photographs as they are do not move by; the scores then."""
    weight = recipe.weight * _spread(directory, scored)
    worth = replace(fsim, weight=weight, expected=float(fsim(scored.features).mean()))
    write_atomically(directory / PREDICTED_FSIM, save_arrays(predicted_fsim.to_state(worth)))
    return _scored_again(directory, scored)


def _inputs_of_fsim(high: HighLevelEncoder, low: LowLevelEncoder, fine: bool) -> NDArray[np.int64]:
    """Positions in a feature vector of the distortion head's outputs and, where there are any, amounts."""
    tower = high.tower
    assert isinstance(tower, PooledEfficientNet)  # without a distortion head nothing predicts FSIM
    told = np.arange(tower.distortion_features.start, tower.distortion_features.stop)
    encoded = high.feature_dim + low.dim
    return np.concatenate([told, np.arange(encoded, encoded + len(AMOUNTS))]) if fine else told


def _spread(directory: Path, scored: ScoredPhotographs) -> float:
    """The standard deviation over photographs of the projection on good - bad, by the model as it stands."""
    model = GRepQ.from_pretrained(directory, engine="torch", device="cpu")
    return float(np.std(model.projected(scored.features)))


def _scored_again(directory: Path, scored: ScoredPhotographs) -> ScoredPhotographs:
    """The same photographs, scored by the model as it stands from features that have not changed."""
    model = GRepQ.from_pretrained(directory, engine="torch", device="cpu")
    return ScoredPhotographs(scored.low, model.high_level_scores(scored.features), scored.features)


def feature_weights(high: HighLevelEncoder, low: LowLevelEncoder, recipe: FeatureRecipe) -> NDArray[np.float32]:
    """The weight of every feature ``(d,)``, in the order of ``GRepQ.features``: high level, then low level."""
    tower = high.tower
    sizes = tower.block_sizes if isinstance(tower, PooledEfficientNet) else [high.feature_dim]
    blocks = list(recipe.layers)
    if isinstance(tower, PooledEfficientNet):
        blocks += [recipe.head] * (tower.head is not None) + [recipe.distortion] * (tower.distortion_head is not None)
        blocks += [recipe.region] * (tower.region_contrast is not None)
    if len(blocks) != len(sizes) or min(blocks) <= 0 or recipe.low_level <= 0:
        raise UsageError(f"[features] of the recipe needs {len(sizes)} positive weights, one a block, not {blocks}")
    return np.repeat(np.array([*blocks, recipe.low_level], dtype=np.float32), [*sizes, low.dim])


def _balance(scored: ScoredPhotographs, recipe: ScoringRecipe) -> tuple[float, float, ScoredPhotographs]:
    """Distance and logit scale for the recipe's standard deviations, rounded as in config.json; the scores then."""
    if not recipe.high_level_std:
        return DISTANCE_SCALE, LOGIT_SCALE, scored
    distance = -DISTANCE_SCALE * logit(scored.low)
    difference = logit(scored.high) / LOGIT_SCALE
    # The standard deviation of Q_H grows with its scale; that of Q_L falls with its own beyond the median distance.
    logit_scale = _scale_of_std(lambda s: expit(s * difference), recipe.high_level_std, 1e-2, 1e3)
    wanted = recipe.low_level_ratio * recipe.high_level_std
    median = float(np.median(distance))
    distance_scale = _scale_of_std(lambda s: expit(-distance / s), wanted, median, 1e4 * median)
    balanced = ScoredPhotographs(expit(-distance / distance_scale), expit(logit_scale * difference), scored.features)
    return distance_scale, logit_scale, balanced


def _scale_of_std(part: Callable[[float], NDArray[np.float64]], wanted: float, low: float, high: float) -> float:
    """The scale in ``[low, high]`` at which ``part`` has the standard deviation ``wanted``, or the nearest."""

    def excess(scale: float) -> float:
        return float(np.std(part(scale))) - wanted

    if excess(low) * excess(high) < 0:
        scale = brentq(excess, low, high)
    else:
        scale = min((low, high), key=lambda end: abs(excess(end)))
    return float(f"{scale:.3g}")


def _halved(module: nn.Module) -> dict[str, Tensor]:
    state = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {f"encoder.{key}": value.half().contiguous() for key, value in state.items()}


def _prompts(prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"prompts.{name}": vector.float().contiguous() for name, vector in prompts.items()}
