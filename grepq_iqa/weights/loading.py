"""Files of a model directory -> modules and tables. Loading is strict: what is missing or unexpected is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from torch import Tensor, nn

from grepq_iqa.calibration.ratings import RATINGS, RatingsPredictor, read_ratings
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import WeightsError
from grepq_iqa.weights import renamed
from grepq_iqa.weights.config import read_config, upgraded
from grepq_iqa.weights.tensors import misfits, read_safetensors

ENCODER_FILES = ("low_level.safetensors", "high_level.safetensors")


@dataclass(frozen=True)
class ModelComponents:
    """Everything that a model directory holds, ready to use.

    Attributes:
        config: config.json, in the words of the last format.
        low_level, high_level: encoders in evaluation mode.
        pristine_mean, pristine_covariance: of pristine patches, ``(128,)`` and ``(128, 128)``.
        prompts: name to unit vector, ``good`` and ``bad`` among them.
        features: ``mean``, ``scale`` and ``quantiles``; empty where the model carries none.
        encoder_hash: SHA-256 over the tensors of both files and config's encoder settings, 64 hex digits; of the files
            as they stand, so that a directory of an earlier format keeps its hash, and a fitted model its encoders.
        ratings: what people said of other photographs, or None; nothing above depends on it.
    """

    config: dict[str, Any]
    low_level: LowLevelEncoder
    high_level: HighLevelEncoder
    pristine_mean: NDArray[np.float64]
    pristine_covariance: NDArray[np.float64]
    prompts: dict[str, NDArray[np.float64]]
    features: dict[str, NDArray[np.float32]]
    encoder_hash: str
    ratings: RatingsPredictor | None = None


def load_components(name: str, files: Mapping[str, Path]) -> ModelComponents:
    """Read the files of model ``name``.

    Raises:
        WeightsError: a file is missing, unreadable, or does not fit the architecture that config.json names.
    """
    for required in ("config.json", *ENCODER_FILES):
        if required not in files:
            raise WeightsError(f"model {name!r} has no {required}", name, required)
    stored = read_config(name, files["config.json"])
    config = upgraded(stored)

    low = read_safetensors(files["low_level.safetensors"])
    high = read_safetensors(files["high_level.safetensors"])
    encoder_hash = hash_encoders(stored, low, high)

    low_level = LowLevelEncoder()
    pristine = [_take(low, key, name, "low_level.safetensors") for key in ("pristine.mean", "pristine.cov")]
    _fill(low_level, low, name, "low_level.safetensors")

    prompts = {key.removeprefix("prompts."): high.pop(key) for key in list(high) if key.startswith("prompts.")}
    prompts = renamed.renamed(prompts, renamed.PROMPTS)
    for required in ("good", "bad"):
        if required not in prompts:
            raise WeightsError(f"high_level.safetensors of {name!r} has no tensor prompts.{required}", name)
    high_level = HighLevelEncoder(config["high_level"])
    _fill(high_level.tower, renamed.tensor_names(high), name, "high_level.safetensors")

    features = {}
    if "features.safetensors" in files:
        features = load_arrays(files["features.safetensors"])
    return ModelComponents(
        config=config,
        low_level=low_level.eval(),
        high_level=high_level.eval(),
        pristine_mean=pristine[0].double().numpy(),
        pristine_covariance=pristine[1].double().numpy(),
        prompts={key: vector.double().numpy() for key, vector in prompts.items()},
        features=features,
        encoder_hash=encoder_hash,
        ratings=read_ratings(files[RATINGS], encoder_hash, name) if RATINGS in files else None,
    )


def hash_encoders(config: Mapping[str, Any], *files: Mapping[str, Tensor]) -> str:
    """SHA-256 that changes with anything features or scores depend on, and not with how files store it."""
    digest = hashlib.sha256()
    settings = {key: config.get(key) for key in ("low_level", "high_level", "max_side")}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensors in files:
        for key, tensor in sorted(tensors.items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take(tensors: dict[str, Tensor], key: str, name: str, file: str) -> Tensor:
    if key not in tensors:
        raise WeightsError(f"{file} of model {name!r} has no tensor {key}", name, file)
    return tensors.pop(key)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str, file: str) -> None:
    """Load ``encoder.*`` into ``module``; fp16 files widen to float32. Step counters of BatchNorm may be absent."""
    wanted = {f"encoder.{key}": value for key, value in module.state_dict().items()}
    if problems := misfits(tensors, wanted):
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise WeightsError(f"{file} of model {name!r} does not fit its config.json: {shown}", name, file)
    module.load_state_dict(
        {key.removeprefix("encoder."): value.float() for key, value in tensors.items()}, strict=False
    )
