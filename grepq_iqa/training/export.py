"""Trained encoders -> a model directory: fp16 weights, pristine moments, scales, quantiles, provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from scipy.optimize import brentq
from scipy.special import expit, logit
from torch import Tensor, nn

from grepq_iqa._version import __version__
from grepq_iqa.encoders.high_level import HighLevelEncoder, PooledTimmTower
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.pristine_tiles import pristine_moments
from grepq_iqa.training.parallel_scoring import Analysis, analyse_photographs
from grepq_iqa.training.recipe import FeatureRecipe, ScoringRecipe
from grepq_iqa.zero_shot import DISTANCE_SCALE, LOGIT_SCALE

QUANTILES = 1001
PARTS = {"score": "Q", "low_level": "Q_L", "high_level": "Q_H"}


def export_model(
    directory: Path,
    low_level: LowLevelEncoder,
    high_level: HighLevelEncoder,
    high_level_config: dict[str, Any],
    prompts: dict[str, Tensor],
    pristine: list[Path],
    ordinary: list[Path],
    *,
    name: str,
    provenance: dict[str, Any],
    dense: bool,
    max_side: int | None,
    scoring: ScoringRecipe,
    weights: FeatureRecipe,
    on_done: Callable[[int], None] | None = None,
) -> Analysis:
    """Write the model directory; returns the analysis of ``ordinary``, on which its tables rest.

    The scale of a feature is its standard deviation over ``ordinary``, divided by its block's weight: a ridge then
    trusts it by as much less.

    Unless the recipe keeps the paper's scales, the logit scale and the distance scale give Q_H and Q_L the spreads over
    ``ordinary`` that it asks for. No human score is used.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file(_halved(high_level.tower) | _prompts(prompts), directory / "high_level.safetensors")
    tensors = _halved(low_level)
    # what ships is the rounded encoder, so its moments are measured on that
    low_level.load_state_dict({k.removeprefix("encoder."): v.float() for k, v in tensors.items()}, strict=False)
    moments = pristine_moments(low_level, pristine, dense=dense)
    tensors |= {
        "pristine.mean": _tensor(moments.mean.astype(np.float32)),
        "pristine.cov": _tensor(moments.covariance.astype(np.float32)),
    }
    save_file(tensors, directory / "low_level.safetensors")

    config: dict[str, Any] = {
        "format": 1,
        "family": "grepq",
        "name": name,
        "low_level": {
            "architecture": "resnet18",
            "patch": 96,
            "stride": 32 if dense else 48,
            "evaluation": "dense" if dense else "exact",
            "distance_scale": DISTANCE_SCALE,
        },
        "high_level": high_level_config | {"logit_scale": LOGIT_SCALE},
        "max_side": max_side,
        "provenance": provenance
        | {"code_version": __version__, "pristine_tiles": moments.count, "ordinary_photographs": len(ordinary)},
    }
    _write_json(directory / "config.json", config)
    analysis = analyse_photographs(directory, ordinary, on_done=on_done)

    distance_scale, logit_scale, balanced = _balance(analysis, scoring)
    config["low_level"]["distance_scale"], config["high_level"]["logit_scale"] = distance_scale, logit_scale
    _write_json(directory / "config.json", config)
    importance = feature_weights(high_level, low_level, weights)
    save_arrays(
        {
            "mean": analysis.features.mean(0),
            "scale": np.maximum(analysis.features.std(0), 1e-6) / importance,
            "quantiles": np.quantile(balanced.total, np.linspace(0, 1, QUANTILES)).astype(np.float32),
        },
        directory / "features.safetensors",
    )
    return balanced


def feature_weights(high: HighLevelEncoder, low: LowLevelEncoder, recipe: FeatureRecipe) -> NDArray[np.float32]:
    """The weight of every feature ``(d,)``, in the order of ``GRepQ.features``: high level, then low level."""
    tower = high.tower
    sizes = tower.block_sizes if isinstance(tower, PooledTimmTower) else [high.feature_dim]
    blocks = list(recipe.layers)
    if isinstance(tower, PooledTimmTower):
        blocks += [recipe.head] * (tower.head is not None) + [recipe.damage] * (tower.damage is not None)
    if len(blocks) != len(sizes) or min(blocks) <= 0 or recipe.low_level <= 0:
        raise UsageError(f"[features] of the recipe needs {len(sizes)} positive weights, one a block, not {blocks}")
    return np.repeat(np.array([*blocks, recipe.low_level], dtype=np.float32), [*sizes, low.dim])


def hash_list(photographs: list[Path]) -> str:
    """SHA-256 over the contents of ``photographs`` in order: says which data made a model."""
    digest = hashlib.sha256()
    for path in photographs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def record_measurements(directory: Path, dataset: str, found: dict[str, Any]) -> None:
    """Write what :func:`~grepq_iqa.training.evaluate.evaluate` found into config.json, as model cards read it."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    scores = [s for s in config["provenance"].get("scores", []) if s["dataset"] != dataset]
    for part, value in found["zero_shot_srcc"].items():
        split = f"zero-shot, {PARTS[part]}"
        scores.append({"dataset": dataset, "metric": "srcc", "split": split, "value": value})
    for labels, value in found["few_labels_srcc_median"].items():
        split = "median over seeded splits, 20 % test"
        scores.append({"dataset": dataset, "metric": "srcc", "split": split, "labels": int(labels), "value": value})
    config["provenance"]["scores"] = scores
    _write_json(directory / "config.json", config)


def _balance(analysis: Analysis, recipe: ScoringRecipe) -> tuple[float, float, Analysis]:
    """Distance and logit scale for the recipe's spreads, rounded as config.json shows them, and the analysis then."""
    if not recipe.high_level_spread:
        return DISTANCE_SCALE, LOGIT_SCALE, analysis
    distance = -DISTANCE_SCALE * logit(analysis.low)
    difference = logit(analysis.high) / LOGIT_SCALE
    # The spread of Q_H grows with its scale; that of Q_L falls with its own once this is beyond the median distance.
    logit_scale = _scale_of_spread(lambda s: expit(s * difference), recipe.high_level_spread, 1e-2, 1e3)
    wanted = recipe.low_level_share * recipe.high_level_spread
    median = float(np.median(distance))
    distance_scale = _scale_of_spread(lambda s: expit(-distance / s), wanted, median, 1e4 * median)
    balanced = Analysis(expit(-distance / distance_scale), expit(logit_scale * difference), analysis.features)
    return distance_scale, logit_scale, balanced


def _scale_of_spread(part: Callable[[float], NDArray], wanted: float, low: float, high: float) -> float:
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


def _tensor(array: NDArray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
