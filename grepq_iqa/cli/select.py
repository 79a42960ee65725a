"""``grepq select``: which images to label next."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
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
    EngineName,
    MaxPixels,
    MaxSide,
    ModelName,
    Overwrite,
    Paths,
    Threads,
    Verbose,
    set_threads,
    set_verbose,
)
from grepq_iqa.cli.output import stdout_for_names
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.streaming import say_skipped
from grepq_iqa.data.pair_table import COLUMNS
from grepq_iqa.errors import UsageError
from grepq_iqa.files import same_file_key, write_atomically
from grepq_iqa.pages import require_pages

if TYPE_CHECKING:
    from grepq_iqa.batch import Collected
    from grepq_iqa.model import GRepQ


class SelectionMethod(str, Enum):
    """As `grepq_iqa.labeling.selection.Method`."""

    i_optimal = "i-optimal"
    d_optimal = "d-optimal"
    k_center = "k-center"
    k_centre = "k-centre"
    random = "random"


def select(
    paths: Paths,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many images to choose.")] = 50,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Choose so many pairs to compare instead, for `grepq fit --pairs`.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table to fill in and to fit on. [default: stdout]")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page to give the ratings or answers on.")
    ] = None,
    scale: Annotated[
        tuple[float, float],
        typer.Option(metavar="WORST,BEST", help="Ratings that the page takes. [default: 1,5]", show_default=False),
    ] = (1, 5),
    labeled: Annotated[
        Path | None,
        typer.Option(
            "--labeled", "--labelled", help="Table of images with labels already: choose what adds most to them."
        ),
    ] = None,
    method: Annotated[
        SelectionMethod, typer.Option(help="How to choose; the default is the one that measures best.")
    ] = SelectionMethod.i_optimal,
    model: ModelName = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
    verbose: Verbose = False,
) -> None:
    """Choose the images most worth labeling, most useful first.

    The table has the columns path and mos; fill in mos and hand it to `grepq fit`. It may be cut short anywhere. With
    --pairs it has the columns left, right and winner; the page asks which is better, and its table is for `grepq fit
    --pairs`. Exit status: 0 all well, 1 some images could not be read and were passed over, 2 wrong usage or no model.

    Examples:

      grepq select photos/ -n 50 -o to-label.csv

      grepq select photos/ -n 50 -o to-label.csv --html to-label.html --scale 1,5

      grepq select photos/ -n 20 -o next.csv --labeled labels.csv

      grepq select photos/ --pairs 100 -o pairs.csv --html pairs.html
    """
    if output is not None and output.suffix.lower() not in {".csv", ".tsv"}:
        raise UsageError(f"{output}: the table to fill in is a .csv or .tsv file")
    if page is not None and page.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{page}: the page is an .html file")
    if pairs is not None and labeled is not None:
        raise UsageError("--labeled tells which single images to choose; leave it out with --pairs")
    if page is not None:
        require_pages()
        if not scale[0] < scale[1]:
            raise UsageError(
                f"--scale {scale[0]:g},{scale[1]:g}: the lower number, which is the worst rating here, comes first"
            )
    given = [path for path in paths if path != "-"] + ([os.fspath(labeled)] if labeled else [])
    for written in (output, page):
        if written is not None:
            require_writable(written, overwrite=overwrite, inputs=given)
    set_threads(threads)
    set_verbose(verbose)
    known = _labeled(labeled)

    import numpy as np

    from grepq_iqa.batch import collect, score_paths
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.labeling import selection

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    # Labeled images come first, whether or not they are among the given ones.
    skipped: Counter[str] = Counter()
    already = {same_file_key(path): path for path in known}
    files = list((already | {same_file_key(path): path for path in iter_image_paths(paths, skipped=skipped)}).values())
    results = score_paths(grepq, files, features=True, cache=open_cache(grepq, cache, no_cache))
    found = collect(track(results, "features", total=len(files)))
    say_skipped(skipped)
    for i, error in found.failures:
        typer.echo(f"grepq: passed over {files[i]}: {error}", err=True)
    usable = [files[i] for i in found.indices]
    labeled_rows = [i for i, path in enumerate(usable) if same_file_key(path) in already]
    room = len(usable) - len(labeled_rows)
    if not room:
        raise UsageError("no images to choose from; folders are searched for the usual image endings")
    if pairs is not None:
        _choose_pairs(grepq, usable, found, pairs, output, page, seed)
        if found.failures:
            raise typer.Exit(1)
        return
    if number > room:
        typer.echo(
            f"grepq: {number} were asked for, but there are {room} images without a label: all are taken", err=True
        )
    chosen = selection.select(
        found.features,
        np.array([score.score for score in found.scores]),
        min(number, room),
        method=method.value,
        labeled=labeled_rows,
        feature_mean=grepq.feature_mean,
        feature_scale=grepq.feature_scale,
        seed=seed,
    )
    images = [usable[i] for i in chosen]
    _write_table(output, ("path", "mos"), [(image,) for image in images])
    if page is not None:
        from grepq_iqa.labeling.rating_page import write_rating_page

        # A browser saves to a folder of its own, from which only absolute paths lead back.
        names = [os.path.abspath(image) for image in images]  # noqa: PTH100 - links are kept
        csv_name = output.name if output is not None else "labels.csv"
        write_rating_page(
            page, images, names, csv_name=csv_name, lowest=scale[0], highest=scale[1], max_pixels=grepq.max_pixels
        )
    if found.failures:
        raise typer.Exit(1)


def _labeled(table: Path | None) -> tuple[Path, ...]:
    if table is None:
        return ()
    from grepq_iqa.data.labels import read_labels

    return read_labels(table, skip_bad_rows=True).paths


def _choose_pairs(
    grepq: GRepQ, images: list[Path], found: Collected, number: int, output: Path | None, page: Path | None, seed: int
) -> None:
    """Write the table, and the page, of so many pairs."""
    import numpy as np

    from grepq_iqa.labeling.pair_selection import select_pairs

    most = len(images) * (len(images) - 1) // 2
    if not most:
        raise UsageError("two images at least are needed to compare")
    if number > most:
        typer.echo(
            f"grepq: {number} pairs were asked for, but {len(images)} images make {most}: all are taken", err=True
        )
    foreseen = hasattr(grepq, "regressor_") or grepq.ratings is not None
    expected = (
        grepq.predict(features=found.features, confidence=0.5).mos
        if foreseen
        else np.array([score.score for score in found.scores])
    )
    chosen = select_pairs(
        found.features,
        expected,
        min(number, most),
        feature_mean=grepq.feature_mean,
        feature_scale=grepq.feature_scale,
        seed=seed,
    )
    _write_table(output, COLUMNS, [(images[left], images[right]) for left, right in chosen])
    if page is not None:
        from grepq_iqa.labeling.rating_page import write_pairs_page

        shown = sorted(set(chosen.ravel().tolist()))
        place = {image: at for at, image in enumerate(shown)}
        # As for single ratings: only absolute paths lead back.
        names = [os.path.abspath(images[i]) for i in shown]  # noqa: PTH100 - links are kept
        write_pairs_page(
            page,
            [images[i] for i in shown],
            names,
            [(place[left], place[right]) for left, right in chosen.tolist()],
            csv_name=output.name if output is not None else "pairs.csv",
            max_pixels=grepq.max_pixels,
        )


def _write_table(output: Path | None, header: Sequence[str], rows: Sequence[Sequence[Path]]) -> None:
    """Rows of paths, relative to the table as `grepq fit` reads them, and an empty last column to be filled in."""
    folder = Path.cwd() if output is None else output.absolute().parent
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, lineterminator="\n", delimiter="\t" if output and output.suffix.lower() == ".tsv" else ","
    )
    writer.writerow(header)
    for row in rows:
        writer.writerow([*(_relative(image, folder) for image in row), ""])
    if output is None:
        stdout_for_names().write(text.getvalue())
        return
    try:
        write_atomically(output, text.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from error


def _relative(image: Path, folder: Path) -> str:
    try:
        return os.path.relpath(image, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(image.absolute())
