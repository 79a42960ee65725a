"""``grepq predict``: MOS with intervals, by a fitted model or from others' ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.loading import load_model
from grepq_iqa.cli.options import (
    Device,
    Dtype,
    EngineName,
    MaxPixels,
    MaxSide,
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
from grepq_iqa.cli.ordering import (
    FailUnder,
    MinMos,
    MinPercentile,
    MosLowerIsBetter,
    Ordering,
    Sort,
    Summary,
    Top,
    Worst,
    lowest_is_best,
)
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows
from grepq_iqa.errors import NotFittedError
from grepq_iqa.rows import predict_row

if TYPE_CHECKING:
    from grepq_iqa.batch import Result


def predict(
    paths: Paths,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Folder written by `grepq fit`, or owner/repo[@revision]. [default: compact as it is]",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="How often low to high shall hold the true score.")
    ] = 0.9,
    format: OutputFormat = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    sort: Sort = None,
    top: Top = None,
    worst: Worst = None,
    min_mos: MinMos = None,
    min_percentile: MinPercentile = None,
    fail_under: FailUnder = None,
    lower_is_better: MosLowerIsBetter = None,
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
    """Predict scores on your own scale, each with the interval that its true value lies in.

    mos is on the scale of the labels fitted on, and in their direction. With a model that was not fitted it is what
    people would be expected to say, from 0 (bad) to 100, learned from others' ratings of other photographs. Exit
    status: 0 all well, 1 some images failed, 2 wrong usage or no model, 3 an image missed --fail-under.

    Order and limits go by mos; --min-percentile by its place among the labels fitted on, or, with a model that was not
    fitted, among others' photographs.

    Examples:

      grepq predict photo.jpg

      grepq predict photo.jpg --model my-model

      grepq predict holiday/ --model my-model --confidence 0.8 --output predicted.csv

      find . -name '*.jpg' | grepq predict - --model my-model --format jsonl
    """
    ordering = Ordering(
        "mos",
        sort=sort,
        top=top,
        worst=worst,
        min_value=min_mos,
        min_percentile=min_percentile,
        fail_under=fail_under,
        summary=summary,
    )
    chosen = require_output(paths, output, format, resume=resume, overwrite=overwrite)
    set_threads(threads)
    set_verbose(verbose)

    from grepq_iqa.calibration.standing import mos_standing

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    if hasattr(grepq, "regressor_"):
        if grepq.regressor_.source == "pairs":
            typer.echo(
                "grepq: fitted on pairs alone: mos is log-odds of being preferred to an ordinary photograph, and low "
                "to high is where that strength probably lies",
                err=True,
            )
    elif grepq.ratings is not None:
        typer.echo(f"grepq: {_whose_ratings(grepq.config)}", err=True)
    else:
        raise NotFittedError(
            f"model {grepq.name!r} has seen no labels; fit one with: grepq fit --csv labels.csv -o my-model"
        )

    turned = lowest_is_best(grepq, lower_is_better)
    settings = {"confidence": confidence, "fit": grepq.predictor_hash, **({"lower_is_better": True} if turned else {})}

    def standing(row: Mapping[str, Any]) -> float | None:
        mos = row.get("mos")
        return None if mos is None else mos_standing(grepq, mos, lower_is_better=turned)

    def row(result: Result) -> Mapping[str, Any]:
        found = predict_row(grepq, result, confidence)
        return found and found | {"percentile": standing(found)}

    write_rows(
        "predict",
        grepq,
        paths,
        row,
        output=output,
        format=chosen,
        settings=run_settings(grepq, **settings),
        resume=resume,
        features=True,
        ordering=replace(ordering, lower_is_better=turned),
        cache=open_cache(grepq, cache, no_cache),
        standing_of=standing,
    )


def _whose_ratings(config: Mapping[str, Any]) -> str:
    """One sentence for people who have given no labels of their own."""
    record = (config.get("provenance") or {}).get("ratings") or {}
    data = (record.get("data") or [{}])[0]
    count = f"{data['count']:,} " if data.get("count") else ""
    source = f" ({data['name']}: {record.get('ratings', 'not recorded')})" if data.get("name") else ""
    return (
        f"no labels of yours: mos goes from 0 to 100 and is learned from others' ratings of {count}other "
        f"photographs{source}; `grepq fit` learns your own scale"
    )
