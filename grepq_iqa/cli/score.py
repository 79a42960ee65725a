"""``grepq score``: zero-shot quality of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grepq_iqa.cli.options import (
    Device,
    Dtype,
    EngineName,
    MaxPixels,
    MaxSide,
    ModelName,
    Output,
    OutputFormat,
    Overwrite,
    Paths,
    Resume,
    Threads,
    Verbose,
    set_threads,
    set_verbose,
)
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows

if TYPE_CHECKING:
    from grepq_iqa.batch import Result


def score(
    paths: Paths,
    model: ModelName = None,
    format: OutputFormat = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
    verbose: Verbose = False,
) -> None:
    """Score images; higher is better.

    score is Q, between 0 and 1.5; percentile places it among in-the-wild photographs, 0 to 100. Exit status: 0 all
    well, 1 some images failed, 2 wrong usage or no model.

    Examples:

      grepq score photo.jpg

      grepq score holiday/ --format csv > scores.csv

      find . -name '*.jpg' | grepq score - --output scores.jsonl --resume
    """
    chosen = require_output(paths, output, format, resume=resume, overwrite=overwrite)
    set_threads(threads)
    set_verbose(verbose)

    from grepq_iqa.model import GRepQ

    grepq = GRepQ.from_pretrained(model, engine=engine, device=device, dtype=dtype, max_side=max_side)
    grepq.max_pixels = max_pixels or grepq.max_pixels
    write_rows(
        "score",
        grepq,
        paths,
        _row,
        output=output,
        format=chosen,
        settings=run_settings(grepq),
        resume=resume,
        features=False,
    )


def _row(result: Result) -> Mapping[str, Any]:
    if result.score is None:
        return {}
    found = result.score
    return {
        "score": found.score,
        "low_level": found.low_level,
        "high_level": found.high_level,
        "percentile": found.percentile,
        "warnings": list(found.warnings),
    }
