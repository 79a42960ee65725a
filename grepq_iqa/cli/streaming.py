"""What `grepq score` and `grepq predict` share: many files in, a row each out, whatever happens to some of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.output import Format, choose_format
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.row_file import RowFile
from grepq_iqa.data.formats import OTHER_PICTURES
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from grepq_iqa.batch import Result
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
    if resume and chosen is Format.table:
        raise UsageError("--resume needs rows that can be read back: use --format csv or jsonl")
    if output is not None:
        require_writable(output, overwrite=overwrite, inputs=[path for path in paths if path != "-"])
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
) -> None:
    """Score every file and write what ``row_of`` makes of its result.

    Raises:
        UsageError: there are no files, or rows cannot be written.
        typer.Exit: with 1, some files could not be used.
    """
    from grepq_iqa.batch import score_paths
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import same_file_key

    skipped: Counter[str] = Counter()
    failed = seen = 0
    with RowFile(command, output, format, settings, resume=resume) as rows:
        output_key = None if output is None else same_file_key(output)
        files: Iterable[Path] = (
            path
            for path in iter_image_paths(paths, skipped=skipped)
            if (key := same_file_key(path)) not in rows.done and key != output_key
        )
        total = None
        if output is not None and sys.stderr.isatty() and "-" not in paths:
            files = list(files)  # a person is watching, and wants to know how many there are
            total = len(files)
        results: Iterator[Result] = score_paths(model, files, features=features)
        for result in track(results, command, total, rows_on_stdout=output is None):
            seen += 1
            row = {"path": result.path, "warnings": [], "error": result.error} | dict(row_of(result))
            failed += row["error"] is not None
            rows.write(row)
        nothing = not seen and not rows.done
    say_skipped(skipped)
    if nothing:
        raise UsageError("no images found; folders are searched for the usual image endings")
    if failed:
        typer.echo(f"grepq: {failed} of {seen} images could not be used; see the error column", err=True)
        raise typer.Exit(1)


def run_settings(model: GRepQ, **more: Any) -> dict[str, Any]:
    """Everything that a run's rows depend on, for the record beside them."""
    return {
        "model": model.name,
        "encoder_hash": model.encoder_hash,
        "max_side": model.max_side,
        "dtype": str(model.dtype).removeprefix("torch."),
        "engine": "torch",
        **more,
    }


def say_skipped(skipped: Counter[str]) -> None:
    """Count aloud the files in searched folders that look like pictures and were left out."""
    for ending, count in sorted(skipped.items()):
        if ending in OTHER_PICTURES:
            files = "file" if count == 1 else "files"
            typer.echo(f"grepq: {count} {ending} {files} skipped: {OTHER_PICTURES[ending]}", err=True)
