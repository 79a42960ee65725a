"""``grepq report``: a page and a contact sheet to look through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.destinations import is_results, require_writable
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
    set_threads,
)
from grepq_iqa.cli.ordering import MosLowerIsBetter, lowest_is_best
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.row_record import settings_beside
from grepq_iqa.cli.streaming import say_skipped
from grepq_iqa.errors import ImageError, UsageError
from grepq_iqa.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from grepq_iqa.model import GRepQ
    from grepq_iqa.report.photograph import Photograph

    Rows = Iterator[tuple[Photograph, NDArray[Any] | None]]

_ALL_ON_SHEET = 48  # photographs up to which a contact sheet shows every one
_EACH_END, _COLUMNS = 24, 8


def report(
    paths: Paths,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page to write, an .html file.", show_default=False)
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Also, or only, write a contact sheet: the best and the worst as one .png.", show_default=False
        ),
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Say why photographs are poor, and where; takes longer.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Heading. [default: the folder's name]", show_default=False)] = None,
    model: ModelName = None,
    lower_is_better: MosLowerIsBetter = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    overwrite: Overwrite = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
) -> None:
    """Write a page to look through: every photograph with its score, to sort, filter and print.

    It opens from disk in any browser, without a network. Of more than 300 photographs the small pictures lie in a
    folder beside it, NAME_files, which goes where the page goes. Instead of photographs, a file of rows that
    `grepq score` or `predict` wrote may be given: nothing is then computed again. Exit status: 0 all well, 1 some
    images failed, 2 wrong usage or no model.

    Examples:

      grepq report holiday/ -o report.html

      grepq report holiday/ -o report.html --reasons

      grepq report scores.csv -o report.html --sheet sheet.png
    """
    if output is None and sheet is None:
        raise UsageError("name what to write: --output report.html, --sheet sheet.png, or both")
    if output is not None and output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{output}: the report is an .html file")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"{sheet}: the contact sheet is a .png file")
    for written in (output, sheet):
        if written is not None:
            require_writable(written, overwrite=overwrite, inputs=[path for path in paths if path != "-"])
    from grepq_iqa.data.images import MAX_PIXELS
    from grepq_iqa.pages import require_pages, shown
    from grepq_iqa.report.picture_folder import PictureFolder

    if output is not None:
        require_pages()
        PictureFolder(output, inside=False).require()
    source = _rows_file(paths)
    set_threads(threads)

    from grepq_iqa.report.report_page import ReportText, write_report

    grepq = None
    if source is None or reasons:
        grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    skipped: Counter[str] = Counter()
    if source is None:
        assert grepq is not None
        turned = lowest_is_best(grepq, lower_is_better)
        count, rows = _scored(grepq, paths, cache, no_cache, skipped, [output, sheet], turned)
        value_name = "MOS" if hasattr(grepq, "regressor_") else "Score"
    else:
        count, rows, value_name = _read(source)
        turned = _lower_is_better(source) if lower_is_better is None else lower_is_better
    if not count:
        say_skipped(skipped)
        raise UsageError("no images found; folders are searched for the usual image endings")
    most = grepq.max_pixels if grepq is not None else max_pixels or MAX_PIXELS
    if reasons:
        assert grepq is not None
        rows = _explained(rows, most)
    kept = _Kept(track(rows, "report", count))
    heading = title if title is not None else _heading(paths)
    if output is None:
        for _ in kept:
            pass
    else:
        from grepq_iqa.report.copies import CopyFinder

        made_with = "" if grepq is None else f"{grepq.name}, weights {grepq.encoder_hash[:12]}."
        notes, among = _notes(value_name, source, grepq), _among(value_name, source, grepq)
        text = ReportText(shown(heading), value_name, turned, shown(made_with), notes, among)
        finder = CopyFinder() if grepq is None else CopyFinder(grepq.feature_mean, grepq.feature_scale)
        kept.failed = write_report(output, kept, text, count=count, finder=finder, max_pixels=most).failed
    if sheet is not None:
        _write_sheet(sheet, kept.ranked, value_name, most, lower_is_better=turned)
    say_skipped(skipped)
    if kept.failed:
        typer.echo(f"grepq: {kept.failed} of {count} images could not be used; the report says why", err=True)
        raise typer.Exit(1)


class _Kept:
    """Passes rows on and keeps what a contact sheet needs of them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.ranked: list[tuple[float, float | None, Path]] = []
        self.failed = 0

    def __iter__(self) -> Rows:
        for photograph, features in self._rows:
            self.failed += photograph.value is None
            if photograph.value is not None:
                self.ranked.append((photograph.value, photograph.percentile, photograph.path))
            yield photograph, features


def _rows_file(paths: list[str]) -> Path | None:
    """The file of rows that is given, None where photographs are."""
    known = [Path(path) for path in paths if path != "-" and Path(path).is_file() and is_results(Path(path))]
    if known and len(paths) > 1:
        raise UsageError(f"{known[0]} holds rows: give it alone, or photographs")
    if known and is_results(known[0], "pick"):
        raise UsageError(f"{known[0]} holds rows of pick, which tell of groups; give rows of score, predict or explain")
    return known[0] if known else None


def _read(source: Path) -> tuple[int, Rows, str]:
    from grepq_iqa.report.photograph import read_photographs

    count = sum(1 for _ in read_photographs(source))
    return (
        count,
        ((photograph, None) for photograph in read_photographs(source)),
        ("MOS" if is_results(source, "predict") else "Score"),
    )


def _lower_is_better(source: Path) -> bool:
    """Whether the lowest value of a file of rows is the best, as the settings beside it say."""
    if not is_results(source, "predict"):
        return False
    try:
        return settings_beside(source).get("lower_is_better") is True
    except UsageError:  # rows may be moved without them
        typer.echo(
            f"grepq: the settings beside {printable(source)} are missing: the highest mos is taken for the best; if it "
            "is the worst, say --lower-is-better",
            err=True,
        )
        return False


def _scored(
    model: GRepQ,
    paths: list[str],
    cache: Path | None,
    no_cache: bool,
    skipped: Counter[str],
    written: list[Path | None],
    lower_is_better: bool,
) -> tuple[int, Rows]:
    """How many photographs there are, and a row of each as it is scored."""
    from grepq_iqa.batch import score_paths
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import same_file_key

    ours = {same_file_key(path) for path in written if path is not None}
    folders = {same_file_key(path.with_name(f"{path.stem}_files")) for path in written if path is not None}
    files = []
    for path in iter_image_paths(paths, skipped=skipped):
        if same_file_key(path) in ours:
            require_writable(path)  # an earlier sheet is no photograph; a photograph is nothing to write over
        elif same_file_key(path.parent) not in folders:
            files.append(path)
    known = open_cache(model, cache, no_cache)
    results = score_paths(model, files, features=True, cache=known)
    return len(files), ((_photograph(model, result, lower_is_better), result.features) for result in results)


def _photograph(model: GRepQ, result: Any, lower_is_better: bool) -> Photograph:
    from grepq_iqa.report.photograph import Photograph

    path = Path(result.path)
    if result.score is None:
        return Photograph(path, None, error=result.error)
    found = result.score
    if not hasattr(model, "regressor_"):
        return Photograph(path, found.score, found.percentile, warnings=found.warnings)
    prediction = model.predict(features=result.features[None])
    import numpy as np

    from grepq_iqa.calibration.standing import mos_standing

    mos, low, high = (float(np.ravel(values)[0]) for values in (prediction.mos, prediction.low, prediction.high))
    finite = bool(np.isfinite(high - low))
    standing = mos_standing(model, mos, lower_is_better=lower_is_better)
    return Photograph(path, mos, standing, low if finite else None, high if finite else None, found.warnings)


def _explained(rows: Rows, max_pixels: int) -> Rows:
    """The rows with reasons and maps, where the photograph can be read."""
    import dataclasses

    from grepq_iqa.data.thumbnails import thumbnail
    from grepq_iqa.explain import overlay
    from grepq_iqa.explain.explanation import decode_views, judge_views
    from grepq_iqa.explain.quality_map import quality_map
    from grepq_iqa.report.photograph import Reason

    for photograph, features in rows:
        if photograph.value is not None:
            try:
                native, screen = decode_views(photograph.path, max_pixels)
            except ImageError as error:  # gone or changed since it was scored
                note = f"no reasons: {error.reason}"
                yield dataclasses.replace(photograph, warnings=(*photograph.warnings, note)), features
                continue
            reasons, _ = judge_views(native, screen)  # the score is known
            named = tuple(Reason(one.name, one.sentence, one.percentile) for one in reasons)
            picture = overlay(thumbnail(photograph.path, _MAP_SIDE, max_pixels=max_pixels), quality_map(screen))
            photograph = dataclasses.replace(photograph, reasons=named, map=picture)
        yield photograph, features


_MAP_SIDE = 640  # pixels of the longer side of a map's picture


def _notes(value_name: str, source: Path | None, model: GRepQ | None) -> tuple[str, ...]:
    from grepq_iqa.pages import shown

    notes = []
    if source is not None:
        notes.append(f"Values are those of {shown(source.name)}; nothing was computed again.")
    if value_name == "MOS":
        notes.append("MOS is what people would be expected to say, with the interval that it probably lies in.")
    elif model is not None:
        notes.append("A score needs no reference picture and knows no taste: it tells technical quality, by and large.")
    return tuple(notes)


def _among(value_name: str, source: Path | None, model: GRepQ | None) -> str:
    from grepq_iqa.calibration.standing import standing_among

    if source is None:
        assert model is not None
        return standing_among(model)
    # Rows do not tell whether their model was fitted.
    return "those that its model knows" if value_name == "MOS" else "in-the-wild photographs"


def _heading(paths: list[str]) -> str:
    if len(paths) == 1 and paths[0] != "-":
        path = Path(paths[0])
        return path.resolve().name or str(path)
    return "Photographs"


def _write_sheet(
    path: Path,
    ranked: list[tuple[float, float | None, Path]],
    value_name: str,
    max_pixels: int,
    *,
    lower_is_better: bool,
) -> None:
    from grepq_iqa.report.contact_sheet import Cell, write_contact_sheet

    best_first = sorted(ranked, key=lambda row: row[0], reverse=not lower_is_better)

    def cells(rows: list[tuple[float, float | None, Path]]) -> list[Cell]:
        return [
            Cell(file, f"{value_name} {value:.3g}" + ("" if share is None else f", better than {share:.0f} %"))
            for value, share, file in rows
        ]

    if len(ranked) <= _ALL_ON_SHEET:
        rows = [("From best to worst", cells(best_first))]
    else:
        rows = [("Best", cells(best_first[:_EACH_END])), ("Worst", cells(best_first[: -_EACH_END - 1 : -1]))]
    try:
        write_contact_sheet(rows, path, columns=_COLUMNS, max_pixels=max_pixels)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
