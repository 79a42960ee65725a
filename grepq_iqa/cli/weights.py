"""``grepq weights``: which models there are, and getting, checking, finding and importing them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.options import OutputFormat
from grepq_iqa.cli.output import Format, RowWriter, choose_format, stdout_for_names
from grepq_iqa.cli.progress import Bars

if TYPE_CHECKING:
    from grepq_iqa.weights import ModelFiles

app = typer.Typer(
    name="weights",
    help="List, download, verify and import models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[
    str | None,
    typer.Argument(
        help="A name of `grepq weights list`, owner/repo[@revision], or a folder; the default model if absent."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Folder for downloads, instead of the Hub's cache (HF_HOME)."),
]
Token = Annotated[
    str | None,
    typer.Option(help="Token for private repositories; HF_TOKEN is better, as others can see a command line."),
]


@app.command("list")
def list_models(
    format: OutputFormat = None,
    cache_dir: CacheDir = None,
) -> None:
    """Show every known model: where it comes from, its size and license, and whether it is here.

    Examples:

      grepq weights list

      grepq weights list --format jsonl
    """
    import sys

    from grepq_iqa.weights import is_available, load_manifest

    manifest = load_manifest()
    rows = [
        {
            "name": model.name + (" (default)" if model.name == manifest.default else ""),
            "source": model.source,
            "here": is_available(model.name, cache_dir=cache_dir),
            "size": model.size,
            "license": model.license,
            "summary": model.summary,
        }
        for model in manifest.models.values()
    ]
    chosen = choose_format(format, None)
    if chosen is Format.table:
        sys.stdout.write(_table(rows))
        return
    writer = RowWriter(chosen, stdout_for_names(), ["name", "source", "here", "size", "license", "summary"])
    for row, model in zip(rows, manifest.models.values(), strict=True):
        writer.write(row | {"name": model.name})
    writer.finish()


@app.command()
def download(
    name: Name = None,
    revision: Revision = None,
    cache_dir: CacheDir = None,
    token: Token = None,
) -> None:
    """Fetch a model into the cache, so that it works without a network later; a branch is followed to where it is now.

    Examples:

      grepq weights download clip-rn50

      grepq weights download owner/repo --revision v2
    """
    from grepq_iqa.weights import resolve

    _print_files(resolve(name, revision=revision, cache_dir=cache_dir, token=token, refresh=True))


@app.command()
def path(name: Name = None, revision: Revision = None, cache_dir: CacheDir = None) -> None:
    """Print where a model's files are, "name<TAB>path" a line; makes no request.

    Examples:

      grepq weights path

      grepq weights path clip-rn50 | cut -f 2
    """
    from grepq_iqa.weights import resolve

    _print_files(resolve(name, revision=revision, cache_dir=cache_dir, local_files_only=True))


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models; all that are on this machine if absent."),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Hash the files of models again and compare; exit status 1 when one is damaged or missing.

    Examples:

      grepq weights verify

      grepq weights verify clip-rn50 owner/repo
    """
    from grepq_iqa.weights import is_available, load_manifest
    from grepq_iqa.weights import verify as verify_files

    chosen = names or [name for name in load_manifest().models if is_available(name, cache_dir=cache_dir)]
    failed = False
    for name in chosen:
        for check in verify_files(name, cache_dir=cache_dir):
            if check.path is None:
                state = "missing"
            elif not check.ok:
                state = f"damaged: sha256 is {check.sha256}, not {check.expected}"
            else:
                state = "ok" if check.expected else f"no hash to compare with; sha256 is {check.sha256}"
            failed = failed or not check.ok
            typer.echo(f"{check.model}\t{check.file}\t{state}")
    if failed:
        raise typer.Exit(1)


@app.command("import-official")
def import_official(
    low_level: Annotated[Path, typer.Option(help="low_level_model_weights.tar of the authors.")],
    high_level: Annotated[Path, typer.Option(help="high_level_model_weights.pth of the authors.")],
    pristine: Annotated[Path, typer.Option(help="pristine_patches_096_0.75_0.80.hdf5 of the authors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    clip: Annotated[
        Path | None,
        typer.Option(help="An open_clip checkpoint of RN50, for the text tower; fetched from the Hub if absent."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that the folder holds.")] = False,
) -> None:
    """Turn the three files of the authors' release into a model folder.

    Examples:

      grepq weights import-official --low-level F.tar --high-level F.pth --pristine F.hdf5 -o rn50

      grepq score photo.jpg --model ./rn50
    """
    from grepq_iqa.weights.import_official import import_official as convert

    with Bars() as bars:
        folder = convert(
            low_level,
            high_level,
            pristine,
            output,
            clip=clip,
            overwrite=overwrite,
            progress=lambda done, total: bars.show("pristine patches", done, total),
        )
    typer.echo(folder)


def _print_files(model: ModelFiles) -> None:
    for file, location in model.files.items():
        typer.echo(f"{file}\t{location}")


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [["name", "source", "here", "size", "license", ""]]
    for row in rows:
        size = f"{row['size'] / 1e6:.0f} MB" if row["size"] is not None else "-"
        here = "yes" if row["here"] else "no"
        cells.append([row["name"], row["source"], here, size, row["license"], row["summary"]])
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = [
        "  ".join([cell.ljust(width) for cell, width in zip(line, widths, strict=False)] + [line[5]]) for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
