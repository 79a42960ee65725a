"""``grepq score``: zero-shot quality of images."""

from __future__ import annotations

from grepq_iqa.cli.options import (
    Device,
    Dtype,
    MaxPixels,
    MaxSide,
    ModelName,
    Output,
    OutputFormat,
    Overwrite,
    Paths,
    Resume,
    Threads,
    set_threads,
)
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows
from grepq_iqa.rows import score_row


def score(
    paths: Paths,
    model: ModelName = None,
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

    from grepq_iqa.model import GRepQ

    grepq = GRepQ.from_pretrained(model, device=device, dtype=dtype, max_side=max_side)
    grepq.max_pixels = max_pixels or grepq.max_pixels
    write_rows(
        "score",
        grepq,
        paths,
        score_row,
        output=output,
        format=chosen,
        settings=run_settings(grepq),
        resume=resume,
        features=False,
    )
