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

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import WeightsError
from grepq_iqa.weights.tensors import read_safetensors

FORMAT = 1
ENCODER_FILES = ("low_level.safetensors", "high_level.safetensors")


@dataclass(frozen=True)
class Parts:
    """Everything that a model directory holds, ready to use.

    Attributes:
        config: config.json.
        low_level, high_level: encoders in evaluation mode.
        pristine_mean, pristine_covariance: of pristine patches, ``(128,)`` and ``(128, 128)``.
        prompts: name to unit vector, ``good`` and ``bad`` among them.
        features: ``mean``, ``scale`` and ``quantiles``; empty where the model carries none.
        encoder_hash: SHA-256 over the tensors of both files and config's encoder settings, 64 hex digits.
    """

    config: dict[str, Any]
    low_level: LowLevelEncoder
    high_level: HighLevelEncoder
    pristine_mean: NDArray[np.float64]
    pristine_covariance: NDArray[np.float64]
    prompts: dict[str, NDArray[np.float64]]
    features: dict[str, NDArray[np.float32]]
    encoder_hash: str


def load_parts(name: str, files: Mapping[str, Path]) -> Parts:
    """Read the files of model ``name``.

    Raises:
        WeightsError: a file is missing, unreadable, or does not fit the architecture that config.json names.
    """
    for required in ("config.json", *ENCODER_FILES):
        if required not in files:
            raise WeightsError(f"model {name!r} has no {required}", name, required)
    config = read_config(name, files["config.json"])

    low = read_safetensors(files["low_level.safetensors"])
    high = read_safetensors(files["high_level.safetensors"])
    encoder_hash = hash_encoders(config, low, high)

    low_level = LowLevelEncoder()
    pristine = [_take(low, key, name, "low_level.safetensors") for key in ("pristine.mean", "pristine.cov")]
    _fill(low_level, low, name, "low_level.safetensors")

    prompts = {key.removeprefix("prompts."): high.pop(key) for key in list(high) if key.startswith("prompts.")}
    for required in ("good", "bad"):
        if required not in prompts:
            raise WeightsError(f"high_level.safetensors of {name!r} has no tensor prompts.{required}", name)
    high_level = HighLevelEncoder(config["high_level"])
    _fill(high_level.tower, high, name, "high_level.safetensors")

    features = {}
    if "features.safetensors" in files:
        features = load_arrays(files["features.safetensors"])
    return Parts(
        config=config,
        low_level=low_level.eval(),
        high_level=high_level.eval(),
        pristine_mean=pristine[0].double().numpy(),
        pristine_covariance=pristine[1].double().numpy(),
        prompts={key: vector.double().numpy() for key, vector in prompts.items()},
        features=features,
        encoder_hash=encoder_hash,
    )


def read_config(name: str, path: Path) -> dict[str, Any]:
    """config.json, checked for the keys that loading needs."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"config.json of {name!r} cannot be read: {error}", name, "config.json") from error
    if config.get("format") != FORMAT:
        raise WeightsError(
            f"config.json of {name!r} has format {config.get('format')!r}; this version reads {FORMAT}",
            name,
            "config.json",
            "update grepq-iqa",
        )
    missing = [key for key in ("low_level", "high_level") if key not in config]
    if missing:
        raise WeightsError(f"config.json of {name!r} lacks {', '.join(missing)}", name, "config.json")
    return config


def hash_encoders(config: Mapping[str, Any], *groups: Mapping[str, Tensor]) -> str:
    """SHA-256 that changes with anything features or scores depend on, and not with how files store it."""
    digest = hashlib.sha256()
    settings = {key: config.get(key) for key in ("low_level", "high_level", "max_side")}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensors in groups:
        for key, tensor in sorted(tensors.items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take(tensors: dict[str, Tensor], key: str, name: str, file: str) -> Tensor:
    if key not in tensors:
        raise WeightsError(f"{file} of model {name!r} has no tensor {key}", name, file)
    return tensors.pop(key)


def _fill(module: nn.Module, tensors: dict[str, Tensor], name: str, file: str) -> None:
    """Load ``encoder.*`` into ``module``; fp16 files widen to float32. Step counters of BatchNorm may be absent."""
    state = {key.removeprefix("encoder."): value.float() for key, value in tensors.items()}
    expected = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    problems = [f"missing encoder.{key}" for key in expected if key not in state]
    problems += [f"unexpected {key}" for key in tensors if key.removeprefix("encoder.") not in module.state_dict()]
    problems += [
        f"encoder.{key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise WeightsError(f"{file} of model {name!r} does not fit its config.json: {shown}", name, file)
    with torch.no_grad():
        module.load_state_dict(state, strict=False)
