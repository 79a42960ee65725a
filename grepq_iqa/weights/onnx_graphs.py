"""A model's encoders as an ONNX graph beside its weights: written, compared with torch, and noted how far it lies."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.images import decode_image
from grepq_iqa.data.patches import reflect_up_to
from grepq_iqa.encoders.engine import Engine
from grepq_iqa.encoders.onnx_engine import OnnxEngine
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.weights.engines import PATCH, torch_engine
from grepq_iqa.weights.loading import ModelComponents, load_components

CALIBRATION_IMAGES, CHECKED_IMAGES = 40, 8
"""Ranges of activations come from so many photographs; on so many others the graph is compared with torch."""


def evenly(photographs: Sequence[Path]) -> list[Path]:
    """As many of them as `write_graph` needs, evenly taken."""
    wanted = CALIBRATION_IMAGES + CHECKED_IMAGES
    return list(photographs[:: max(1, len(photographs) // wanted)][:wanted])


def write_graph(components: ModelComponents, target: Path, photographs: list[Path], *, int8: bool) -> float | None:
    """Write the encoders of ``components``, which it changes, as a graph; returns how far it lies from torch.

    Args:
        components: of a model that evaluates densely.
        target: the file to write.
        photographs: ordinary ones, without labels; int8 takes the ranges of activations from them, and on the last of
            them the graph is compared with torch's float32 features, in standard deviations. None: it is not.
        int8: whether in eight bits.

    Raises:
        UsageError: the model encodes every patch by itself, or the libraries that write graphs are missing.
    """
    from grepq_iqa.encoders import onnx_export

    onnx_export.require_onnx()
    calibrating, checking = (photographs if int8 else []), photographs
    low = components.config["low_level"]
    if low.get("evaluation", "exact") != "dense":
        raise UsageError(
            f"{components.name} encodes every patch by itself (evaluation exact in its config.json), which "
            "is not exported; models of evaluation dense are"
        )
    patch, largest = low.get("patch", PATCH), components.config.get("max_side")
    checked = checking[-CHECKED_IMAGES:]
    reference = (
        []
        if not checked
        else _features(
            torch_engine(load_components(components.name, components.files), "cpu", "float32"), checked, patch, largest
        )
    )
    dtype = "int8" if calibrating else "float32"
    with tempfile.TemporaryDirectory() as folder, replacing(target) as beside:
        plain = Path(folder) / "encoders.onnx" if calibrating else beside
        onnx_export.export_float(
            components.low_level, components.high_level, plain, patch=patch, encoder_hash=components.encoder_hash
        )
        if calibrating:
            # Those that the graph is checked on are not among them, where there are enough.
            few = calibrating[: -len(checked)] if len(calibrating) > 2 * CHECKED_IMAGES else calibrating
            onnx_export.quantize(plain, beside, _images(few, patch, largest))
        apart = None
        if checked and components.encoded_scale is not None:
            found = _features(OnnxEngine(beside, components.encoder_hash, dtype), checked, patch, largest)
            apart = onnx_export.disagreement(found, reference, components.encoded_scale)
            onnx_export.note_agreement(beside, apart)
    return apart


def _images(paths: list[Path], patch: int, max_side: int | None) -> Iterator[NDArray[np.float32]]:
    for path in paths:
        yield reflect_up_to(decode_image(path, max_side=max_side).values, patch)


def _features(engine: Engine, paths: list[Path], patch: int, max_side: int | None) -> list[Any]:
    found = (engine.encode(image[None]) for image in _images(paths, patch, max_side))
    return list(itertools.chain.from_iterable(np.concatenate([one.high, one.low], axis=1) for one in found))
