"""Options that several commands share."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from grepq_iqa.cli.output import Format

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (searched below), patterns, tables, or - for a list on stdin.", show_default=False
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


class ReportFormat(str, Enum):
    """How a report is printed: for a person, or for a program."""

    table = "table"
    json = "json"


Report = Annotated[ReportFormat, typer.Option("--format", "-f", help="What goes to stdout.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write rows to this .csv, .tsv, .jsonl or .json file instead of stdout, as they come."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the rows in --output and skip their images.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist, whoever wrote them; never inputs, never ratings.")
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="auto, torch or onnx (int8 on the CPU, without torch). auto is onnx where it is the faster; giving a "
        "device or a dtype means torch.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16; of onnx: int8 or float32.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say which engine computes, and why.")]
MaxSide = Annotated[
    int | None,
    typer.Option(min=0, help="Shrink longer images to this many pixels; 0 never shrinks. [default: the model's own]"),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Refuse images with more pixels; a JPEG may be decoded reduced instead. [default: 178956970]",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=0,
        help="Processor threads; 1 where several such programs run at once. [default: all cores]",
        show_default=False,
    ),
]
Encoding = Annotated[
    str | None, typer.Option(help="Of the table, such as gbk or shift_jis. [default: found out]", show_default=False)
]
LowerIsBetter = Annotated[
    bool | None,
    typer.Option(
        "--lower-is-better/--higher-is-better",
        help="Whether scores measure distortion, as DMOS does. [default: lower for a column named dmos]",
        show_default=False,
    ),
]


def set_verbose(verbose: bool) -> None:
    """What the library has to say goes to stderr in the program's words; ``verbose``: also what it chose, and why."""
    logger = logging.getLogger("grepq_iqa")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.handlers[:] = [logging.StreamHandler()]
    logger.handlers[0].setFormatter(logging.Formatter("grepq: %(message)s"))
    logger.propagate = False


class Command(TyperCommand):
    """A command whose options of two values take them with a comma, too: ``--scale 1,5`` is ``--scale 1 5``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments, once such values are taken apart."""
        pairs = {name for param in self.params if param.nargs == 2 for name in param.opts}
        apart: list[str] = []
        for argument in args:
            name, equals, value = argument.partition("=")
            if equals and name in pairs:
                apart.append(name)
                argument = value
            values = [part for part in argument.split(",") if part]
            apart += values if apart and apart[-1] in pairs and len(values) in (1, 2) else [argument]
        return super().parse_args(ctx, apart)


def set_threads(threads: int) -> None:
    """Keep the encoders to so many threads; 0 leaves their own choice. Imports nothing heavy."""
    from grepq_iqa import devices

    devices.set_threads(threads)
