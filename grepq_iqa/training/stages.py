"""The stages between photographs and a model, as the commands and `reproduce` run them.

Where several processes train together, all of them call the trainings, and the first writes and speaks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grepq_iqa.cli.progress import Bars
from grepq_iqa.errors import UsageError
from grepq_iqa.training.recipe import ExportRecipe, has_section, has_setting, load_recipe, recipe_label

if TYPE_CHECKING:
    from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages
    from grepq_iqa.benchmark.result import BenchmarkResult
    from grepq_iqa.data.labels import Labels
    from grepq_iqa.training.data.prepare import Prepared

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train, whatever the recipe.

    Attributes:
        resume: go on from the last checkpoint.
        workers: processes that prepare pictures.
        save_every: steps between checkpoints.
        mixed_precision: "no", "bf16" or "fp16".
        checkpoint_activations: of CLIP's tower.
    """

    resume: bool = False
    workers: int = 1
    save_every: int = 50
    mixed_precision: str = "no"
    checkpoint_activations: bool = False

    @property
    def of_loop(self) -> dict[str, Any]:
        """Those that every training hands to its loop, as keyword arguments."""
        return {name: getattr(self, name) for name in ("resume", "workers", "save_every", "mixed_precision")}


def prepare_stage(
    sources: Sequence[str],
    out: Path,
    say: Say,
    *,
    recipe: str | None = None,
    pristine: bool = False,
    name: str | None = None,
    license: str | None = None,
    held_out: Path | None = None,
    workers: int | None = None,
    complain: Say | None = None,
) -> Prepared:
    """Check photographs and list them in ``out``; with ``recipe``, render the copies that it keeps.

    Args:
        sources: files, folders and patterns.
        out: folder of the list.
        say: takes lines for the user.
        recipe: whose fixed copies and FSIM matrices to make; None: none.
        pristine: whether to list sharp and colorful tiles, too.
        name, license: of the photographs, for the provenance.
        held_out: file of SHA-256 of photographs that must not be used.
        workers: processes that render copies; None: one a core.
        complain: takes a line for each photograph left out; None: ``say``.
    """
    from grepq_iqa.training.data.prepare import prepare, read_hashes

    refused = read_hashes(held_out)
    with _bars() as bars:
        prepared = prepare(sources, out, name=name, license=license, held_out=refused, on_done=_count(bars, "checked"))
        for path, reason in prepared.rejected.items():
            (complain or say)(f"skipped {path}: {reason}")
        left_out = f"{len(prepared.rejected)} skipped" + (f", {prepared.held_out} held out" if refused else "")
        say(f"{len(prepared.photographs)} photographs, {left_out} -> {out}")
        if pristine:
            from grepq_iqa.training.data.pristine_tiles import write_tiles

            count = write_tiles(prepared.paths, out, on_done=_count(bars, "searched for tiles"))
            say(f"{count} pristine tiles -> {out / 'tiles.json'}")
        if recipe:
            from grepq_iqa.training.data.render_copies import render_copies
            from grepq_iqa.training.recipe import LowLevelRecipe

            settings = load_recipe(recipe, "low_level", LowLevelRecipe)
            done = _count(bars, "copies of")
            folder = render_copies(prepared, settings, out, workers=workers, on_done=done)
            say(f"distorted copies -> {folder}, and their FSIM matrices beside it")
    return prepared


def low_level_stage(
    photographs: Path, out: Path, recipe: str, say: Say, options: TrainingOptions, *, steps: int | None = None
) -> None:
    """Train the low-level encoder.

    Args:
        photographs: a folder of `prepare`.
        out: folder of the run.
        recipe: name or file.
        say: takes lines for the user.
        options: of the loop.
        steps: other than the recipe's.
    """
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.low_level import train_low_level
    from grepq_iqa.training.recipe import LowLevelRecipe

    train_low_level(
        read_index(photographs),
        load_recipe(recipe, "low_level", LowLevelRecipe, steps=steps),
        out,
        recipe_name=recipe_label(recipe),
        **options.of_loop,
        kept=photographs,
    )
    _draw_curve(out, say)


def is_compact(recipe: str) -> bool:
    """Whether the recipe trains the compact model's high-level parts, and not CLIP's tower."""
    return has_setting(recipe, "high_level", "severity_series")


def high_level_stage(
    photographs: Path,
    out: Path,
    recipe: str,
    say: Say,
    options: TrainingOptions,
    *,
    pristine: Path | None = None,
    clip: Path | None = None,
    steps: int | None = None,
) -> None:
    """Train the high-level encoder: CLIP's tower by the group contrastive loss, or the compact model's own parts.

    Args:
        photographs: a folder of `prepare`.
        out: folder of the run.
        recipe: name or file.
        say: takes lines for the user.
        options: of the loop.
        pristine: clean photographs, a folder of `prepare`; the compact model needs them.
        clip: open_clip's checkpoint; None takes it from the Hub.
        steps: other than the recipe's.
    """
    if is_compact(recipe):
        _compact_high_level(photographs, out, recipe, say, options, pristine, steps)
    else:
        _clip_high_level(photographs, out, recipe, options, clip, steps)
    _draw_curve(out, say)


def _compact_high_level(
    photographs: Path,
    out: Path,
    recipe: str,
    say: Say,
    options: TrainingOptions,
    pristine: Path | None,
    steps: int | None,
) -> None:
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.high_level.compact import train_high_level
    from grepq_iqa.training.high_level.distortion_head import FILE, DistortionHeadRecipe
    from grepq_iqa.training.high_level.projection import ProjectionRecipe

    if pristine is None:
        raise UsageError(f"recipe {recipe} needs --pristine, a folder of clean photographs that `prepare` wrote")
    has_head = has_section(recipe, "distortion_head")
    with _bars() as bars:
        train_high_level(
            read_index(pristine),
            read_index(photographs),
            load_recipe(recipe, "high_level", ProjectionRecipe, steps=steps),
            out,
            head=load_recipe(recipe, "distortion_head", DistortionHeadRecipe) if has_head else None,
            recipe_name=recipe_label(recipe),
            **options.of_loop,
            on_progress=bars.show,
        )
    for metrics in sorted(out.glob("distortion_head-*/metrics.jsonl")):
        if (metrics.parent / FILE).is_file():  # others were stopped
            _draw_curve(metrics.parent, say)


def _clip_high_level(
    photographs: Path, out: Path, recipe: str, options: TrainingOptions, clip: Path | None, steps: int | None
) -> None:
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.high_level.clip_tower import CLIP_REPO, ClipRecipe, train_clip_tower
    from grepq_iqa.weights import fetch_checkpoint

    train_clip_tower(
        read_index(photographs),
        load_recipe(recipe, "high_level", ClipRecipe, steps=steps),
        clip or fetch_checkpoint("clip-rn50"),
        out,
        recipe_name=recipe_label(recipe),
        source=None if clip else CLIP_REPO,
        **options.of_loop,
        checkpoint_activations=options.checkpoint_activations,
    )


def fine_detail_stage(photographs: Path, pristine: Path, out: Path, recipe: str, say: Say, *, workers: int = 1) -> None:
    """Train the full-resolution branch, which sees light distortions, into ``out``.

    Args:
        photographs, pristine: folders of `prepare`.
        out: folder of the run; a run that was stopped goes on there.
        recipe: name or file with a section ``[fine_detail]``.
        say: takes lines for the user.
        workers: processes that make and measure crops.
    """
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.fine_detail_run import train_fine_detail
    from grepq_iqa.training.recipe import FineDetailRecipe

    settings = load_recipe(recipe, "fine_detail", FineDetailRecipe)
    with _bars() as bars:
        done = _count(bars, "series of light distortions")
        path = train_fine_detail(
            read_index(pristine), read_index(photographs), settings, out,
            recipe_name=recipe_label(recipe), workers=workers, on_done=done,
        )  # fmt: skip
    say(f"{path}: amounts of light distortions, from {settings.series} series")


def predicted_fsim_stage(
    photographs: Path,
    pristine: Path,
    high_level: Path,
    fine_detail: Path | None,
    out: Path,
    recipe: str,
    say: Say,
    *,
    workers: int = 1,
) -> None:
    """Train what predicts FSIM without a reference, into ``out``.

    Args:
        photographs, pristine: folders of `prepare`.
        high_level, fine_detail: folders of the trainings whose answers it reads; without the last, the first alone.
        out: folder of the run; a run that was stopped goes on there.
        recipe: name or file with a section ``[predicted_fsim]``.
        say: takes lines for the user.
        workers: processes that make and read pictures.
    """
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.predicted_fsim_run import train_predicted_fsim
    from grepq_iqa.training.recipe import PredictedFsimRecipe

    settings = load_recipe(recipe, "predicted_fsim", PredictedFsimRecipe)
    side = export_settings(recipe).max_side
    with _bars() as bars:
        path = train_predicted_fsim(
            read_index(pristine), read_index(photographs), high_level, fine_detail, settings, out,
            recipe_name=recipe_label(recipe), max_side=side or None, workers=workers,
            on_done=_count(bars, "series and photographs"),
        )  # fmt: skip
    say(f"{path}: FSIM without a reference, from {settings.series} series and {settings.unlabeled_images} photographs")


def export_stage(
    low_level: Path,
    high_level: Path,
    pristine: Path,
    photographs: Path,
    out: Path,
    recipe: str,
    *,
    name: str,
    fine_detail: Path | None = None,
    predicted_fsim: Path | None = None,
    most: int | None = None,
    max_side: int | None = None,
) -> None:
    """Assemble both encoders into a model directory with its tables, provenance and card.

    Args:
        low_level, high_level: folders of the trainings.
        pristine, photographs: folders of `prepare`.
        out: model directory to write.
        recipe: name or file.
        name: of the model.
        fine_detail, predicted_fsim: folders of those trainings; None: the model has no such part.
        most, max_side: other than the recipe's section ``[export]``; a ``max_side`` of 0 is any.
    """
    from grepq_iqa.calibration.storage import require_model_folder
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.training.export import export_model
    from grepq_iqa.training.fine_detail_run import read_fine_detail
    from grepq_iqa.training.high_level.run_files import read_high_level
    from grepq_iqa.training.low_level import read_low_level
    from grepq_iqa.training.parts_check import require_parts
    from grepq_iqa.training.predicted_fsim_run import read_predicted_fsim
    from grepq_iqa.training.recipe import (
        FeatureRecipe,
        FineDetailRecipe,
        PredictedFsimRecipe,
        ProvenanceRecipe,
        ScoringRecipe,
    )
    from grepq_iqa.weights.model_card import write_card

    require_model_folder(out)
    high = read_high_level(high_level)
    require_parts(recipe, high, fine_detail, predicted_fsim)
    settings = export_settings(recipe, most=most, max_side=max_side)
    with _bars() as bars:
        export_model(
            out,
            read_low_level(low_level),
            high,
            read_index(pristine),
            read_index(photographs),
            name=name,
            recipe_name=recipe_label(recipe),
            scoring=load_recipe(recipe, "scoring", ScoringRecipe),
            weights=load_recipe(recipe, "features", FeatureRecipe),
            provenance=load_recipe(recipe, "provenance", ProvenanceRecipe)
            if has_section(recipe, "provenance")
            else ProvenanceRecipe("not recorded"),  # a recipe in the words of version 0.1
            most=settings.most,
            max_side=settings.max_side or None,
            fine=read_fine_detail(fine_detail) if fine_detail else None,
            fine_recipe=load_recipe(recipe, "fine_detail", FineDetailRecipe) if fine_detail else None,
            fsim=read_predicted_fsim(predicted_fsim) if predicted_fsim else None,
            fsim_recipe=load_recipe(recipe, "predicted_fsim", PredictedFsimRecipe) if predicted_fsim else None,
            on_done=_count(bars, "scored"),
        )
    write_card(out)


def export_settings(recipe: str, *, most: int | None = None, max_side: int | None = None) -> ExportRecipe:
    """The recipe's section ``[export]``, which it may lack, with what is given in its place."""
    given = {"most": most, "max_side": max_side}
    if has_section(recipe, "export"):
        return load_recipe(recipe, "export", ExportRecipe, **given)
    return ExportRecipe(**{name: value for name, value in given.items() if value is not None})


def ratings_stage(
    model: Path,
    csv: Path,
    recipe: str,
    say: Say,
    *,
    name: str,
    license: str = "none stated",
    description: str = "not recorded",
    bounds: tuple[float, float] = (0, 1),
    images: Path | None = None,
    dtype: str = "auto",
    cache: Path | None = None,
) -> None:
    """Learn what people say of other photographs, into the model directory.

    Args:
        model: directory.
        csv: table of rated photographs and their MOS.
        recipe: name or file with a section ``[ratings]``.
        say: takes lines for the user.
        name, license, description: of the ratings.
        bounds: scores that mean the worst and the best.
        images: folder of the photographs, if not the table's.
        dtype: of the encoders.
        cache: folder of features.
    """
    from grepq_iqa.feature_cache import FeatureCache, model_key
    from grepq_iqa.training.ratings import load_encoders, train_ratings
    from grepq_iqa.training.recipe import RatingsRecipe

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
    say(
        f"{model}: ratings of {int(predictor.counts.sum())} photographs; a middling one's 90 % interval goes "
        f"from {low[0]:.0f} to {high[0]:.0f}"
    )


def read_rated(csv: Path, recipe: str, bounds: tuple[float, float], images: Path | None) -> Labels:
    """The table that `ratings_stage` learns from, without reading an image.

    Args:
        csv, recipe, bounds, images: as there.

    Raises:
        GrepqError: the recipe has no section ``[ratings]``, or the table cannot be read, holds too few photographs, or
            scores out of bounds.
    """
    from grepq_iqa.training import ratings
    from grepq_iqa.training.recipe import RatingsRecipe

    return ratings.read_rated(csv, load_recipe(recipe, "ratings", RatingsRecipe), bounds, images)


def int8_stage(model: Path, photographs: Path, say: Say) -> None:
    """Write the encoders of a model directory in eight bits, for the engine onnx.

    Args:
        model: directory.
        photographs: a folder of `prepare`; some of them give the ranges of activations.
        say: takes lines for the user.
    """
    from grepq_iqa.encoders.onnx_engine import INT8_GRAPH
    from grepq_iqa.training.data.prepare import read_index
    from grepq_iqa.weights import resolve
    from grepq_iqa.weights.loading import load_components
    from grepq_iqa.weights.onnx_graphs import evenly, write_graph

    (model / INT8_GRAPH).unlink(missing_ok=True)  # it may be of other weights
    resolved = resolve(model)
    components = load_components(resolved.name, resolved.files)
    apart = write_graph(components, model / INT8_GRAPH, evenly(read_index(photographs).paths), int8=True)
    said = "" if apart is None else f": its features differ from torch's by {apart:.2g} standard deviations"
    say(f"{model / INT8_GRAPH}{said}")


def reasons_stage(
    photographs: Sequence[str],
    in_the_wild: Path,
    out: Path,
    say: Say,
    *,
    held_out: Path | None = None,
    items: int,
    first_item: int,
    map_items: int,
    most: int,
    cache: Path | None = None,
) -> None:
    """Learn what explains poor quality, from distorted copies of clean photographs.

    Args:
        photographs: folders or patterns of clean photographs.
        in_the_wild: folder of unlabeled photographs, for percentiles.
        out: folder to write both networks to.
        say: takes lines for the user.
        held_out: SHA-256 of photographs that must not be used, one a line.
        items, first_item: distorted pictures that the reasons are learned from, and the index of the first.
        map_items: likewise, of the map.
        most: in-the-wild photographs, evenly taken from all.
        cache: folder that keeps measures, and from which a killed run goes on.
    """
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import sha256_of
    from grepq_iqa.training.data.prepare import read_hashes
    from grepq_iqa.training.reasons_run import train_reasons

    refused = read_hashes(held_out)
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
    say(f"{out}: reasons from {items} distorted pictures of {len(clean)} photographs; {found}")


def evaluate_stage(
    model: Path, csv: Path, say: Say, *, images: Path | None = None, labels: Sequence[int], record: str | None = None
) -> BenchmarkResult:
    """Measure a model in float32 on a table of images and MOS, as `grepq benchmark csv` does.

    Args:
        model: directory.
        csv: the table.
        say: takes lines for the user.
        images: folder of the images, if not the table's.
        labels: numbers of labels to fit on.
        record: name of the data set under which config.json and the card take the figures; None: they do not.
    """
    from grepq_iqa.benchmark import run
    from grepq_iqa.benchmark.record import record_scores
    from grepq_iqa.model import GRepQ
    from grepq_iqa.weights.model_card import write_card

    labeled = read_evaluation(csv, images, labels)
    with _bars() as bars:
        grepq = GRepQ.from_pretrained(model, dtype="float32")
        result = run(labeled, grepq, label_counts=list(labels), progress=bars.show)
    found: dict[str, Any] = result.to_json()
    say(json.dumps({key: found[key] for key in ("images", "zero_shot", "few_labels")}, indent=2))
    if record:
        record_scores(model, record, result)
        write_card(model)
    return result


def read_evaluation(csv: Path, images: Path | None, labels: Sequence[int]) -> LabeledImages:
    """The table that `evaluate_stage` measures on, without reading an image.

    Args:
        csv, images, labels: as there.

    Raises:
        GrepqError: the table cannot be read, or holds too few images for so many labels.
    """
    from grepq_iqa.benchmark import read
    from grepq_iqa.benchmark.run import planned_splits

    labeled = read("csv", images or csv.parent, labels=str(csv.absolute()))
    planned_splits(labeled, labels)
    return labeled


def _bars() -> Bars:
    return Bars(log_every=100)


def _count(bars: Bars, name: str) -> Callable[[int], None]:
    return lambda done: bars.show(name, done)


def _draw_curve(out: Path, say: Say) -> None:
    from grepq_iqa.training.processes import is_first
    from grepq_iqa.training.training_curve import plot_training_curve

    if is_first():
        say(f"{out} is trained; its training curve is {plot_training_curve(out)}")
