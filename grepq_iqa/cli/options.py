"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from grepq_iqa.cli.output import Format

Paths = Annotated[
    list[str],
    typer.Argument(help="Image files, folders (searched below), patterns, or - for a list on stdin.", show_default=False),
]
ModelName = Annotated[
    Optional[str],
    typer.Option(
        "--model", "-m", help="A name from `grepq weights list`, a directory, or owner/repo[@revision]. [default: compact]"
    ),
]
OutputFormat = Annotated[
    Optional[Format],
    typer.Option("--format", "-f", help="How to write rows. [default: table on a terminal, csv in a pipe]"),
]
Output = Annotated[Optional[Path], typer.Option("--output", "-o", help="Write rows to this file instead of stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
MaxSide = Annotated[
    Optional[int],
    typer.Option(min=0, help="Shrink longer images to this many pixels; 0 never shrinks. [default: the model's own]"),
]
