"""The typer application: names of commands, and what happens to errors that leave one."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from grepq_iqa._version import __version__
from grepq_iqa.cli.options import Command
from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.text import unknown_name

COMMANDS = {
    "score": ("grepq_iqa.cli.score:score", "Score images; higher is better."),
    "score-many": ("grepq_iqa.cli.score_many:score_many", "Score a bucket or a very large folder on a Ray cluster."),
    "fit": ("grepq_iqa.cli.fit:fit", "Learn your own scale from a table of labeled images."),
    "predict": ("grepq_iqa.cli.predict:predict", "Predict MOS with intervals by a fitted model."),
    "explain": ("grepq_iqa.cli.explain:explain", "Say why photographs are poor, and where."),
    "select": ("grepq_iqa.cli.select:select", "Choose the images most worth labeling."),
    "pick": ("grepq_iqa.cli.pick:pick", "Pick the best of each burst; copy, move or link them."),
    "rate": ("grepq_iqa.cli.rate:rate", "Rate photographs with stars in XMP sidecars."),
    "report": ("grepq_iqa.cli.report:report", "Write a page of photographs to look through."),
    "serve": ("grepq_iqa.cli.serve:serve", "Serve a page to score, label and fit, and an API for programs."),
    "weights": ("grepq_iqa.cli.weights:app", "List, download, verify and import models."),
    "export": ("grepq_iqa.cli.export:export", "Write a model's encoders as ONNX, in float32 or int8."),
    "benchmark": ("grepq_iqa.cli.benchmark:app", "Measure on the field's public data sets."),
}


class LazyGroup(TyperGroup):
    """Imports a command's module only when the command is used; listing needs no more than the table above."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with; a name that is none gets those that are, the nearest first."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(unknown_name("command", name, COMMANDS))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        target, help_text = COMMANDS[cmd_name]
        if _only_listing():
            return TyperCommand(cmd_name, help=help_text)
        module, attribute = target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, typer.Typer):
            return typer.main.get_command(command)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, cls=Command)(command)
        return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    name="grepq",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"grepq-iqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """How good do photographs look? Scores without a reference, and predictions on your own scale.

    Examples:

      grepq score photo.jpg holiday/

      grepq fit --csv labels.csv -o my-model

      grepq predict new/*.jpg --model my-model
    """


INTERRUPTED = 130  # as shells report it


def run() -> None:
    """Run the program; a :class:`GrepqError` becomes one clear line and exit status 2."""
    try:
        app()
    except GrepqError as error:
        typer.echo(f"grepq: {error}", err=True)
        _forget_stdout()
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:  # typer turns an interrupt into this
            raise
        typer.echo("grepq: interrupted; finished rows are kept", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `grepq score ... | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # whatever the disk refused: a full one, a folder that may not be looked into
        typer.echo(f"grepq: {error.filename or 'output'}: {error.strerror or error}", err=True)
        _forget_stdout()
        sys.exit(2)


def _forget_stdout() -> None:
    """What could not be written to a full disk must not be tried again, and complained of, when the program ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _only_listing() -> bool:
    return not any(word in COMMANDS for word in sys.argv[1:] + _words_being_completed())


def _words_being_completed() -> list[str]:
    """A shell that asks for completions hands over its line in the environment: bash by one name, others by typer's."""
    return [word for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS") for word in os.environ.get(name, "").split()]
