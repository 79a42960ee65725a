"""A model's files -> the engine that computes its encoders."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from grepq_iqa.calibration.storage import CALIBRATION, fitted_on
from grepq_iqa.encoders.engine import Engine
from grepq_iqa.encoders.engine_choice import TOLERANCE, Choice, choose_engine, timed_preference
from grepq_iqa.encoders.onnx_engine import GRAPHS, OnnxEngine
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import sha256_of
from grepq_iqa.weights.loading import ModelComponents

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_LOGGER = logging.getLogger("grepq_iqa")

PATCH, STRIDE = 96, 48
"""The paper's patches, in pixels: of a config.json that names none."""


def torch_engine(
    components: ModelComponents, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
) -> Engine:
    """The encoders of ``components``, which it changes for inference, computed by torch.

    Raises:
        UsageError: an unknown device or dtype.
        WeightsError: the files do not fit the architecture.
    """
    from grepq_iqa.encoders.torch_engine import TorchEngine

    low = components.config["low_level"]
    return TorchEngine(
        components.low_level,
        components.high_level,
        components.encoder_hash,
        patch=low.get("patch", PATCH),
        stride=low.get("stride", STRIDE),
        dense=low.get("evaluation", "exact") == "dense",
        device=device,
        dtype=dtype,
    )


def make_engine(
    components: ModelComponents, engine: str, device: str | torch.device, dtype: str | torch.dtype
) -> Engine:
    """The engine that the user asks for, or the one that `choose_engine` finds best; says which at level INFO.

    Raises:
        UsageError: an unknown engine, device or dtype.
        WeightsError: the model has no graph, or one of other weights.
    """

    def prefers_onnx(graph: Path) -> bool:
        return timed_preference(
            lambda: torch_engine(components),
            lambda: OnnxEngine(graph, components.encoder_hash, "int8"),
            sha256_of(graph),
            components.encoded_scale,
        )

    choice = choose_engine(
        engine,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        name=components.name,
        files=components.files,
        fitted_on=fitted_on(components.files).engine.split()[0] if CALIBRATION in components.files else None,
        prefers_onnx=prefers_onnx,
    )
    made = _made(components, choice, engine, device, dtype)
    _LOGGER.info("engine %s in %s: %s", made.name, str(made.dtype).removeprefix("torch."), choice.reason)
    return made


def _made(
    components: ModelComponents, choice: Choice, engine: str, device: str | torch.device, dtype: str | torch.dtype
) -> Engine:
    if choice.engine == "torch":
        return torch_engine(components, device, dtype)
    try:
        return OnnxEngine(components.files[GRAPHS[choice.dtype]], components.encoder_hash, choice.dtype)
    except WeightsError as error:
        if engine != "auto":
            raise
        _LOGGER.warning("%s; engine torch is used", error)
        return torch_engine(components)


def check_fitted(components: ModelComponents, engine: Engine) -> None:
    """See that a fitted model's predictions hold for the features of ``engine``; a sentence where it is another one.

    Raises:
        UsageError: they lie too far from those that it was fitted on.
    """
    fit = fitted_on(components.files)
    if fit.features_hash in (None, engine.features_hash) and fit.engine.split()[0] == engine.name:
        return
    apart = [agreement for agreement in (engine.agreement, fit.agreement) if agreement is not None]
    if not apart or not all(distance <= TOLERANCE for distance in apart):  # NaN is not known
        raise UsageError(
            f"{components.name} was fitted on the features of engine {fit.engine}, and how far those of engine "
            f"{engine.name} lie from them is not known or too much: use engine {fit.engine.split()[0]}, or fit again"
        )
    _LOGGER.warning(
        "%s was fitted on the features of engine %s; those of engine %s differ a little (by %.2g standard deviations)",
        components.name,
        fit.engine,
        engine.name,
        max(apart),
    )
