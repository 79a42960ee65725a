"""``grepq predict``: MOS with intervals, by a fitted model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.options import (
    Device,
    Dtype,
    MaxPixels,
    MaxSide,
    Output,
    OutputFormat,
    Overwrite,
    Paths,
    Resume,
    Threads,
    set_threads,
)
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows
from grepq_iqa.errors import NotFittedError

if TYPE_CHECKING:
    from grepq_iqa.batch import Result


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
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
) -> None:
    """Predict scores on your own scale, each with the interval that its true value lies in.

    mos is on the scale of the labels fitted on, and in their direction. Exit status: 0 all well, 1 some images
    failed, 2 wrong usage or no model.

    Examples:

      grepq predict photo.jpg --model my-model

      grepq predict holiday/ --model my-model --confidence 0.8 --output predicted.csv

      find . -name '*.jpg' | grepq predict - --model my-model --format jsonl
    """
    chosen = require_output(paths, output, format, resume=resume, overwrite=overwrite)
    set_threads(threads)

    import hashlib

    import numpy as np

    from grepq_iqa.model import GRepQ

    grepq = GRepQ.from_pretrained(model, device=device, dtype=dtype, max_side=max_side)
    grepq.max_pixels = max_pixels or grepq.max_pixels
    if not hasattr(grepq, "regressor_"):
        raise NotFittedError(
            f"model {model!r} has seen no labels; fit one with: grepq fit --csv labels.csv -o my-model"
        )

    def row(result: Result) -> Mapping[str, Any]:
        if result.score is None or result.features is None:
            return {}
        prediction = grepq.predict(features=result.features[None], confidence=confidence)
        mos, low, high = (np.ravel(v)[0].item() for v in (prediction.mos, prediction.low, prediction.high))
        notes = list(result.score.warnings)
        if not math.isfinite(high - low):
            notes.append(f"too few labels for a {confidence:.0%} interval")
            low, high = None, None
        return {"mos": mos, "low": low, "high": high, "warnings": notes}

    fit = hashlib.sha256(grepq.regressor_.coef_.tobytes()).hexdigest()
    write_rows(
        "predict",
        grepq,
        paths,
        row,
        output=output,
        format=chosen,
        settings=run_settings(grepq, confidence=confidence, fit=fit),
        resume=resume,
        features=True,
    )
