"""``grepq score-many``: zero-shot quality of very many images, on the machines of a Ray cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.options import Device, Dtype, MaxPixels, MaxSide, ModelName

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

FRAGMENT = 500
"""Pictures of a fragment: about a minute of one processor, which is what a worker that dies may lose."""

_FAILURES_SHOWN = 5


def score_many(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Prefixes such as s3://bucket/photos, folders, patterns, or files: images, and .tar, .parquet and "
            ".arrow files of them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder or prefix for Parquet files of rows; a new one, or a run's.")
    ],
    model: ModelName = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    features: Annotated[bool, typer.Option("--features", help="Keep each picture's features, too.")] = False,
    predict: Annotated[bool, typer.Option("--predict", help="Keep predicted MOS and its interval, too.")] = False,
    column: Annotated[
        str | None,
        typer.Option(help="Of tables, which holds the images or their paths. [default: found by name]"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes, one processor each. [default: all processors of the cluster]")
    ] = 0,
    gpus_per_worker: Annotated[float, typer.Option(min=0, help="Share of a GPU that each process takes.")] = 0,
    address: Annotated[
        str | None,
        typer.Option(help="Of a running Ray cluster, or auto. [default: RAY_ADDRESS, or a Ray of this machine]"),
    ] = None,
    fragment_size: Annotated[int, typer.Option(min=1, help="Images that are done, and written, together.")] = FRAGMENT,
    engine: Annotated[str, typer.Option(help="auto, torch or onnx, the same for all workers.")] = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Score a bucket or a very large folder on a Ray cluster.

    Rows are those of `grepq score`, as Parquet files with the settings in their metadata, in any order of time. A run
    that was stopped goes on with --resume: what is written is not done again. Credentials and endpoints of buckets come
    from the environment. A count of images goes to stdout. Exit status: 0 all well, 1 some images failed or some
    fragments could not be written, 2 wrong usage or no model.

    Examples:

      grepq score-many s3://bucket/photos --output s3://bucket/scores

      grepq score-many shards/*.tar --output scores --workers 8

      grepq score-many s3://bucket/photos --output s3://bucket/scores --resume --address auto
    """
    from grepq_iqa.cli.progress import track
    from grepq_iqa.cli.streaming import run_settings
    from grepq_iqa.integrations.cluster import run as cluster
    from grepq_iqa.integrations.cluster.storage import Storage
    from grepq_iqa.integrations.scorer import Scorer

    def settings_of(grepq: GRepQ) -> dict[str, Any]:
        return run_settings(grepq, **({"fit": grepq.predictor_hash} if predict else {}))

    place = Storage(output)
    cluster.require_output(place, inputs, resume=resume)
    given: dict[str, Any] = {"features": features, "predict": predict, "column": column}
    scorer = Scorer(model, engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels, **given)
    with cluster.ray_session(address, workers or None) as count:
        settings = cluster.describe(scorer, settings_of, gpus_per_worker) | given | {"max_pixels": max_pixels}
        run = cluster.prepare(inputs, place, settings, fragment_size)
        scorer = Scorer(
            model,
            settings["engine"],
            device=device,
            dtype=settings["dtype"],
            max_side=settings["max_side"] or 0,
            max_pixels=max_pixels,
            **given,
        )
        results = cluster.score_on_ray(run, scorer, workers=count, gpus=gpus_per_worker)
        done = list(track(results, "fragments", len(run.todo), rows_on_stdout=False))
    missing = run.fragments - len(cluster.written(place, run.fragments))
    summary = {
        "images": sum(one.rows for one in done),
        "failed": sum(one.failed for one in done),
        "fragments": len(done),
        "done_before": len(run.done),
        "missing": missing,
    }
    typer.echo(json.dumps(summary))
    unwritten = [one for one in done if one.error]
    for one in unwritten[:_FAILURES_SHOWN]:
        typer.echo(f"grepq: fragment {one.fragment}: {one.error}", err=True)
    if missing:
        typer.echo(f"grepq: {missing} of {run.fragments} fragments are not written; try again with --resume", err=True)
    if summary["failed"]:
        typer.echo(f"grepq: {summary['failed']} images could not be used; see the error column", err=True)
    if missing or summary["failed"]:
        raise typer.Exit(1)
