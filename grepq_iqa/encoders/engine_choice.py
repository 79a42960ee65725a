"""Which engine computes: as asked for, or the faster one that may be trusted. Nothing heavy is imported to decide."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grepq_iqa import devices
from grepq_iqa.encoders.engine import ENGINES, Engine
from grepq_iqa.encoders.onnx_engine import GRAPHS, INSTALL, has_onnxruntime
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import write_atomically

TOLERANCE = 0.25
"""How far features of two engines may lie apart (`grepq_iqa.encoders.onnx_export.disagreement`) for one to stand in for
the other: docs/engine.md has what predictions do there."""

WORTH = 1.1
"""Where both are timed, ONNX Runtime is taken if it is so many times as fast."""

_TIMED_SIDE, _TIMED_PASSES = 384, 3


class Choice(NamedTuple):
    """What computes, in which number format ("auto": as torch chooses), and why, in a sentence."""

    engine: str
    dtype: str
    reason: str


def choose_engine(
    engine: str,
    *,
    device: str,
    dtype: str,
    name: str,
    files: Mapping[str, Path],
    fitted_on: str | None,
    prefers_onnx: Callable[[Path], bool],
) -> Choice:
    """Resolve "auto", and refuse what cannot be.

    Args:
        engine: "auto", "torch" or "onnx".
        device, dtype: as the user gave them.
        name: of the model.
        files: name in a model directory -> path.
        fitted_on: the engine whose features the model was fitted on, None for one that is not fitted.
        prefers_onnx: asked where the processor says nothing of int8: whether the graph is the better choice.

    Raises:
        UsageError: an unknown engine, or a device or number format that it does not have.
        WeightsError: the model has no graph for the engine onnx.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: use {', '.join(ENGINES)}")
    graphs = {kind: files[file] for kind, file in GRAPHS.items() if file in files}
    if engine == "onnx" or (engine == "auto" and dtype == "int8"):
        return _onnx(device, dtype, name, graphs)
    if engine == "torch":
        return Choice("torch", dtype, "as asked for")
    if (device, dtype) != ("auto", "auto"):
        return Choice("torch", dtype, "a device or a number format was given")
    if fitted_on == "torch":
        return Choice("torch", dtype, "the model was fitted on its features")
    if "int8" not in graphs:
        return Choice("torch", dtype, f"{name} has no {GRAPHS['int8']}")
    if not has_onnxruntime():
        return Choice("torch", dtype, f"onnxruntime is not installed: {INSTALL}")
    if fitted_on == "onnx":
        return Choice("onnx", "int8", "the model was fitted on its features")
    if devices.may_have_accelerator():
        return Choice("torch", dtype, "this machine seems to have a GPU")
    if devices.has_vnni():
        return Choice("onnx", "int8", "the processor multiplies int8 natively (VNNI)")
    if prefers_onnx(graphs["int8"]):
        return Choice("onnx", "int8", "it was timed on this machine, once, and is faster than torch")
    return Choice("torch", dtype, "both were timed on this machine, once, and int8 is not faster, or not as exact")


def _onnx(device: str, dtype: str, name: str, graphs: Mapping[str, Path]) -> Choice:
    if device not in ("auto", "cpu"):
        raise UsageError(f"engine onnx computes on the CPU: use device cpu, or engine torch for {device}")
    if dtype != "auto" and dtype not in GRAPHS:
        raise UsageError(f"engine onnx computes in int8 or float32, not in {dtype}: use one of these, or engine torch")
    wanted = next((kind for kind in GRAPHS if kind in graphs), "int8") if dtype == "auto" else dtype
    if wanted not in graphs:
        option = " --int8 --calibrate PHOTOS" if wanted == "int8" else ""
        raise WeightsError(
            f"model {name!r} has no {GRAPHS[wanted]}",
            name,
            GRAPHS[wanted],
            f"make it with `grepq export --model {name} --format onnx{option} -o DIR`, or use engine torch",
        )
    return Choice("onnx", wanted, "as asked for")


def timed_preference(
    torch: Callable[[], Engine], onnx: Callable[[], Engine], graph_hash: str, scale: NDArray[np.float32] | None
) -> bool:
    """Whether ONNX Runtime is faster here and agrees with torch; timed once a machine and graph, and remembered.

    Without native int8, some processors saturate its products, so that speed is not all there is to ask.

    Args:
        torch, onnx: make the engines.
        graph_hash: of the graph.
        scale: ``(d,)``, standard deviations of features over in-the-wild images.
    """
    place = _memory_place()
    versions = [f"{package} {metadata.version(package)}" for package in ("torch", "onnxruntime")]
    machine = " ".join([platform.machine(), platform.processor(), str(devices.usable_cores())])
    key = hashlib.sha256("|".join([graph_hash, machine, *versions]).encode()).hexdigest()[:16]
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    if not isinstance(known.get(key), bool):
        known[key] = _prefers_onnx(torch(), onnx(), scale)
        with suppress(OSError):  # else it is timed again next time
            write_atomically(place, json.dumps(known, indent=1) + "\n")
    return bool(known[key])


def _prefers_onnx(torch: Engine, onnx: Engine, scale: NDArray[np.float32] | None) -> bool:
    generator = np.random.default_rng(0)
    coarse = generator.random((1, 3, _TIMED_SIDE // 8, _TIMED_SIDE // 8), dtype=np.float32)
    image = coarse.repeat(8, axis=2).repeat(8, axis=3)
    seconds, features = [], []
    for engine in (torch, onnx):
        found = engine.encode(image)
        features.append(np.concatenate([found.high, found.low], axis=1))
        passes = []
        for _ in range(_TIMED_PASSES):
            started = time.perf_counter()
            engine.encode(image)
            passes.append(time.perf_counter() - started)
        seconds.append(min(passes))
    # A picture of squares is none of those that ranges were calibrated on: twice the tolerance still tells saturation.
    apart = 0.0 if scale is None else float(np.sqrt(np.mean(((features[0] - features[1]) / scale) ** 2)))
    return seconds[0] > WORTH * seconds[1] and apart < 2 * TOLERANCE


def _memory_place() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(root) if root else Path.home() / ".cache") / "grepq-iqa" / "engines.json"
