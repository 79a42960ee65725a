"""``grepq score``: zero-shot quality of images."""

from __future__ import annotations

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.loading import load_model
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
from grepq_iqa.cli.ordering import FailUnder, MinPercentile, MinScore, Ordering, Sort, Summary, Top, Worst
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows
from grepq_iqa.rows import score_row


def score(
    paths: Paths,
    model: ModelName = None,
    format: OutputFormat = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    sort: Sort = None,
    top: Top = None,
    worst: Worst = None,
    min_score: MinScore = None,
    min_percentile: MinPercentile = None,
    fail_under: FailUnder = None,
    summary: Summary = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
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
    well, 1 some images failed, 2 wrong usage or no model, 3 an image missed --fail-under.

    Rows come as they are ready; in an order, when all are known. Features are kept, so that a second run over the same
    files takes no time.

    Examples:

      grepq score photo.jpg

      grepq score holiday/ --format csv > scores.csv

      grepq score holiday/ --worst 20

      grepq score exports/ --fail-under 0.5 --summary

      find . -name '*.jpg' | grepq score - --output scores.jsonl --resume
    """
    ordering = Ordering(
        "score",
        sort=sort,
        top=top,
        worst=worst,
        min_value=min_score,
        min_percentile=min_percentile,
        fail_under=fail_under,
        summary=summary,
    )
    chosen = require_output(paths, output, format, resume=resume, overwrite=overwrite)
    set_threads(threads)
    set_verbose(verbose)

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
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
        ordering=ordering,
        cache=open_cache(grepq, cache, no_cache),
    )
