"""``grepq score``: zero-shot quality of images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from grepq_iqa.cli.options import Device, Dtype, MaxSide, ModelName, Output, OutputFormat, Paths
from grepq_iqa.cli.output import Format, RowWriter, choose_format, open_output
from grepq_iqa.cli.progress import track
from grepq_iqa.errors import UsageError

FIELDS = ("path", "score", "low_level", "high_level", "percentile", "warnings", "error")


def score(
    paths: Paths,
    model: ModelName = None,
    format: OutputFormat = None,
    output: Output = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the rows in --output and skip their images.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
) -> None:
    """Score images; higher is better.

    score is Q, between 0 and 1.5; percentile places it among ordinary photographs, 0 to 100. Exit status: 0 all well, 1
    some images failed, 2 wrong usage or no model.

    Examples:

      grepq score photo.jpg

      grepq score holiday/ --format csv > scores.csv

      find . -name '*.jpg' | grepq score - --output scores.jsonl --resume
    """
    if resume and output is None:
        raise UsageError("--resume needs --output, the file whose rows are to be kept")
    chosen = choose_format(format, output)
    if resume and chosen is Format.table:
        raise UsageError("--resume needs rows that can be read back: use --format csv or jsonl")

    from grepq_iqa.batch import expand, stream
    from grepq_iqa.model import GRepQ

    done = set(_paths_in(output, chosen)) if resume and output and output.exists() else set()
    grepq = GRepQ.from_pretrained(model, device=device, dtype=dtype, max_side=max_side)
    failed = seen = 0
    with open_output(output, append=bool(done)) as out:
        writer = RowWriter(chosen, out, FIELDS, header=not done)
        for result in track(stream(grepq, _skip(expand(paths), done)), "scoring"):
            seen += 1
            failed += result.error is not None
            row: dict[str, Any] = {"path": result.path, "error": result.error, "warnings": []}
            if result.score is not None:
                row |= {
                    "score": result.score.value,
                    "low_level": result.score.low_level,
                    "high_level": result.score.high_level,
                    "percentile": result.score.percentile,
                    "warnings": list(result.score.warnings),
                }
            writer.write(row)
    if not seen and not done:
        raise UsageError("no images found; folders are searched for the usual image endings")
    if failed:
        typer.echo(f"grepq: {failed} of {seen} images could not be scored; see the error column", err=True)
        raise typer.Exit(1)


def _skip(paths: Iterable[Path], done: set[str]) -> Iterator[Path]:
    return (path for path in paths if str(path) not in done)


def _paths_in(output: Path, format: Format) -> Iterator[str]:
    """Paths of whole rows in ``output``; a last line that an interrupt cut is removed from the file."""
    text = output.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        output.write_bytes(whole)
    rows = whole.decode("utf-8", errors="surrogateescape")
    try:
        if format is Format.jsonl:
            yield from (json.loads(line)["path"] for line in rows.split("\n") if line.strip())
        else:
            yield from (row["path"] for row in csv.DictReader(io.StringIO(rows, newline="")))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{output} does not hold rows of `grepq score --format {format.value}`: {error}") from error
