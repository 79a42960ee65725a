"""``grepq export``: a model's encoders as an ONNX graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.options import ModelName, Threads, set_threads
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from grepq_iqa.encoders.engine import Engine
    from grepq_iqa.weights.loading import ModelComponents

CALIBRATION_IMAGES, CHECKED_IMAGES = 40, 8
"""Ranges of activations come from so many photographs; on so many others the graph is compared with torch."""


class ExportFormat(str, Enum):
    """What can be written."""

    onnx = "onnx"


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the model to, graph and all.")],
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="Of the encoders.")] = ExportFormat.onnx,
    int8: Annotated[
        bool, typer.Option("--int8", help="In eight bits: a quarter of the size, and faster on CPUs with VNNI.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of ordinary photographs without labels, some fifty; --int8 takes its ranges from them.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a graph that is there.")] = False,
    threads: Threads = 0,
) -> None:
    """Write a model directory whose encoders are an ONNX graph, too.

    The graph takes batches of pictures of any size; `grepq score --model DIR --engine onnx` computes by it without
    torch. Printed is how far its features lie from torch's.

    Examples:

      grepq export --format onnx -o my-onnx

      grepq export --format onnx --int8 --calibrate photos/ -o my-int8

      grepq export --format onnx --int8 --calibrate photos/ --model my-model -o my-model
    """
    from grepq_iqa.calibration.storage import require_model_folder
    from grepq_iqa.encoders.onnx_engine import FLOAT_GRAPH, INT8_GRAPH

    if int8 and calibrate is None:
        raise UsageError("--int8 needs --calibrate DIR, a folder of some fifty ordinary photographs")
    require_model_folder(output)
    target = output / (INT8_GRAPH if int8 else FLOAT_GRAPH)
    require_writable(target, overwrite=overwrite, inputs=[])
    set_threads(threads)

    from grepq_iqa.encoders.onnx_export import require_onnx

    require_onnx()
    paths = _photographs(calibrate)

    from grepq_iqa.weights import resolve
    from grepq_iqa.weights.loading import load_components

    resolved = resolve(model)
    components = load_components(resolved.name, resolved.files)
    _complete(output, resolved.files, target.name)
    apart = _write(components, target, paths if int8 else [], paths)
    said = "" if apart is None else f"; its features differ from torch's by {apart:.2g} standard deviations"
    typer.echo(f"grepq: wrote {target}{said}", err=True)


def _photographs(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    from grepq_iqa.data.image_paths import iter_image_paths

    wanted = CALIBRATION_IMAGES + CHECKED_IMAGES
    paths = list(iter_image_paths([str(folder)]))
    if len(paths) < 2:
        raise UsageError(f"{folder} holds fewer than two photographs; give a folder of some fifty")
    step = max(1, len(paths) // wanted)
    return paths[::step][:wanted]


def _complete(output: Path, files: dict[str, Path], graph: str) -> None:
    """The model's other files, so that ``output`` can be loaded."""
    import shutil

    from grepq_iqa.files import replacing

    try:
        for name, path in files.items():
            place = output / name
            if name != graph and Path(path).resolve() != place.resolve():
                with replacing(place) as beside:
                    shutil.copyfile(path, beside)
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror or error}") from error


def _write(components: ModelComponents, target: Path, calibrating: list[Path], checking: list[Path]) -> float | None:
    import tempfile

    from grepq_iqa.encoders import onnx_export
    from grepq_iqa.encoders.onnx_engine import OnnxEngine
    from grepq_iqa.files import replacing
    from grepq_iqa.weights.engines import PATCH, torch_engine
    from grepq_iqa.weights.loading import load_components

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
        if checked and "scale" in components.features:
            found = _features(OnnxEngine(beside, components.encoder_hash, dtype), checked, patch, largest)
            apart = onnx_export.disagreement(found, reference, components.features["scale"])
            onnx_export.note_agreement(beside, apart)
    return apart


def _images(paths: list[Path], patch: int, max_side: int | None) -> Iterator[NDArray[np.float32]]:
    from grepq_iqa.data.images import decode_image
    from grepq_iqa.data.patches import reflect_up_to

    for path in paths:
        yield reflect_up_to(decode_image(path, max_side=max_side).values, patch)


def _features(engine: Engine, paths: list[Path], patch: int, max_side: int | None) -> list[Any]:
    import numpy as np

    found = (engine.encode(image[None]) for image in _images(paths, patch, max_side))
    return list(itertools.chain.from_iterable(np.concatenate([one.high, one.low], axis=1) for one in found))
