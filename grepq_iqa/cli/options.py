"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.cli.output import Format

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (searched below), patterns, or - for a list on stdin.", show_default=False
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A name from `grepq weights list`, a directory, or owner/repo[@revision]. [default: compact]",
    ),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="How to write rows. [default: table on a terminal, csv in a pipe]"),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write rows to this file instead of stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
MaxSide = Annotated[
    int | None,
    typer.Option(min=0, help="Shrink longer images to this many pixels; 0 never shrinks. [default: the model's own]"),
]
