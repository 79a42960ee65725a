"""``grepq predict``: MOS with intervals, by a fitted model."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from grepq_iqa.cli.options import Device, Dtype, Output, OutputFormat, Paths
from grepq_iqa.cli.output import RowWriter, choose_format, open_output
from grepq_iqa.cli.progress import track
from grepq_iqa.errors import NotFittedError, UsageError

FIELDS = ("path", "mos", "low", "high", "warnings", "error")


def predict(
    paths: Paths,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Folder written by `grepq fit`, or owner/repo[@revision].")
    ],
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="How often low to high shall hold the true score.")
    ] = 0.9,
    format: OutputFormat = None,
    output: Output = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Predict scores on your own scale, each with the interval that its true value lies in.

    mos is on the scale of the labels fitted on, and in their direction. Exit status: 0 all well, 1 some images
    failed, 2 wrong usage or no model.

    Examples:

      grepq predict photo.jpg --model my-model

      grepq predict holiday/ --model my-model --confidence 0.8 --output predicted.csv

      find . -name '*.jpg' | grepq predict - --model my-model --format jsonl
    """
    chosen = choose_format(format, output)

    import numpy as np

    from grepq_iqa.batch import expand, stream
    from grepq_iqa.model import GRepQ

    grepq = GRepQ.from_pretrained(model, device=device, dtype=dtype)
    if not hasattr(grepq, "regressor_"):
        raise NotFittedError(
            f"model {model!r} has seen no labels; fit one with: grepq fit --csv labels.csv -o my-model"
        )
    failed = seen = 0
    with open_output(output) as out:
        writer = RowWriter(chosen, out, FIELDS)
        for result in track(stream(grepq, expand(paths), features=True), "predicting"):
            seen += 1
            row: dict[str, object] = {"path": result.path, "warnings": [], "error": result.error}
            if result.score is None or result.features is None:
                failed += 1
            else:
                prediction = grepq.predict(result.features[None], confidence)
                mos, low, high = (np.ravel(v)[0].item() for v in (prediction.mos, prediction.low, prediction.high))
                notes = list(result.score.warnings)
                if not math.isfinite(high - low):
                    notes.append(f"too few labels for a {confidence:.0%} interval")
                    low, high = None, None  # type: ignore[assignment]
                row |= {"mos": mos, "low": low, "high": high, "warnings": notes}
            writer.write(row)
        writer.close()
    if not seen:
        raise UsageError("no images found; folders are searched for the usual image endings")
    if failed:
        typer.echo(f"grepq: {failed} of {seen} images could not be predicted; see the error column", err=True)
        raise typer.Exit(1)
