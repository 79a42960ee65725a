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
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Steps = Annotated[int | None, typer.Option(help="Other than the recipe's.")]
Workers = Annotated[int, typer.Option(help="Processes that prepare pictures.")]
Threads = Annotated[int, typer.Option(help="Threads of torch; 0 leaves its own choice.")]
SaveEvery = Annotated[int, typer.Option(help="Steps between checkpoints.")]
Precision = Annotated[str, typer.Option(help="no, bf16 or fp16.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of this run.")]


@app.command()
def prepare(
    sources: Annotated[list[str], typer.Argument(help="Folders or patterns of photographs.")],
    out: Out,
    recipe: Annotated[
        str | None, typer.Option(help="Also compute the FSIM matrices that this recipe's low-level training needs.")
    ] = None,
    pristine: Annotated[bool, typer.Option("--pristine", help="Also list the sharp and colourful tiles.")] = False,
) -> None:
    """Check photographs and write the list that the other commands read; run it again to go on."""
    from grepq_iqa.training.data.prepare import prepare as run

    prepared = run(sources, out, on_done=_count("checked"))
    for path, reason in prepared.rejected.items():
        typer.echo(f"skipped {path}: {reason}", err=True)
    typer.echo(f"{len(prepared.photographs)} photographs, {len(prepared.rejected)} skipped -> {out}")
    if pristine:
        from grepq_iqa.training.data.pristine_tiles import write_tiles

        count = write_tiles(prepared.paths, out, on_done=_count("searched for tiles"))
        typer.echo(f"{count} pristine tiles -> {out / 'tiles.json'}")
    if recipe:
        from grepq_iqa.training.data.contrastive_views import QualityGroups
        from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe
        from grepq_iqa.training.similarity.fsim_cache import SimilarityCache

        settings = load_recipe(recipe, "low_level", LowLevelRecipe)
        if not settings.fixed_versions:
            raise UsageError(f"recipe {recipe} damages a photograph anew each time: there is no FSIM to keep")
        cache = SimilarityCache(out, settings)
        QualityGroups(prepared.paths, settings, 0, cache).fill_cache(_count("FSIM of"))
        typer.echo(f"FSIM matrices -> {cache.folder}")


@app.command()
def low_level(
    photographs: Prepared,
    out: Out,
    recipe: Recipe = "compact",
    resume: Resume = False,
    steps: Steps = None,
    workers: Workers = 1,
    threads: Threads = 0,
    save_every: SaveEvery = 50,
    mixed_precision: Precision = "no",
) -> None:
    """Train the low-level encoder by the quality-aware contrastive loss."""
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.low_level import train_low_level
    from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe
    from grepq_iqa.training.similarity.fsim_cache import SimilarityCache

    _set_threads(threads)
    settings = load_recipe(recipe, "low_level", LowLevelRecipe, steps=steps)
    train_low_level(
        read_index(photographs).paths,
        settings,
        out,
        resume=resume,
        workers=workers,
        save_every=save_every,
        mixed_precision=mixed_precision,
        cache=SimilarityCache(photographs, settings),
    )
    _draw_curve(out)


@app.command()
def high_level(
    photographs: Prepared,
    out: Out,
    pristine: Annotated[Path | None, typer.Option(help="Clean photographs (compact): a `prepare` folder.")] = None,
    clip: Annotated[
        Path | None,
        typer.Option(help="open_clip_model.safetensors of timm/resnet50_clip.openai (paper); default: from the Hub."),
    ] = None,
    recipe: Recipe = "compact",
    resume: Resume = False,
    steps: Steps = None,
    workers: Workers = 1,
    threads: Threads = 0,
    save_every: SaveEvery = 50,
    mixed_precision: Precision = "no",
) -> None:
    """Train the high-level encoder: CLIP's tower by the group contrastive loss, or the compact model's own parts.

    The compact model keeps what it has finished, so a second run goes on by itself; with --resume also within the
    training of what reads damage.
    """
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.recipe import has_section, has_setting, load_recipe

    _set_threads(threads)
    ordinary = read_index(photographs).paths
    if has_setting(recipe, "high_level", "ladders"):
        from grepq_iqa.training.high_level.compact import train_high_level
        from grepq_iqa.training.high_level.distortion_head import DamageRecipe
        from grepq_iqa.training.high_level.projection import ProjectionRecipe

        if pristine is None:
            raise UsageError(f"recipe {recipe} needs --pristine, a folder of clean photographs that `prepare` wrote")
        train_high_level(
            read_index(pristine).paths,
            ordinary,
            load_recipe(recipe, "high_level", ProjectionRecipe, steps=steps),
            out,
            damage=load_recipe(recipe, "damage", DamageRecipe) if has_section(recipe, "damage") else None,
            resume=resume,
            workers=workers,
            save_every=save_every,
            mixed_precision=mixed_precision,
            on_progress=lambda stage, count: typer.echo(f"{stage} {count}", err=True),
        )
        if (out / "damage" / "metrics.jsonl").exists():
            _draw_curve(out / "damage")
    else:
        from grepq_iqa.training.high_level.clip_tower import GroupRecipe, train_clip_tower
        from grepq_iqa.weights import fetch_checkpoint

        train_clip_tower(
            ordinary,
            load_recipe(recipe, "high_level", GroupRecipe, steps=steps),
            clip or fetch_checkpoint("clip-rn50"),
            out,
            resume=resume,
            workers=workers,
            save_every=save_every,
            mixed_precision=mixed_precision,
        )
    _draw_curve(out)


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
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.export import export_model, hash_list
    from grepq_iqa.training.high_level.compact import read_high_level
    from grepq_iqa.training.low_level import read_low_level
    from grepq_iqa.training.recipe import FeatureRecipe, ScoringRecipe, describe, load_recipe

    scoring = load_recipe(recipe, "scoring", ScoringRecipe)
    weights = load_recipe(recipe, "features", FeatureRecipe)
    low, high = read_low_level(low_level), read_high_level(high_level)
    clean, ordinary = read_index(pristine).paths, read_index(photographs).paths
    is_clip = high.config["architecture"] == "open_clip"
    base = "timm/resnet50_clip.openai" if is_clip else f"timm/{high.config['model']}.in1k"
    provenance = {
        "license": "MIT",
        "base_model": base,
        "data": [
            {"name": "ordinary photographs", "count": len(ordinary)},
            {"name": "pristine photographs", "count": len(clean)},
        ],
        "recipe": recipe,
        "low_level": low.recipe | {"steps_trained": low.steps},
        "high_level": high.recipe,
        "scoring": describe(scoring),
        "features": describe(weights),
        "pristine": {"photographs": len(clean), "sha256": hash_list(clean)},
        "photographs": {"photographs": len(ordinary), "sha256": hash_list(ordinary)},
        "mos_used_in_training": False,
    }
    export_model(
        out,
        low.encoder,
        high.encoder,
        high.config,
        high.prompts,
        clean,
        ordinary[:most],
        name=name,
        provenance=provenance,
        dense=not is_clip,
        max_side=max_side or None,
        scoring=scoring,
        weights=weights,
        on_done=_count("analysed"),
    )


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    csv: Annotated[Path, typer.Option(help="Table of images and MOS.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    labels: Annotated[list[int], typer.Option(help="Numbers of labels to fit on.")] = [50, 100, 200],  # noqa: B006
    record: Annotated[str | None, typer.Option(help="Write the figures into config.json under this name.")] = None,
) -> None:
    """Agreement with human scores: SRCC zero-shot and after a few labels."""
    from grepq_iqa.training.evaluate import evaluate as run
    from grepq_iqa.training.export import record_measurements

    found, _ = run(model, csv, images=images, labels=tuple(labels), on_done=_count("analysed"))
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
    from grepq_iqa.weights.publish import push_to_hub

    typer.echo(push_to_hub(model, repo_id, private=private))


def _count(verb: str, every: int = 100):
    return lambda count: typer.echo(f"{verb} {count}", err=True) if count % every == 0 else None


def _set_threads(threads: int) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _draw_curve(out: Path) -> None:
    from grepq_iqa.training.training_curve import plot_learning_curve

    typer.echo(f"{out} is trained; its learning curve is {plot_learning_curve(out)}")


def main() -> None:
    """Run; a :class:`GrepqError` becomes one clear line and exit status 2."""
    try:
        app()
    except GrepqError as error:
        typer.echo(f"training: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
