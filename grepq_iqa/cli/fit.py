"""``grepq fit``: learn a scale from labeled images, and say how well."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.loading import load_model
from grepq_iqa.cli.options import (
    Device,
    Dtype,
    Encoding,
    EngineName,
    LowerIsBetter,
    MaxPixels,
    MaxSide,
    ModelName,
    Overwrite,
    Report,
    ReportFormat,
    Threads,
    Verbose,
    set_threads,
    set_verbose,
)
from grepq_iqa.cli.progress import track
from grepq_iqa.errors import LabelsError, UsageError
from grepq_iqa.files import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from grepq_iqa.data.labels import Labels
    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ


class Repeats(str, Enum):
    """As `grepq_iqa.data.repeats.Repeats`."""

    mean = "mean"
    median = "median"
    error = "error"


class PriorChoice(str, Enum):
    """As `grepq_iqa.calibration.prior.Prior`."""

    auto = "auto"
    none = "none"
    zero_shot = "zero-shot"
    ratings = "ratings"
    both = "both"


def fit(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the fitted model to.")],
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Table of images and scores; its first line names the columns.", show_default=False),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Table of pairs: left, right, winner; alone or beside --csv.", show_default=False),
    ] = None,
    model: ModelName = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of image paths. [default: path, image, file, filename, ...]")
    ] = None,
    mos_column: Annotated[
        str | None, typer.Option(help="Column of scores. [default: mos, score, rating, dmos, ...]")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that relative paths start from. [default: that of the table]")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column whose rows of one value are not independent, such as bursts. Copies are found anyway.",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        Repeats, typer.Option(help="What becomes of several ratings of one image.", show_choices=True)
    ] = Repeats.mean,
    rater: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that says who rated, one rating a row; each rater's scale is removed before averaging.",
            show_default=False,
        ),
    ] = None,
    lower_is_better: LowerIsBetter = None,
    encoding: Encoding = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows without a usable image or score.")
    ] = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predicted against given scores and the learning curve to this file.")
    ] = None,
    prior: Annotated[
        PriorChoice,
        typer.Option(
            help="Head start: the zero-shot score, others' ratings of other photographs, both, or none as in the paper."
        ),
    ] = PriorChoice.auto,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals in the report.")] = 0.9,
    format: Report = ReportFormat.table,
    as_json: Annotated[bool, typer.Option("--json", hidden=True, help="As --format json.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits for cross-validation.")] = 0,
    overwrite: Overwrite = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
    verbose: Verbose = False,
) -> None:
    """Learn your own scale from a table of labeled images; fifty are a good start.

    Paths in the table are relative to it. Scores may be numbers, percent, 4/5 or stars. Reported: cross-validated SRCC,
    PLCC and RMSE, whether that is better than no labels, what more labels would bring, and labels worth a second look.
    Copies of a picture, also saved again or cropped a little, count as one image in all of these. With --pairs, what is
    learned from is which of two images is better (`grepq select --pairs`); scores, if there are any, give the scale.

    Examples:

      grepq fit --csv labels.csv -o my-model

      grepq fit --csv dmos.csv -o my-model --lower-is-better --plot fit.png

      grepq fit --csv labels.csv -o my-model --image-column picture --mos-column "mean vote"

      grepq fit --csv ratings.csv -o my-model --rater viewer --group burst

      grepq fit --pairs pairs.csv -o my-model

      grepq fit --pairs pairs.csv --csv stars.csv -o my-model
    """
    from grepq_iqa.calibration.storage import require_model_folder
    from grepq_iqa.data.labels import read_labels

    def load() -> GRepQ:
        return load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)

    require_model_folder(output)
    if pairs is not None:
        if group or rater or plot is not None:
            raise UsageError("--group, --rater and --plot are for single scores; leave them out with --pairs")
        set_threads(threads)
        set_verbose(verbose)
        from grepq_iqa.cli.fit_pairs import fit_pairs

        fit_pairs(
            pairs,
            csv,
            output,
            read=lambda table: read_labels(
                table,
                image_column=image_column,
                mos_column=mos_column,
                images=images,
                repeats=repeats.value,
                lower_is_better=lower_is_better,
                skip_bad_rows=skip_bad_rows,
                encoding=encoding,
            ),
            images=images,
            skip_bad_rows=skip_bad_rows,
            encoding=encoding,
            load=load,
            open_cache=lambda grepq: open_cache(grepq, cache, no_cache),
            prior=prior.value,
            as_json=as_json or format is ReportFormat.json,
            seed=seed,
        )
        return
    if csv is None:
        raise UsageError("give the labels: --csv for scores of single images, --pairs for comparisons, or both")
    if plot is not None:
        from grepq_iqa.calibration.plot import require_plot

        require_plot(plot)
        require_writable(plot, overwrite=overwrite, inputs=[csv])
    set_threads(threads)
    set_verbose(verbose)
    labels = read_labels(
        csv,
        image_column=image_column,
        mos_column=mos_column,
        images=images,
        group_column=group,
        rater_column=rater,
        repeats=repeats.value,
        lower_is_better=lower_is_better,
        skip_bad_rows=skip_bad_rows,
        encoding=encoding,
    )
    _say_skipped(labels.skipped)
    for note in labels.notes:
        typer.echo(f"grepq: {note}", err=True)
    if plot is not None:
        require_writable(plot, overwrite=overwrite, inputs=labels.paths)

    from grepq_iqa.calibration.groups import find_groups
    from grepq_iqa.calibration.prior import resolved
    from grepq_iqa.calibration.regressor import checked_mos
    from grepq_iqa.data.thumbnails import gray_thumbnail

    checked_mos(labels.mos, len(labels))  # before minutes of features

    grepq = load()
    resolved(prior.value, ratings=grepq.ratings is not None)  # likewise
    labels, features, scores = _features_of(grepq, labels, open_cache(grepq, cache, no_cache), csv, skip_bad_rows)
    groups = find_groups(
        features,
        [sha256_of(path) for path in labels.paths],
        labels.groups,
        thumbnails=[gray_thumbnail(path, max_pixels=grepq.max_pixels) for path in labels.paths],
        feature_mean=grepq.feature_mean,
        feature_scale=grepq.feature_scale,
    )
    grepq.fit(
        features=features,
        mos=labels.mos,
        groups=groups.units,
        weights=labels.weights,
        prior=prior.value,
        lower_is_better=labels.lower_is_better,
    )
    grepq.save_pretrained(output)

    report = grepq.report(features, labels, scores, groups=groups, confidence=confidence, seed=seed)
    as_json = as_json or format is ReportFormat.json
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text(), nl=as_json)
    for warning in report.warnings:
        typer.echo(f"grepq: warning: {warning}", err=True)
    if report.opposed:
        typer.echo(
            f"grepq: images that look good have {'high' if labels.lower_is_better else 'low'} scores here; if that is "
            f"what they mean, fit again with --{'higher' if labels.lower_is_better else 'lower'}-is-better",
            err=True,
        )
    if plot is not None and report.validation is not None:
        from grepq_iqa.calibration.plot import plot_fit

        plot_fit(plot, labels.mos, report.validation, report.curve, mos_name=labels.mos_column)
    elif plot is not None:
        typer.echo(f"grepq: {plot} was not drawn: there are too few labels to say how good the fit is", err=True)
    typer.echo(f"fitted model: {output}", err=True)


def _features_of(
    model: GRepQ, labels: Labels, cache: FeatureCache | None, table: Path, skip_bad_rows: bool
) -> tuple[Labels, NDArray[np.float32], list[float]]:
    """The labels that can be used, with their images' features ``(n, d)`` and zero-shot scores."""
    from grepq_iqa.batch import collect, score_paths

    results = score_paths(model, labels.paths, features=True, cache=cache)
    found = collect(track(results, "features", total=len(labels)))
    problems = [f"line {labels.lines[i]}: {labels.paths[i]}: {error}" for i, error in found.failures]
    if problems and not skip_bad_rows:
        message = f"{table}: {len(problems)} of {len(labels)} images cannot be used"
        raise LabelsError(message, str(table), tuple(problems))
    _say_skipped(problems)
    if not found.indices:
        raise LabelsError(f"{table}: no image can be used", str(table), tuple(problems))
    usable = dataclasses.replace(labels.only(found.indices), skipped=(*labels.skipped, *problems))
    return usable, found.features, [score.score for score in found.scores]


def _say_skipped(problems: list[str] | tuple[str, ...]) -> None:
    for problem in problems:
        typer.echo(f"grepq: left out {problem}", err=True)
