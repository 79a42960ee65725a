"""``python -m grepq_iqa.training``: the stages of a training one by one, and all of them by `reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from grepq_iqa.cli.options import set_threads
from grepq_iqa.errors import GrepqError
from grepq_iqa.training import stages
from grepq_iqa.training.stages import TrainingOptions

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Prepared = Annotated[Path, typer.Option(help="A folder that `prepare` wrote.")]
Recipe = Annotated[str, typer.Option(help="paper, compact, or a TOML file.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Steps = Annotated[int | None, typer.Option(help="Other than the recipe's.")]
Workers = Annotated[int, typer.Option(help="Processes that prepare pictures.")]
Threads = Annotated[int, typer.Option(help="Threads of torch; 0 leaves its own choice.")]
SaveEvery = Annotated[int, typer.Option(help="Steps between checkpoints.")]
Precision = Annotated[str, typer.Option(help="no, bf16 or fp16.")]
Checkpointing = Annotated[
    bool,
    typer.Option("--checkpoint-activations", help="CLIP's tower: a third more time, a fraction of the memory."),
]
Clip = Annotated[
    Path | None,
    typer.Option(help="open_clip_model.safetensors of timm/resnet50_clip.openai (paper); default: from the Hub."),
]
Name = Annotated[
    str | None, typer.Option(help='What models say that they were trained on; "photographs" if never given.')
]
License = Annotated[str | None, typer.Option(help="The license of the photographs, for the same.")]
Bounds = Annotated[tuple[float, float], typer.Option(help="Scores of the table that mean worst and best.")]
Most = Annotated[
    int | None,
    typer.Option(help="Unlabeled images for the tables of quantiles and scales, other than the recipe's."),
]
Labels = Annotated[list[int], typer.Option(help="Numbers of labels to fit on.")]
HeldOut = Annotated[Path | None, typer.Option(help="SHA-256 of photographs that must not be used, one a line.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of this run.")]


@app.command()
def prepare(
    sources: Annotated[list[str], typer.Argument(help="Folders or patterns of photographs.")],
    out: Out,
    recipe: Annotated[
        str | None, typer.Option(help="Also render the distorted copies that this recipe keeps, with their FSIM.")
    ] = None,
    pristine: Annotated[bool, typer.Option("--pristine", help="Also list the sharp and colorful tiles.")] = False,
    name: Name = None,
    license: License = None,
    held_out: HeldOut = None,
    workers: Annotated[int | None, typer.Option(help="Processes that render copies; default: one a core.")] = None,
) -> None:
    """Check photographs and write the list that the other commands read; run it again to go on."""
    stages.prepare_stage(
        sources, out, typer.echo, recipe=recipe, pristine=pristine, name=name, license=license, held_out=held_out,
        workers=workers, complain=_complain,
    )  # fmt: skip


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
    set_threads(threads)
    options = TrainingOptions(resume, workers, save_every, mixed_precision)
    stages.low_level_stage(photographs, out, recipe, typer.echo, options, steps=steps)


@app.command()
def high_level(
    photographs: Prepared,
    out: Out,
    pristine: Annotated[Path | None, typer.Option(help="Clean photographs (compact): a `prepare` folder.")] = None,
    clip: Clip = None,
    recipe: Recipe = "compact",
    resume: Resume = False,
    steps: Steps = None,
    workers: Workers = 1,
    threads: Threads = 0,
    save_every: SaveEvery = 50,
    mixed_precision: Precision = "no",
    checkpoint_activations: Checkpointing = False,
) -> None:
    """Train the high-level encoder: CLIP's tower by the group contrastive loss, or the compact model's own parts.

    The compact model keeps what it has finished, so a second run goes on by itself; with --resume also within the
    training of the distortion head.
    """
    set_threads(threads)
    options = TrainingOptions(resume, workers, save_every, mixed_precision, checkpoint_activations)
    stages.high_level_stage(photographs, out, recipe, typer.echo, options, pristine=pristine, clip=clip, steps=steps)


@app.command()
def fine_detail(
    photographs: Prepared,
    pristine: Prepared,
    out: Out,
    recipe: Recipe = "compact",
    workers: Workers = 1,
    threads: Threads = 1,
) -> None:
    """Train the full-resolution branch: light blur, noise and compression, which no tower sees."""
    set_threads(threads)
    stages.fine_detail_stage(photographs, pristine, out, recipe, typer.echo, workers=workers)


@app.command()
def predicted_fsim(
    high_level: Annotated[Path, typer.Option(help="Run of `high-level`.")],
    pristine: Prepared,
    photographs: Prepared,
    out: Out,
    fine_detail: Annotated[Path | None, typer.Option(help="Run of `fine-detail`; default: none.")] = None,
    recipe: Recipe = "compact",
    workers: Workers = 1,
    threads: Threads = 1,
) -> None:
    """Train what predicts FSIM without a reference, which weighs distortions of unlike families."""
    set_threads(threads)
    stages.predicted_fsim_stage(
        photographs, pristine, high_level, fine_detail, out, recipe, typer.echo, workers=workers
    )


@app.command()
def export(
    low_level: Annotated[Path, typer.Option(help="Run of `low-level`.")],
    high_level: Annotated[Path, typer.Option(help="Run of `high-level`.")],
    pristine: Prepared,
    photographs: Prepared,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")],
    recipe: Recipe = "compact",
    fine_detail: Annotated[Path | None, typer.Option(help="Run of `fine-detail`; default: none.")] = None,
    predicted_fsim: Annotated[Path | None, typer.Option(help="Run of `predicted-fsim`; default: none.")] = None,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "compact",
    most: Most = None,
    max_side: Annotated[
        int | None, typer.Option(help="Longest side that the model looks at, other than the recipe's; 0 for any.")
    ] = None,
) -> None:
    """Assemble both encoders into a model directory with its tables and provenance."""
    stages.export_stage(
        low_level, high_level, pristine, photographs, out, recipe, name=name, fine_detail=fine_detail,
        predicted_fsim=predicted_fsim, most=most, max_side=max_side,
    )  # fmt: skip


@app.command()
def ratings(
    model: Annotated[Path, typer.Option(help="Model directory to write ratings.safetensors into.")],
    csv: Annotated[Path, typer.Option(help="Table of rated photographs and their MOS.")],
    name: Annotated[str, typer.Option(help="What the rated data set is called.")],
    license: Annotated[str, typer.Option(help="Its license.")] = "none stated",
    description: Annotated[
        str, typer.Option(help="How the ratings were made, such as 'laboratory ratings by 30 viewers'.")
    ] = "not recorded",
    bounds: Bounds = (0, 1),
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    recipe: Recipe = "compact",
    dtype: Annotated[str, typer.Option(help="Of the encoders: auto, float32, bfloat16 or float16.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Keep features here, and take them from there.")] = None,
    threads: Threads = 0,
) -> None:
    """Learn what people say of photographs, for predictions before any fit and for a head start; Q stays as it is."""
    set_threads(threads)
    stages.ratings_stage(
        model, csv, recipe, typer.echo, name=name, license=license, description=description, bounds=bounds,
        images=images, dtype=dtype, cache=cache,
    )  # fmt: skip


@app.command()
def reasons(
    photographs: Annotated[list[str], typer.Argument(help="Folders or patterns of clean photographs.")],
    in_the_wild: Annotated[Path, typer.Option(help="Folder of unlabeled photographs, for percentiles.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write both networks to.")],
    held_out: HeldOut = None,
    items: Annotated[int, typer.Option(help="Distorted pictures that the reasons are learned from.")] = 10_000,
    first_item: Annotated[int, typer.Option(help="Index of the first of them; what is drawn depends on it.")] = 0,
    map_items: Annotated[int, typer.Option(help="Likewise, of the map.")] = 1200,
    most: Annotated[int, typer.Option(help="In-the-wild photographs, evenly taken from all.")] = 800,
    cache: Annotated[Path | None, typer.Option(help="Keep measures here, and go on from there.")] = None,
    threads: Threads = 1,
) -> None:
    """Learn what explains poor quality from distorted copies of clean photographs; no human score goes into it."""
    set_threads(threads)
    stages.reasons_stage(
        photographs, in_the_wild, out, typer.echo, held_out=held_out, items=items, first_item=first_item,
        map_items=map_items, most=most, cache=cache,
    )  # fmt: skip


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    csv: Annotated[Path, typer.Option(help="Table of images and MOS.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if not the table's.")] = None,
    labels: Labels = [50, 100, 200],  # noqa: B006
    record: Annotated[str | None, typer.Option(help="Write the figures into config.json under this name.")] = None,
) -> None:
    """Measure as `grepq benchmark csv` does, in float32; --record writes the figures into the model's provenance."""
    stages.evaluate_stage(model, csv, typer.echo, images=images, labels=labels, record=record)


@app.command()
def reproduce(
    photographs: Annotated[list[str], typer.Argument(help="Folders or patterns of in-the-wild photographs.")],
    pristine: Annotated[list[str], typer.Option(help="Folders or patterns of clean photographs; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything; the model is in OUT/model.")],
    recipe: Recipe = "compact",
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the recipe's.")] = None,
    data_name: Name = None,
    data_license: License = None,
    pristine_name: Annotated[str | None, typer.Option(help="Likewise of the clean photographs.")] = None,
    pristine_license: Annotated[str | None, typer.Option(help="Likewise of the clean photographs.")] = None,
    held_out: HeldOut = None,
    clip: Clip = None,
    rated: Annotated[Path | None, typer.Option(help="Table of rated photographs, for `ratings`.")] = None,
    rated_images: Annotated[Path | None, typer.Option(help="Folder of its photographs, if not the table's.")] = None,
    rated_name: Annotated[str, typer.Option(help="What that data set is called.")] = "not recorded",
    rated_license: Annotated[str, typer.Option(help="Its license.")] = "none stated",
    rated_description: Annotated[str, typer.Option(help="How it was rated.")] = "not recorded",
    rated_bounds: Bounds = (0, 1),
    csv: Annotated[Path | None, typer.Option(help="Labels to measure on at the end; they train nothing.")] = None,
    csv_images: Annotated[Path | None, typer.Option(help="Folder of their images, if not the table's.")] = None,
    labels: Labels = [50, 100, 200],  # noqa: B006
    most: Most = None,
    workers: Workers = 1,
    threads: Threads = 0,
    save_every: SaveEvery = 50,
    mixed_precision: Precision = "no",
    checkpoint_activations: Checkpointing = False,
) -> None:
    """Prepare, train both encoders, export, and measure where labels are given; what is finished is not done again.

    Kill it at any time and run the same command: it goes on where it was.
    """
    from grepq_iqa.training.reproduce import Ratings, Reproduction

    ratings = None
    if rated is not None:
        ratings = Ratings(rated, rated_name, rated_bounds, rated_license, rated_description, rated_images)
    set_threads(threads)
    Reproduction(
        out,
        recipe,
        TrainingOptions(True, workers, save_every, mixed_precision, checkpoint_activations),
        typer.echo,
        complain=_complain,
    ).run(
        photographs,
        pristine,
        name=name,
        data_name=data_name,
        data_license=data_license,
        pristine_name=pristine_name,
        pristine_license=pristine_license,
        held_out=held_out,
        clip=clip,
        ratings=ratings,
        csv=csv,
        csv_images=csv_images,
        labels=labels,
        most=most,
    )


@app.command()
def publish(
    model: Annotated[Path, typer.Option(help="Model directory.")],
    repo_id: Annotated[str, typer.Option(help="owner/name on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="weights.json that takes the entry of what was published: commit and hashes.")
    ] = None,
) -> None:
    """Upload a model directory to the Hugging Face Hub."""
    from grepq_iqa.weights.publish import publish as run

    typer.echo(run(model, repo_id, private=private, manifest=manifest))


def _complain(line: str) -> None:
    typer.echo(line, err=True)


def main() -> None:
    """Run; a :class:`GrepqError` becomes one clear line and exit status 2."""
    try:
        app()
    except GrepqError as error:
        typer.echo(f"training: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
