"""``grepq rate``: stars in XMP sidecars, for the programs in which people keep their photographs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
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
    OutputFormat,
    Paths,
    Threads,
    set_threads,
)
from grepq_iqa.cli.ordering import MosLowerIsBetter, lowest_is_best
from grepq_iqa.cli.output import Format, RowWriter, choose_format, color_wanted, stdout_for_names
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.streaming import say_skipped
from grepq_iqa.errors import UsageError
from grepq_iqa.report.sidecars import Naming
from grepq_iqa.report.stars import LIMITS, REJECTED, checked_limits

if TYPE_CHECKING:
    from grepq_iqa.batch import Result
    from grepq_iqa.model import GRepQ

FIELDS = ("path", "stars", "percentile", "sidecar", "action", "error")


def rate(
    paths: Paths,
    stars: Annotated[bool, typer.Option("--stars", help="Write them. [default: only show what would be]")] = False,
    sidecars: Annotated[
        Naming, typer.Option(help="darktable writes img.jpg.xmp, as digiKam; adobe img.xmp, as Lightroom.")
    ] = Naming.darktable,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Folder written by `grepq fit`. [default: the zero-shot score]")
    ] = None,
    limits: Annotated[
        tuple[float, float, float, float],
        typer.Option(help="Percentiles from which 2, 3, 4 and 5 stars are given."),
    ] = LIMITS,
    reject_below: Annotated[
        float, typer.Option(min=0, max=100, help="Percentile below which a picture is marked as rejected, -1.")
    ] = 0.0,
    replace_ratings: Annotated[
        bool, typer.Option("--replace-ratings", help="Replace ratings given by people, too.")
    ] = False,
    lower_is_better: MosLowerIsBetter = None,
    format: OutputFormat = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
) -> None:
    """Rate photographs with 1 to 5 stars in XMP sidecars, which photo programs read.

    Stars are fifths of in-the-wild photographs by percentile; with a model fitted on a scale from 1 to 5, its
    predictions; with one fitted on another scale, fifths of its labels. A rating that a person gave stays, in the
    sidecar or in the picture; so does everything else in a sidecar. Exit status: 0 all well, 1 some failed, 2 wrong
    usage or no model.

    Examples:

      grepq rate holiday/

      grepq rate holiday/ --stars

      grepq rate holiday/ --stars --sidecars adobe --limits 30 60 85 97
    """
    limits = checked_limits(limits)  # type: ignore[assignment]
    chosen = choose_format(format, None)
    set_threads(threads)

    from grepq_iqa.batch import score_paths
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import same_file_key
    from grepq_iqa.report.companions import shots_of

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    if model is not None and not hasattr(grepq, "regressor_"):
        typer.echo(f"grepq: {grepq.name} was not fitted on labels: stars go by the zero-shot score", err=True)
    turned = lowest_is_best(grepq, lower_is_better)
    skipped: Counter[str] = Counter()
    unique = {same_file_key(path): path for path in iter_image_paths(paths, skipped=skipped)}
    files = [shot.picture for shot in shots_of(unique.values())]
    say_skipped(skipped)
    if not files:
        raise UsageError("no images found; folders are searched for the usual image endings")
    shared = _sharing(files) if sidecars is Naming.adobe else {}
    results = score_paths(grepq, files, features=True, cache=open_cache(grepq, cache, no_cache))
    writer = RowWriter(chosen, stdout_for_names(), FIELDS, color=chosen is Format.table and color_wanted(sys.stdout))
    actions: Counter[str] = Counter()
    for result in track(results, "stars", len(files), rows_on_stdout=True):
        row = _row(grepq, result, limits, reject_below, turned)
        if row["error"] is None and result.path in shared:
            row["error"] = f"shares its sidecar with {shared[result.path]}; use --sidecars darktable"
        if row["error"] is None:
            row |= _rate(Path(result.path), row["stars"], sidecars, replace_ratings, not stars)
        actions[row.get("action") or "failed"] += 1
        writer.write(row)
    writer.finish()
    told = ", ".join(f"{count} {action}" for action, count in sorted(actions.items()))
    typer.echo(f"grepq: {told}" if stars else f"grepq: nothing was written, --stars does: {told}", err=True)
    if actions["failed"]:
        raise typer.Exit(1)


def _row(
    model: GRepQ, result: Result, limits: tuple[float, ...], reject_below: float, lower_is_better: bool
) -> dict[str, Any]:
    """Path, stars and percentile of a picture, or its error."""
    from grepq_iqa.calibration.standing import labels_of, mos_standing
    from grepq_iqa.report.stars import is_star_scale, stars_of_mos, stars_of_percentile

    row: dict[str, Any] = {"path": result.path, "error": result.error}
    if result.score is None or result.features is None:
        return row
    percentile = result.score.percentile
    if hasattr(model, "regressor_"):
        mos = float(model.predict(features=result.features[None]).mos[0])  # type: ignore[index]  # n of them
        percentile = mos_standing(model, mos, lower_is_better=lower_is_better)
        labels = labels_of(model)
        tolerance = 1e-6  # taken from two numbers that were taken from one another
        if labels is not None and is_star_scale(
            labels.min() + tolerance, labels.max() - tolerance, lower_is_better=lower_is_better
        ):
            rejected = percentile is not None and percentile < reject_below
            return row | {"stars": REJECTED if rejected else stars_of_mos(mos), "percentile": percentile}
    if percentile is None:
        return row | {"error": f"model {model.name!r} has no table of percentiles, so stars need a fitted one"}
    return row | {"stars": stars_of_percentile(percentile, limits, reject_below), "percentile": percentile}


def _rate(picture: Path, stars: int, naming: Naming, replace: bool, dry_run: bool) -> dict[str, Any]:
    from grepq_iqa.report.sidecars import rate as rate_one
    from grepq_iqa.report.sidecars import sidecar_path
    from grepq_iqa.report.xmp import XmpError

    sidecar = sidecar_path(picture, naming)
    try:
        done = rate_one(picture, stars, naming, replace=replace, dry_run=dry_run)
    except XmpError as error:
        return {"sidecar": str(sidecar), "error": f"{sidecar.name} {error}; it was left as it is"}
    except OSError as error:
        return {"sidecar": str(sidecar), "error": f"{sidecar.name}: {error.strerror or error}"}
    action = "would be written" if dry_run and done.action == "written" else done.action
    return {"stars": done.stars, "sidecar": str(done.sidecar), "action": action}


def _sharing(files: list[Path]) -> dict[str, str]:
    """Pictures of one stem, which in Adobe's way have one sidecar, each with another of them."""
    stems: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        stems.setdefault((path.parent, path.stem), []).append(path)
    return {
        str(path): other.name
        for group in stems.values()
        for path in group
        for other in [one for one in group if one != path][:1]
    }
