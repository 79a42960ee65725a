"""``grepq select``: which images to label next."""

from __future__ import annotations

import csv
import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.options import Device, Dtype, ModelName, Paths
from grepq_iqa.cli.output import open_output
from grepq_iqa.cli.progress import track
from grepq_iqa.errors import UsageError


class SelectionMethod(str, Enum):
    """As `grepq_iqa.labeling.selection.Method`."""

    i_optimal = "i-optimal"
    d_optimal = "d-optimal"
    k_centre = "k-centre"
    random = "random"


def select(
    paths: Paths,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many images to choose.")] = 50,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table to fill in and to fit on. [default: stdout]")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with thumbnails and fields to rate them in.")
    ] = None,
    scale: Annotated[tuple[float, float], typer.Option(help="Worst and best rating that the page takes.")] = (1, 5),
    labelled: Annotated[
        Path | None, typer.Option(help="Table of images with labels already: choose what adds most to them.")
    ] = None,
    method: Annotated[
        SelectionMethod, typer.Option(help="The default is the one that measures best; see docs of selection.")
    ] = SelectionMethod.i_optimal,
    model: ModelName = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Choose the images most worth labelling, most useful first.

    The table has the columns path and mos; fill in mos and hand it to `grepq fit`. It may be cut short anywhere. Exit
    status: 0 all well, 1 some images could not be read and were passed over, 2 wrong usage or no model.

    Examples:

      grepq select photos/ -n 50 -o to-label.csv

      grepq select photos/ -n 50 -o to-label.csv --html to-label.html

      grepq select photos/ -n 20 -o next.csv --labelled labels.csv
    """
    for written in (output, page):
        if written is not None and written.exists() and not overwrite:
            raise UsageError(f"{written} exists, maybe with ratings in it; give another name or --overwrite")
    known = _labelled(labelled)

    import numpy as np

    from grepq_iqa.batch import expand
    from grepq_iqa.feature_cache import stream_cached
    from grepq_iqa.labeling import selection
    from grepq_iqa.model import GRepQ

    grepq = GRepQ.from_pretrained(model, device=device, dtype=dtype)
    # Labelled images come first, whether or not they are among the given ones.
    files = {_absolute(path): path for path in known} | {_absolute(path): path for path in expand(paths)}
    usable, rows, scores, failed = [], [], [], 0
    results = stream_cached(grepq, list(files.values()), open_cache(grepq, cache, no_cache))
    for result in track(results, "features", total=len(files)):
        if result.score is None or result.features is None:
            failed += 1
            typer.echo(f"grepq: passed over {result.path}: {result.error}", err=True)
        else:
            usable.append(Path(result.path))
            rows.append(result.features)
            scores.append(result.score.value)
    already = {_absolute(path) for path in known}
    labelled_rows = [i for i, path in enumerate(usable) if _absolute(path) in already]
    if len(usable) == len(labelled_rows):
        raise UsageError("no images to choose from; folders are searched for the usual image endings")
    chosen = selection.select(
        np.stack(rows),
        np.array(scores),
        number,
        method=method.value,
        labelled=labelled_rows,
        feature_mean=grepq.feature_mean,
        feature_scale=grepq.feature_scale,
        seed=seed,
    )
    images = [usable[i] for i in chosen]
    _write_table(output, images)
    if page is not None:
        from grepq_iqa.labeling.rating_page import write_contact_sheet

        # A browser saves to a folder of its own, from which only absolute paths lead back.
        names = [os.path.abspath(image) for image in images]  # noqa: PTH100 - links are kept
        csv_name = output.name if output is not None else "labels.csv"
        write_contact_sheet(page, images, names, csv_name=csv_name, lowest=scale[0], highest=scale[1])
    if failed:
        raise typer.Exit(1)


def _labelled(table: Path | None) -> tuple[Path, ...]:
    if table is None:
        return ()
    from grepq_iqa.data.labels import read_labels

    return read_labels(table, skip_bad_rows=True).paths


def _absolute(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))  # noqa: PTH100 - links are kept


def _write_table(output: Path | None, images: list[Path]) -> None:
    """Columns path and an empty mos; paths relative to the table, as `grepq fit` reads them."""
    folder = Path.cwd() if output is None else output.absolute().parent
    with open_output(output) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "mos"])
        for image in images:
            try:
                name = os.path.relpath(image, folder).replace(os.sep, "/")
            except ValueError:  # another drive
                name = str(image.absolute())
            writer.writerow([name, ""])
