"""Files of a model directory -> tables and encoders. Loading is strict: what is missing or unexpected is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays

from grepq_iqa.calibration.ratings import RATINGS, RatingsPredictor, read_ratings
from grepq_iqa.encoders import fine_detail, predicted_fsim
from grepq_iqa.encoders.fine_detail import AMOUNTS, FINE_DETAIL, FineDetail
from grepq_iqa.encoders.predicted_fsim import PREDICTED_FSIM, PredictedFsim
from grepq_iqa.encoders.projection import Projection
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.weights import renamed
from grepq_iqa.weights.config import read_config, upgraded
from grepq_iqa.weights.tensors import StoredTensor, misfits, read_safetensors, read_stored
from grepq_iqa.zero_shot import POOLINGS

Branch = TypeVar("Branch")

if TYPE_CHECKING:
    from torch import Tensor, nn

    from grepq_iqa.encoders.high_level import HighLevelEncoder
    from grepq_iqa.encoders.low_level import LowLevelEncoder

LOW_LEVEL, HIGH_LEVEL = ENCODER_FILES = ("low_level.safetensors", "high_level.safetensors")
PRISTINE = "pristine.safetensors"
"""Moments of pristine patches in place of those in `LOW_LEVEL`: of two models that share one encoder."""


@dataclass(frozen=True)
class ModelComponents:
    """Everything that a model directory holds. The encoders and the ratings are read when they are first asked for.

    Attributes:
        name: of the model, for errors.
        files: name in a model directory -> path.
        config: config.json, in the words of the last format.
        low_level, high_level: encoders in evaluation mode; the first use imports torch.
        pristine_mean, pristine_covariance: of pristine patches, ``(128,)`` and ``(128, 128)``.
        prompts: name to unit vector, ``good`` and ``bad`` among them.
        projection: high-level features to embedding, or None where they are one.
        fine_detail: the full-resolution branch, whose amounts stand last among the features, or None.
        predicted_fsim: what reads FSIM from features, or None.
        feature_dim: d, the length of a feature vector.
        high_level_dim: how many of these, the first ones, are the high-level encoder's.
        features: ``mean``, ``scale`` and ``quantiles``; empty where the model carries none.
        encoder_hash: SHA-256 over the tensors of both files and config's encoder settings, 64 hex digits; of the files
            as they stand, so that a directory of an earlier format keeps its hash, and a fitted model its encoders.
        ratings: what people said of other photographs, or None; nothing above depends on it.
    """

    name: str
    files: Mapping[str, Path]
    config: dict[str, Any]
    pristine_mean: NDArray[np.float64]
    pristine_covariance: NDArray[np.float64]
    prompts: dict[str, NDArray[np.float64]]
    projection: Projection | None
    fine_detail: FineDetail | None
    predicted_fsim: PredictedFsim | None
    high_level_dim: int
    features: dict[str, NDArray[np.float32]]
    encoder_hash: str

    @property
    def feature_dim(self) -> int:  # noqa: D102 - among the attributes
        return self.encoded_dim + (len(AMOUNTS) if self.fine_detail else 0)

    @property
    def encoded_dim(self) -> int:
        """How many features, the first ones, are the two encoders'."""
        return self.high_level_dim + len(self.pristine_mean)

    @property
    def encoded_scale(self) -> NDArray[np.float32] | None:
        """Standard deviations of those features, by which engines are compared; None where the model has none."""
        scale = self.features.get("scale")
        return None if scale is None else scale[: self.encoded_dim]

    @cached_property
    def low_level(self) -> LowLevelEncoder:  # noqa: D102 - among the attributes
        from grepq_iqa.encoders.low_level import LowLevelEncoder

        encoder = LowLevelEncoder()
        tensors = read_safetensors(self.files[LOW_LEVEL])
        kept = {key: value for key, value in tensors.items() if not key.startswith("pristine.")}
        _fill(encoder, kept, self.name, LOW_LEVEL)
        return encoder.eval()

    @cached_property
    def high_level(self) -> HighLevelEncoder:  # noqa: D102 - among the attributes
        from grepq_iqa.encoders.high_level import HighLevelEncoder

        encoder = HighLevelEncoder(self.config["high_level"])
        tensors = read_safetensors(self.files[HIGH_LEVEL])
        kept = {key: value for key, value in tensors.items() if not key.startswith("prompts.")}
        _fill(encoder.tower, renamed.tensor_names(kept), self.name, HIGH_LEVEL)
        return encoder.eval()

    @cached_property
    def ratings(self) -> RatingsPredictor | None:  # noqa: D102 - among the attributes
        path = self.files.get(RATINGS)
        return None if path is None else read_ratings(path, self.encoder_hash, self.name)


def load_components(name: str, files: Mapping[str, Path]) -> ModelComponents:
    """Read the files of model ``name``, without torch.

    Raises:
        WeightsError: a file is missing, unreadable, or does not fit the architecture that config.json names; what only
            the encoders need is found out when they are made.
    """
    for required in ("config.json", *ENCODER_FILES):
        if required not in files:
            raise WeightsError(f"model {name!r} has no {required}", name, required)
    stored = read_config(name, files["config.json"])
    config = upgraded(stored)
    pooling = config["low_level"].get("pooling", "mean")
    if pooling not in POOLINGS:
        known = " or ".join(POOLINGS)
        raise WeightsError(
            f"config.json of {name!r}: unknown low_level.pooling {pooling!r} ({known})",
            name,
            "config.json",
            "update grepq-iqa",
        )

    low, high = read_stored(files[LOW_LEVEL]), read_stored(files[HIGH_LEVEL])
    fine, fsim = (read_stored(files[file]) if file in files else {} for file in (FINE_DETAIL, PREDICTED_FSIM))
    if PRISTINE in files:
        low |= read_stored(files[PRISTINE])
    encoder_hash = hash_encoders(stored, low, high, fine, fsim)

    pristine = [_array(low, key, name, LOW_LEVEL) for key in ("pristine.mean", "pristine.cov")]
    prompts = {key.removeprefix("prompts."): value for key, value in high.items() if key.startswith("prompts.")}
    prompts = renamed.renamed(prompts, renamed.PROMPTS)
    for required in ("good", "bad"):
        if required not in prompts:
            raise WeightsError(f"{HIGH_LEVEL} of {name!r} has no tensor prompts.{required}", name)
    projection = _projection(config, high, name)
    features = {}
    if "features.safetensors" in files:
        features = load_arrays(files["features.safetensors"])
    return ModelComponents(
        name=name,
        files=dict(files),
        config=config,
        pristine_mean=pristine[0],
        pristine_covariance=pristine[1],
        prompts={key: value.array() for key, value in prompts.items()},
        projection=projection,
        fine_detail=_branch(config, fine, name, FINE_DETAIL, fine_detail.from_state),
        predicted_fsim=_branch(config, fsim, name, PREDICTED_FSIM, predicted_fsim.from_state),
        high_level_dim=len(projection.mean) if projection else _clip_dim(high, name),
        features=features,
        encoder_hash=encoder_hash,
    )


def hash_encoders(config: Mapping[str, Any], *files: Mapping[str, StoredTensor]) -> str:
    """SHA-256 that changes with anything features or scores depend on, and not with how files store it."""
    digest = hashlib.sha256()
    settings = {key: config.get(key) for key in ("low_level", "high_level", "max_side")}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensors in files:
        for key, tensor in sorted(tensors.items()):
            digest.update(f"{key} torch.{tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.data)
    return digest.hexdigest()


def _projection(config: Mapping[str, Any], high: Mapping[str, StoredTensor], name: str) -> Projection | None:
    architecture = config["high_level"].get("architecture")
    if architecture not in ("open_clip", "efficientnet"):
        raise UsageError(f"config.json: unknown architecture {architecture!r} (open_clip or efficientnet)")
    if architecture == "open_clip":
        return None
    keys = ("pool_mean", "pool_scale", "projection.weight", "projection.bias")
    return Projection(*(_array(high, f"encoder.{key}", name, HIGH_LEVEL).astype(np.float32) for key in keys))


def _branch(
    config: Mapping[str, Any],
    stored: Mapping[str, StoredTensor],
    name: str,
    file: str,
    from_state: Callable[[dict[str, NDArray[Any]]], Branch],
) -> Branch | None:
    """What a file of its own holds beside the encoders, or None where the model has no such part."""
    if bool(stored) != bool(config.get(file.removesuffix(".safetensors"))):
        what = "has no" if not stored else "has a config.json that does not know its"
        raise WeightsError(f"model {name!r} {what} {file}", name, file)
    if not stored:
        return None
    try:
        return from_state({key: value.array().astype(np.float32) for key, value in stored.items()})
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{file} of model {name!r} does not fit: {error}", name, file) from error


def _clip_dim(high: Mapping[str, StoredTensor], name: str) -> int:
    """Length of the embedding of a tower of CLIP's, which is its features."""
    return len(_array(high, "encoder.visual.attnpool.c_proj.bias", name, HIGH_LEVEL))


def _array(tensors: Mapping[str, StoredTensor], key: str, name: str, file: str) -> NDArray[np.float64]:
    if key not in tensors:
        raise WeightsError(f"{file} of model {name!r} does not fit its config.json: missing {key}", name, file)
    return tensors[key].array()


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str, file: str) -> None:
    """Load ``encoder.*`` into ``module``; fp16 files widen to float32. Step counters of BatchNorm may be absent."""
    wanted = {f"encoder.{key}": value for key, value in module.state_dict().items()}
    if problems := misfits(tensors, wanted):
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise WeightsError(f"{file} of model {name!r} does not fit its config.json: {shown}", name, file)
    module.load_state_dict(
        {key.removeprefix("encoder."): value.float() for key, value in tensors.items()}, strict=False
    )
