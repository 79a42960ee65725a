"""``grepq export``: a model's encoders as an ONNX graph."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.options import ModelName, Threads, set_threads
from grepq_iqa.errors import UsageError


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
    from grepq_iqa.weights.onnx_graphs import write_graph

    resolved = resolve(model)
    if not overwrite:
        _require_same_model(output, resolved.files, resolved.name)
    components = load_components(resolved.name, resolved.files)
    apart = write_graph(components, target, paths, int8=int8)
    _complete(output, resolved.files, target.name)
    said = "" if apart is None else f"; its features differ from torch's by {apart:.2g} standard deviations"
    typer.echo(f"grepq: wrote {target}{said}", err=True)


def _photographs(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.weights.onnx_graphs import evenly

    paths = evenly(list(iter_image_paths([str(folder)])))
    if len(paths) < 2:
        raise UsageError(f"{folder} holds fewer than two photographs; give a folder of some fifty")
    return paths


def _require_same_model(output: Path, files: dict[str, Path], name: str) -> None:
    """Refuse a folder whose model would be lost."""
    from grepq_iqa.files import sha256_of

    for weights in ("low_level.safetensors", "high_level.safetensors"):
        there = output / weights
        if weights in files and there.is_file() and sha256_of(there) != sha256_of(files[weights]):
            raise UsageError(
                f"{output} holds another model than {name}: to add the graph of that one give --model {output}; else "
                "give another --output, or --overwrite to replace it"
            )


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
