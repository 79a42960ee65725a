"""``python -m grepq_iqa.training``: prepare, low-level, high-level, export, evaluate, publish."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.errors import GrepqError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Prepared = Annotated[Path, typer.Option(help="A folder that `prepare` wrote.")]
Recipe = Annotated[str, typer.Option(help="paper, compact, or a TOML file.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of this run.")]


@app.command()
def prepare(
    sources: Annotated[list[str], typer.Argument(help="Folders or patterns of photographs.")], out: Out
) -> None:
    """Check photographs and write the list that the other commands read."""
    from grepq_iqa.training.prepare import prepare as run

    prepared = run(sources, out, on_done=_count("checked"))
    for path, reason in prepared.rejected.items():
        typer.echo(f"skipped {path}: {reason}", err=True)
    typer.echo(f"{len(prepared.photographs)} photographs, {len(prepared.rejected)} skipped -> {out}")


@app.command()
def low_level(
    photographs: Prepared,
    out: Out,
    recipe: Recipe = "compact",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    steps: Annotated[int | None, typer.Option(help="Other than the recipe's.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare groups.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 leaves its own choice.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 50,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
) -> None:
    """Train the low-level encoder by the quality-aware contrastive loss."""
    import torch

    from grepq_iqa.training.low_level import train_low_level
    from grepq_iqa.training.prepare import read_index
    from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe

    if threads:
        torch.set_num_threads(threads)
    settings = load_recipe(recipe, "low_level", LowLevelRecipe, steps=steps)
    train_low_level(
        read_index(photographs).paths,
        settings,
        out,
        resume=resume,
        workers=workers,
        save_every=save_every,
        mixed_precision=mixed_precision,
    )


@app.command()
def high_level(
    pristine: Prepared,
    photographs: Prepared,
    out: Out,
    recipe: Recipe = "compact",
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 leaves its own choice.")] = 0,
) -> None:
    """Train the compact high-level encoder; finished shards of statistics are used again."""
    import torch

    from grepq_iqa.training.high_level import train_high_level
    from grepq_iqa.training.prepare import read_index
    from grepq_iqa.training.projection import ProjectionRecipe
    from grepq_iqa.training.recipe import load_recipe

    if threads:
        torch.set_num_threads(threads)
    if recipe == "paper":
        raise UsageError("the paper's high-level training (GCL on CLIP RN50) is not built yet; use --recipe compact")
    settings = load_recipe(recipe, "high_level", ProjectionRecipe)
    train_high_level(
        read_index(pristine).paths,
        read_index(photographs).paths,
        settings,
        out,
        on_progress=lambda stage, count: typer.echo(f"{stage} {count}", err=True),
    )


@app.command()
def export(
    low_level: Annotated[Path, typer.Option(help="Run of `low-level`.")],
    high_level: Annotated[Path, typer.Option(help="Run of `high-level`.")],
    pristine: Prepared,
    photographs: Prepared,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")],
    recipe: Recipe = "compact",
    name: Annotated[str, typer.Option(help="Name of the model.")] = "compact",
    most: Annotated[int, typer.Option(help="Ordinary photographs for the tables of quantiles and scales.")] = 2500,
    max_side: Annotated[int, typer.Option(help="Longest side that the model looks at; 0 for any.")] = 1024,
) -> None:
    """Assemble both encoders into a model directory with its tables."""
    from grepq_iqa.training.export import export_model, hash_list, read_checkpoint
    from grepq_iqa.training.high_level import encoder_config, read_high_level
    from grepq_iqa.training.prepare import read_index
    from grepq_iqa.training.projection import ProjectionRecipe
    from grepq_iqa.training.recipe import LowLevelRecipe, describe, load_recipe

    settings = load_recipe(recipe, "high_level", ProjectionRecipe)
    encoder, prompts = read_high_level(settings, high_level)
    clean, ordinary = read_index(pristine).paths, read_index(photographs).paths
    step = json.loads((low_level / "checkpoint" / "step.json").read_text())["step"]
    provenance = {
        "license": "MIT",
        "base_model": f"timm/{settings.model}.in1k",
        "data": [
            {"name": "ordinary photographs", "count": len(ordinary)},
            {"name": "pristine photographs", "count": len(clean)},
        ],
        "recipe": recipe,
        "low_level": describe(load_recipe(recipe, "low_level", LowLevelRecipe)) | {"steps_trained": step},
        "high_level": describe(settings),
        "pristine": {"photographs": len(clean), "sha256": hash_list(clean)},
        "photographs": {"photographs": len(ordinary), "sha256": hash_list(ordinary)},
        "mos_used_in_training": False,
    }
    export_model(
        out,
        read_checkpoint(low_level),
        encoder,
        encoder_config(settings),
        prompts,
        clean,
        ordinary[:most],
        name=name,
        provenance=provenance,
        dense=recipe != "paper",
        max_side=max_side or None,
        on_done=_count("analysed"),
    )


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    csv: Annotated[Path, typer.Option(help="Table of images and MOS.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    record: Annotated[str | None, typer.Option(help="Write the figures into config.json under this name.")] = None,
) -> None:
    """Agreement with human scores: SRCC zero-shot and after a few labels."""
    from grepq_iqa.training.evaluate import evaluate as run
    from grepq_iqa.training.export import record_measurements

    found, _ = run(model, csv, images=images, on_done=_count("analysed"))
    typer.echo(json.dumps(found, indent=2))
    if record:
        record_measurements(model, record, found)


@app.command()
def publish(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    repo_id: Annotated[str, typer.Option(help="owner/name on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
) -> None:
    """Upload a model directory to the Hugging Face Hub."""
    from grepq_iqa.publish import push_to_hub

    typer.echo(push_to_hub(model, repo_id, private=private))


def _count(verb: str, every: int = 100):
    return lambda count: typer.echo(f"{verb} {count}", err=True) if count % every == 0 else None


def main() -> None:
    """Run; a :class:`GrepqError` becomes one clear line and exit status 2."""
    try:
        app()
    except GrepqError as error:
        typer.echo(f"training: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
