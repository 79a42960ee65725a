"""What `grepq score` and `grepq predict` share: many files in, a row each out, whatever happens to some of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.ordering import GATE_MISSED, Ordering
from grepq_iqa.cli.output import Format, choose_format, color_wanted
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.row_file import RowFile
from grepq_iqa.cli.summary import Summary
from grepq_iqa.cli.whole_rows import WholeRows
from grepq_iqa.data.formats import OTHER_PICTURES
from grepq_iqa.errors import UsageError
from grepq_iqa.files import is_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from grepq_iqa.batch import Result
    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ


def require_output(
    paths: list[str], output: Path | None, format: Format | None, *, resume: bool, overwrite: bool
) -> Format:
    """The format of the rows, once it is known that they may go where they shall.

    Raises:
        UsageError: they may not; the message says what to do.
    """
    chosen = choose_format(format, output)
    if resume and output is None:
        raise UsageError("--resume needs --output, the file whose rows are to be kept")
    if resume and output is not None and is_stream(output):
        raise UsageError(f"--resume needs a file whose rows are to be kept, and {output} keeps none")
    if resume and chosen is Format.table:
        raise UsageError("--resume needs rows that can be read back: use --format csv or jsonl")
    if chosen is Format.parquet:
        from grepq_iqa.cli.parquet import require_parquet

        require_parquet()
    if output is not None:
        given = [path for path in paths if path != "-"]
        require_writable(output, overwrite=overwrite, resume=resume, inputs=given)
    return chosen


def write_rows(
    command: str,
    model: GRepQ,
    paths: list[str],
    row_of: Callable[[Result], Mapping[str, Any]],
    *,
    output: Path | None,
    format: Format,
    settings: Mapping[str, Any],
    resume: bool,
    features: bool,
    ordering: Ordering,
    cache: FeatureCache | None,
    standing_of: Callable[[Mapping[str, Any]], float | None] | None = None,
) -> None:
    """Score every file and write what ``row_of`` makes of its result, as it comes unless ``ordering`` needs all.

    A row's "percentile" is what limits and colors go by, be it among the fields of the command or not; where it is not,
    ``standing_of`` tells it of rows that were written before.

    Raises:
        UsageError: there are no files, rows cannot be written, or a limit is given that the model knows nothing of.
        typer.Exit: with 1, some files could not be used; with 3, an image missed the gate.
    """
    from grepq_iqa.batch import score_paths
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import same_file_key

    if ordering.min_percentile is not None and standing_of is None and model.percentile(0.0) is None:
        raise UsageError(f"--min-percentile: model {model.name!r} has no table of percentiles")

    def whole(row: Mapping[str, Any]) -> Mapping[str, Any]:
        if standing_of is None or row.get("percentile") is not None:
            return row
        return {**row, "percentile": standing_of(row)}

    def arranged(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return ordering.arranged([whole(row) for row in rows])

    skipped: Counter[str] = Counter()
    failed = seen = missed = 0
    summary = Summary(ordering)
    color = output is None and format is Format.table and color_wanted(sys.stdout)
    if ordering.needs_all or format is Format.parquet:
        destination: WholeRows | RowFile = WholeRows(
            command, output, format, settings, arranged, resume=resume, color=color
        )
    else:
        destination = RowFile(command, output, format, settings, resume=resume, color=color)
    with destination as rows:
        if ordering.fail_under is not None or ordering.summary:
            for kept in map(whole, rows.rows_before()):
                missed += ordering.misses_gate(kept)
                summary.add(kept)
        output_key = None if output is None else same_file_key(output)
        files: Iterable[Path] = (
            path
            for path in iter_image_paths(paths, skipped=skipped)
            if (key := same_file_key(path)) not in rows.done and key != output_key
        )
        total = None
        to_file = output is not None or not sys.stdout.isatty()
        if to_file and sys.stderr.isatty() and "-" not in paths:
            files = list(files)  # a person is watching, and wants to know how many there are
            total = len(files)
        results: Iterator[Result] = score_paths(model, files, features=features, cache=cache)
        rows_appear = output is None and not ordering.needs_all
        for result in track(results, command, total, rows_on_stdout=rows_appear):
            seen += 1
            row = {"path": result.path, "warnings": [], "error": result.error} | dict(row_of(result))
            failed += row["error"] is not None
            missed += ordering.misses_gate(row)
            summary.add(row)
            if isinstance(rows, WholeRows) or ordering.keeps(row):
                rows.write(row)
        nothing = not seen and not rows.done
    say_skipped(skipped)
    if nothing:
        raise UsageError("no images found; folders are searched for the usual image endings")
    if ordering.summary:
        typer.echo(summary.as_text(), err=True)
    if failed:
        typer.echo(f"grepq: {failed} of {seen} images could not be used; see the error column", err=True)
    if rows.failed:
        typer.echo(
            f"grepq: {rows.failed} rows that were there already have errors; to try those images again, run without "
            "--resume (known ones come from the cache)",
            err=True,
        )
    if missed:
        worse = "above" if ordering.lower_is_better else "under"
        images = "image" if missed == 1 else "images"
        typer.echo(f"grepq: {missed} {images} {worse} {ordering.field} {ordering.fail_under:g}: gate missed", err=True)
        raise typer.Exit(GATE_MISSED)
    if failed or rows.failed:
        raise typer.Exit(1)


def run_settings(model: GRepQ, **more: Any) -> dict[str, Any]:
    """Everything that a run's rows depend on, for the record beside them."""
    return {
        "model": model.name,
        "encoder_hash": model.encoder_hash,
        "max_side": model.max_side,
        "dtype": str(model.dtype).removeprefix("torch."),
        "engine": model.engine.name,
        **({} if model.engine.name == "torch" else {"features_hash": model.features_hash}),
        **more,
    }


def say_skipped(skipped: Counter[str]) -> None:
    """Count aloud the files in searched folders that look like pictures and were left out."""
    for ending, count in sorted(skipped.items()):
        if ending in OTHER_PICTURES:
            files = "file" if count == 1 else "files"
            typer.echo(f"grepq: {count} {ending} {files} skipped: {OTHER_PICTURES[ending]}", err=True)
