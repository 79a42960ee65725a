"""``grepq benchmark``: the field's data sets and protocol in one command."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.caching import NoCache
from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.options import (
    Command,
    Device,
    Dtype,
    EngineName,
    LowerIsBetter,
    MaxSide,
    ModelName,
    Overwrite,
    Report,
    ReportFormat,
    Threads,
    set_threads,
)
from grepq_iqa.cli.progress import Bars
from grepq_iqa.errors import UsageError
from grepq_iqa.files import same_file_key

if TYPE_CHECKING:
    from grepq_iqa.benchmark import BenchmarkResult

_SEVERAL = {"--labels", "--against"}


class SeveralValues(Command):
    """Lets ``--labels 50 100 200`` stand for ``--labels 50 --labels 100 --labels 200``; likewise ``--against``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments, once the options are repeated."""
        return super().parse_args(ctx, expand_several(args))


def expand_several(args: list[str]) -> list[str]:
    """Repeat the option before each further value that can only be its own: a number, or a baseline's name."""
    from grepq_iqa.benchmark.baselines import BASELINES

    expanded: list[str] = []
    option, taken = "", 0
    for argument in args:
        if argument.startswith("-"):
            option, taken = argument, 0
        elif option in _SEVERAL:
            own = argument.isdecimal() if option == "--labels" else argument in BASELINES
            if taken and own:
                expanded.append(option)
            elif taken:
                option = ""
            taken += 1
        else:
            option = ""
        expanded.append(argument)
    return expanded


class Splits(str, Enum):
    """How test parts are made."""

    random = "random"
    official = "official"


app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    format: Report = ReportFormat.table,
    csv: Annotated[str | None, typer.Option(help="With NAME csv: the table, relative to --root.")] = None,
    lower_is_better: LowerIsBetter = None,
    limit: Annotated[
        int | None, typer.Option(min=5, help="Only this many images, drawn at random: a quick try.")
    ] = None,
    max_side: MaxSide = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    overwrite: Overwrite = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples behind the 95 % intervals; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(help="First seed of splits, draws and bootstrap.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            "--cache-dir",
            help="Keeps results of single images, so that a run can be resumed. [default: in your cache folder]",
        ),
    ] = None,
    no_cache: NoCache = False,
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
        _print_registry(format)
        return
    from grepq_iqa.benchmark.datasets.registry import find_dataset

    entry = find_dataset(name)
    if root is None:
        raise UsageError("--root is missing: the folder to which the data set was unpacked")

    from grepq_iqa.benchmark import run
    from grepq_iqa.benchmark.baselines import load_baseline
    from grepq_iqa.feature_cache import default_directory

    options: dict[str, Any] = {"labels": csv, "lower_is_better": lower_is_better} if entry.name == "csv" else {}
    if entry.name != "csv" and (csv is not None or lower_is_better is not None):
        raise UsageError("--csv and --lower-is-better belong to NAME csv")
    written = {"--output": output, "--plot": plot, "--worst": worst}
    for option, path in written.items():
        if path is None:
            continue
        suffix = ".json" if option == "--output" else ".png"
        if path.suffix.lower() != suffix:
            raise UsageError(f"{path}: a file that ends in {suffix} is written there")
        require_writable(path, overwrite=overwrite)
    if plot is not None and worst is not None and same_file_key(plot) == same_file_key(worst):
        raise UsageError(f"--plot and --worst would both be written to {plot}")
    if plot is not None:
        from grepq_iqa.calibration.plot import require_plot

        require_plot(plot)
    set_threads(threads)
    counts = _counts(labels)
    methods = list(dict.fromkeys(_split(against)))
    for method in methods:
        load_baseline(method)
    images = entry.reader(root, **options)
    table: list[str | Path] = [] if csv is None else [root / csv, csv]
    for path in written.values():
        if path is not None:
            require_writable(path, overwrite=overwrite, inputs=[*table, *images.paths])
    if limit is not None and limit < len(images):
        import numpy as np

        images = images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:limit]))

    from grepq_iqa import GRepQ

    scorer = GRepQ.from_pretrained(model, engine=engine, device=device, dtype=dtype, max_side=max_side)
    with Bars() as bars:
        result = run(
            images,
            scorer,
            label_counts=counts,
            splits=splits,
            protocol=protocol.value,
            baselines=methods,
            cache_dir=None if no_cache else cache or default_directory(),
            resamples=bootstrap,
            seed=seed,
            progress=bars.show,
        )
    _report(result, output=output, plot=plot, worst=worst, format=format)
    if result.failed:
        raise typer.Exit(1)


def _report(
    result: BenchmarkResult, *, output: Path | None, plot: Path | None, worst: Path | None, format: ReportFormat
) -> None:
    import json

    from rich.console import Console

    from grepq_iqa.benchmark import report
    from grepq_iqa.benchmark.result import iter_failures

    for line in (*iter_failures(result), *result.notes):
        typer.echo(line, err=True)
    try:
        if output:
            report.write_json(result, output)
        if plot:
            report.write_scatter(result, plot)
        if worst:
            report.write_contact_sheet(result, worst)
    except OSError as error:  # the disk filled up meanwhile; what was measured is shown all the same
        typer.echo(f"grepq: cannot write {error.filename or 'a file'}: {error.strerror or error}", err=True)
    if format is ReportFormat.json:
        typer.echo(json.dumps(result.to_json(), allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in report.tables(result):
        console.print(table)


def _print_registry(format: ReportFormat) -> None:
    import dataclasses
    import json

    from grepq_iqa.benchmark.datasets.registry import REGISTRY

    if format is ReportFormat.json:
        entries = [dataclasses.asdict(entry) for entry in REGISTRY.values()]
        typer.echo(json.dumps([{k: v for k, v in entry.items() if k != "reader"} for entry in entries], indent=1))
        return
    for entry in REGISTRY.values():
        count = f", {entry.images:,} images" if entry.images else ""
        typer.echo(f"{entry.name}: {entry.title} ({entry.kind}{count}{', official split' if entry.split else ''})")
        for label in ("url", "size", "license", "citation", "layout"):
            if text := getattr(entry, label):
                typer.echo(f"    {label + ':':10}{text}")


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
