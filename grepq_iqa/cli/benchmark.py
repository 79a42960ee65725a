"""``grepq benchmark``: the field's data sets and protocol in one command."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from grepq_iqa.cli.options import Device, MaxSide, ModelName
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    from grepq_iqa.benchmark import BenchmarkResult

_SEVERAL = {"--labels", "--against"}


class SeveralValues(TyperCommand):
    """Lets ``--labels 50 100 200`` stand for ``--labels 50 --labels 100 --labels 200``; likewise ``--against``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, expand_several(args))


def expand_several(args: list[str]) -> list[str]:
    """Repeat the option before each further value that can only be one of its own: a number, or a rival's name."""
    from grepq_iqa.benchmark.baselines import RIVALS

    expanded: list[str] = []
    option, taken = "", 0
    for argument in args:
        if argument.startswith("-"):
            option, taken = argument, 0
        elif option in _SEVERAL:
            own = argument.isdecimal() if option == "--labels" else argument in RIVALS
            if taken and own:
                expanded.append(option)
            elif taken:
                option = ""
            taken += 1
        else:
            option = ""
        expanded.append(argument)
    return expanded


class Format(str, Enum):
    """What goes to stdout."""

    table = "table"
    json = "json"


class Splits(str, Enum):
    """How test parts are made."""

    random = "random"
    official = "official"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command("benchmark", cls=SeveralValues)
def benchmark(
    name: Annotated[str, typer.Argument(help="A data set, or 'list' to see which there are and where to get them.")],
    root: Annotated[Path | None, typer.Option(help="Folder to which the data set was unpacked.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Label counts of the data-efficient protocol; 0 leaves it out. [50 100 200]"),
    ] = None,
    splits: Annotated[int, typer.Option(min=1, help="Seeds over which the median is taken.")] = 10,
    protocol: Annotated[
        Splits, typer.Option(help="random: 20 % of the contents held out; official: the authors' test part.")
    ] = Splits.random,
    model: ModelName = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Older methods on the same images: brisque, niqe, piqe.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write everything as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write score against opinion as PNG.")] = None,
    worst: Annotated[Path | None, typer.Option(help="Write a contact sheet of the worst disagreements as PNG.")] = None,
    format: Annotated[Format, typer.Option(help="What goes to stdout.")] = Format.table,
    csv: Annotated[str | None, typer.Option(help="With NAME csv: the table, relative to --root.")] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="With NAME csv: the scores measure distortion.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=5, help="Only this many images, drawn at random: a quick try.")
    ] = None,
    max_side: MaxSide = None,
    device: Device = "auto",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples behind the 95 % intervals; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(help="First seed of splits, draws and bootstrap.")] = 0,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where results of single images are kept, so that a run can be resumed.", show_default=False),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing, take nothing that was kept.")] = False,
) -> None:
    """Measure agreement with human scores on one of the field's data sets.

    Zero-shot: SRCC, PLCC, KRCC and RMSE with bootstrap intervals. With few labels: the median over random splits.
    Data sets are not downloaded. An interrupted run goes on where it stopped.

    Examples:

      grepq benchmark list

      grepq benchmark koniq-10k --root data/koniq10k --labels 50 100 200 -o koniq.json

      grepq benchmark csv --root photos --against brisque niqe --plot scatter.png --worst worst.png
    """
    if name == "list":
        _print_catalogue(format)
        return
    if root is None:
        raise UsageError("--root is missing: the folder to which the data set was unpacked")
    from grepq_iqa.benchmark import run
    from grepq_iqa.benchmark.baselines import load_rival
    from grepq_iqa.benchmark.datasets.registry import find
    from grepq_iqa.feature_cache import default_directory

    entry = find(name)
    options: dict[str, Any] = {"labels": csv, "lower_is_better": lower_is_better} if entry.name == "csv" else {}
    if entry.name != "csv" and (csv is not None or lower_is_better):
        raise UsageError("--csv and --lower-is-better belong to NAME csv")
    counts = _counts(labels)
    methods = list(dict.fromkeys(_split(against)))
    for method in methods:
        load_rival(method)
    images = entry.reader(root, **options)
    if limit is not None and limit < len(images):
        import numpy as np

        images = images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:limit]))

    from grepq_iqa import GRepQ

    scorer = GRepQ.from_pretrained(model, device=device, max_side=max_side)
    with _Bars() as progress:
        result = run(
            images,
            scorer,
            label_counts=counts,
            splits=splits,
            protocol=protocol.value,
            rivals=methods,
            cache_dir=None if no_cache else cache_dir or default_directory(),
            resamples=bootstrap,
            seed=seed,
            progress=progress,
        )
    _report(result, output=output, plot=plot, worst=worst, format=format)
    if result.failed:
        raise typer.Exit(1)


def _report(
    result: BenchmarkResult, *, output: Path | None, plot: Path | None, worst: Path | None, format: Format
) -> None:
    import json

    from rich.console import Console

    from grepq_iqa.benchmark import report
    from grepq_iqa.benchmark.run import iter_failures

    for line in (*iter_failures(result), *result.notes):
        typer.echo(line, err=True)
    if output:
        report.write_json(result, output)
    if plot:
        report.write_scatter(result, plot)
    if worst:
        report.write_contact_sheet(result, worst)
    if format is Format.json:
        typer.echo(json.dumps(result.to_json(), allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in report.tables(result):
        console.print(table)


def _print_catalogue(format: Format) -> None:
    import dataclasses
    import json

    from grepq_iqa.benchmark.datasets.registry import CATALOGUE

    if format is Format.json:
        entries = [dataclasses.asdict(entry) for entry in CATALOGUE.values()]
        typer.echo(json.dumps([{k: v for k, v in entry.items() if k != "reader"} for entry in entries], indent=1))
        return
    for entry in CATALOGUE.values():
        count = f", {entry.images:,} images" if entry.images else ""
        typer.echo(f"{entry.name}: {entry.title} ({entry.kind}{count}{', official split' if entry.split else ''})")
        for label in ("url", "size", "licence", "citation", "layout"):
            if text := getattr(entry, label):
                typer.echo(f"    {label + ':':10}{text}")


class _Bars:
    """A bar on stderr, and only where that is a terminal."""

    def __enter__(self) -> Any:
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True))
        self._bars.start()
        tasks: dict[str, Any] = {}

        def advance(method: str, done: int, total: int) -> None:
            if method not in tasks:
                tasks[method] = self._bars.add_task(method, total=total)
            self._bars.update(tasks[method], completed=done)

        return advance

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_bars"):
            self._bars.stop()


def _counts(labels: list[str] | None) -> tuple[int, ...]:
    if labels is None:
        return (50, 100, 200)
    try:
        counts = sorted({int(text) for text in _split(labels)})
    except ValueError:
        raise UsageError(f"--labels takes whole numbers, got {' '.join(labels)}") from None
    if any(count < 0 or 0 < count < 3 for count in counts):
        raise UsageError("--labels takes numbers of 3 and more, or 0 for none")
    return tuple(count for count in counts if count)


def _split(values: list[str] | None) -> list[str]:
    return [part for value in values or [] for part in value.replace(",", " ").split()]
