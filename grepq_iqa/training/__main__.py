"""``python -m grepq_iqa.training``: prepare, low-level, high-level, export, ratings, reasons, evaluate, publish."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.cli.options import set_threads
from grepq_iqa.cli.progress import Bars
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
    pristine: Annotated[bool, typer.Option("--pristine", help="Also list the sharp and colorful tiles.")] = False,
    name: Annotated[
        str | None, typer.Option(help='What models say that they were trained on; "photographs" if never given.')
    ] = None,
    license: Annotated[str | None, typer.Option(help="The license of the photographs, for the same.")] = None,
) -> None:
    """Check photographs and write the list that the other commands read; run it again to go on."""
    from grepq_iqa.training.data.prepare import prepare as run

    with _bars() as bars:
        prepared = run(sources, out, name=name, license=license, on_done=_count(bars, "checked"))
        for path, reason in prepared.rejected.items():
            typer.echo(f"skipped {path}: {reason}", err=True)
        typer.echo(f"{len(prepared.photographs)} photographs, {len(prepared.rejected)} skipped -> {out}")
        if pristine:
            from grepq_iqa.training.data.pristine_tiles import write_tiles

            count = write_tiles(prepared.paths, out, on_done=_count(bars, "searched for tiles"))
            typer.echo(f"{count} pristine tiles -> {out / 'tiles.json'}")
        if recipe:
            from grepq_iqa.training.data.contrastive_views import ContrastiveViews
            from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe
            from grepq_iqa.training.similarity.fsim_cache import FSIMCache

            settings = load_recipe(recipe, "low_level", LowLevelRecipe)
            cache = FSIMCache(out, settings)
            ContrastiveViews(prepared.photographs, settings, 0, cache).fill_cache(_count(bars, "FSIM of"))
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
    from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe, recipe_label
    from grepq_iqa.training.similarity.fsim_cache import FSIMCache

    set_threads(threads)
    settings = load_recipe(recipe, "low_level", LowLevelRecipe, steps=steps)
    train_low_level(
        read_index(photographs),
        settings,
        out,
        recipe_name=recipe_label(recipe),
        resume=resume,
        workers=workers,
        save_every=save_every,
        mixed_precision=mixed_precision,
        cache=FSIMCache(photographs, settings),
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
    training of the distortion head.
    """
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.recipe import has_section, has_setting, load_recipe, recipe_label

    set_threads(threads)
    unlabeled = read_index(photographs)
    if has_setting(recipe, "high_level", "severity_series"):
        from grepq_iqa.training.high_level.compact import train_high_level
        from grepq_iqa.training.high_level.distortion_head import DistortionHeadRecipe
        from grepq_iqa.training.high_level.projection import ProjectionRecipe

        if pristine is None:
            raise UsageError(f"recipe {recipe} needs --pristine, a folder of clean photographs that `prepare` wrote")
        has_head = has_section(recipe, "distortion_head")
        with _bars() as bars:
            train_high_level(
                read_index(pristine),
                unlabeled,
                load_recipe(recipe, "high_level", ProjectionRecipe, steps=steps),
                out,
                head=load_recipe(recipe, "distortion_head", DistortionHeadRecipe) if has_head else None,
                recipe_name=recipe_label(recipe),
                resume=resume,
                workers=workers,
                save_every=save_every,
                mixed_precision=mixed_precision,
                on_progress=bars.show,
            )
        for folder in sorted(path.parent for path in out.glob("distortion_head-*/metrics.jsonl")):
            _draw_curve(folder)
    else:
        from grepq_iqa.training.high_level.clip_tower import CLIP_REPO, ClipRecipe, train_clip_tower
        from grepq_iqa.weights import fetch_checkpoint

        train_clip_tower(
            unlabeled,
            load_recipe(recipe, "high_level", ClipRecipe, steps=steps),
            clip or fetch_checkpoint("clip-rn50"),
            out,
            recipe_name=recipe_label(recipe),
            source=None if clip else CLIP_REPO,
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
    most: Annotated[int, typer.Option(help="Unlabeled images for the tables of quantiles and scales.")] = 2500,
    max_side: Annotated[int, typer.Option(help="Longest side that the model looks at; 0 for any.")] = 1024,
) -> None:
    """Assemble both encoders into a model directory with its tables and provenance."""
    from grepq_iqa.calibration.storage import require_model_folder
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.export import export_model
    from grepq_iqa.training.high_level.run_files import read_high_level
    from grepq_iqa.training.low_level import read_low_level
    from grepq_iqa.training.recipe import (
        FeatureRecipe,
        ProvenanceRecipe,
        ScoringRecipe,
        has_section,
        load_recipe,
        recipe_label,
    )
    from grepq_iqa.weights.model_card import write_card

    require_model_folder(out)
    with _bars() as bars:
        export_model(
            out,
            read_low_level(low_level),
            read_high_level(high_level),
            read_index(pristine),
            read_index(photographs),
            name=name,
            recipe_name=recipe_label(recipe),
            scoring=load_recipe(recipe, "scoring", ScoringRecipe),
            weights=load_recipe(recipe, "features", FeatureRecipe),
            provenance=load_recipe(recipe, "provenance", ProvenanceRecipe)
            if has_section(recipe, "provenance")
            else ProvenanceRecipe("not recorded"),  # a recipe in the words of version 0.1
            most=most,
            max_side=max_side or None,
            on_done=_count(bars, "scored"),
        )
    write_card(out)


@app.command()
def ratings(
    model: Annotated[Path, typer.Option(help="Model directory to write ratings.safetensors into.")],
    csv: Annotated[Path, typer.Option(help="Table of rated photographs and their MOS.")],
    name: Annotated[str, typer.Option(help="What the rated data set is called.")],
    license: Annotated[str, typer.Option(help="Its license.")] = "none stated",
    description: Annotated[
        str, typer.Option(help="How the ratings were made, such as 'laboratory ratings by 30 viewers'.")
    ] = "not recorded",
    bounds: Annotated[tuple[float, float], typer.Option(help="Scores of the table that mean worst and best.")] = (0, 1),
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    recipe: Recipe = "compact",
    dtype: Annotated[str, typer.Option(help="Of the encoders: auto, float32, bfloat16 or float16.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Keep features here, and take them from there.")] = None,
    threads: Threads = 0,
) -> None:
    """Learn what people say of photographs, for predictions before any fit and for a head start; Q stays as it is."""
    from grepq_iqa.feature_cache import FeatureCache, model_key
    from grepq_iqa.training.ratings import load_encoders, train_ratings
    from grepq_iqa.training.recipe import RatingsRecipe, load_recipe, recipe_label

    set_threads(threads)
    settings = load_recipe(recipe, "ratings", RatingsRecipe)
    grepq = load_encoders(model, dtype)
    predictor = train_ratings(
        grepq,
        model,
        csv,
        settings,
        recipe_name=recipe_label(recipe),
        images=images,
        name=name,
        license=license,
        description=description,
        bounds=bounds,
        cache=None if cache is None else FeatureCache(cache, model_key(grepq)),
    )
    low, high = predictor.interval(predictor.expected[:1], 0.9)
    typer.echo(
        f"{model}: ratings of {int(predictor.counts.sum())} photographs; a middling one's 90 % interval goes "
        f"from {low[0]:.0f} to {high[0]:.0f}"
    )


@app.command()
def reasons(
    photographs: Annotated[list[str], typer.Argument(help="Folders or patterns of clean photographs.")],
    in_the_wild: Annotated[Path, typer.Option(help="Folder of unlabeled photographs, for percentiles.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write both networks to.")],
    held_out: Annotated[
        Path | None, typer.Option(help="SHA-256 of photographs that must not be used, one a line.")
    ] = None,
    items: Annotated[int, typer.Option(help="Distorted pictures that the reasons are learned from.")] = 10_000,
    first_item: Annotated[int, typer.Option(help="Index of the first of them; what is drawn depends on it.")] = 0,
    map_items: Annotated[int, typer.Option(help="Likewise, of the map.")] = 1200,
    most: Annotated[int, typer.Option(help="In-the-wild photographs, evenly taken from all.")] = 800,
    cache: Annotated[Path | None, typer.Option(help="Keep measures here, and go on from there.")] = None,
    threads: Threads = 1,
) -> None:
    """Learn what explains poor quality from distorted copies of clean photographs; no human score goes into it."""
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import sha256_of
    from grepq_iqa.training.reasons_run import train_reasons

    set_threads(threads)
    refused = set(held_out.read_text(encoding="utf-8").split()) if held_out else set()
    clean = sorted(path for path in iter_image_paths(photographs) if sha256_of(path) not in refused)
    wild = sorted(iter_image_paths([str(in_the_wild)]))
    wild = wild[:: max(1, len(wild) // most)][:most]
    with _bars() as bars:
        found = train_reasons(
            clean,
            wild,
            out,
            items=items,
            first_item=first_item,
            map_items=map_items,
            cache=cache,
            on_done=lambda name, done: bars.show(name, done),
        )
    typer.echo(f"{out}: reasons from {items} distorted pictures of {len(clean)} photographs; {found}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    csv: Annotated[Path, typer.Option(help="Table of images and MOS.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    labels: Annotated[list[int], typer.Option(help="Numbers of labels to fit on.")] = [50, 100, 200],  # noqa: B006
    record: Annotated[str | None, typer.Option(help="Write the figures into config.json under this name.")] = None,
) -> None:
    """Measure as `grepq benchmark csv` does, in float32; --record writes the figures into the model's provenance."""
    from grepq_iqa.benchmark import read, run
    from grepq_iqa.benchmark.record import record_scores
    from grepq_iqa.model import GRepQ
    from grepq_iqa.weights.model_card import write_card

    folder = images or csv.parent
    labeled = read("csv", folder, labels=str(csv.absolute()))
    with _bars() as bars:
        result = run(
            labeled,
            GRepQ.from_pretrained(str(model.absolute()), dtype="float32"),
            label_counts=labels,
            progress=bars.show,
        )
    found = result.to_json()
    typer.echo(json.dumps({key: found[key] for key in ("images", "zero_shot", "few_labels")}, indent=2))
    if record:
        record_scores(model, record, result)
        write_card(model)


@app.command()
def publish(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    repo_id: Annotated[str, typer.Option(help="owner/name on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
) -> None:
    """Upload a model directory to the Hugging Face Hub."""
    from grepq_iqa.weights.publish import push_to_hub

    typer.echo(push_to_hub(model, repo_id, private=private))


def _bars() -> Bars:
    return Bars(log_every=100)


def _count(bars: Bars, name: str) -> Callable[[int], None]:
    return lambda done: bars.show(name, done)


def _draw_curve(out: Path) -> None:
    from grepq_iqa.training.training_curve import plot_training_curve

    typer.echo(f"{out} is trained; its training curve is {plot_training_curve(out)}")


def main() -> None:
    """Run; a :class:`GrepqError` becomes one clear line and exit status 2."""
    try:
        app()
    except GrepqError as error:
        typer.echo(f"training: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
