"""Train the compact model's high-level encoder: a frozen ImageNet tower, its distortion head, and a projection of both.

Three stages, of which a second run finds the first two done: the distortion head (:mod:`.distortion_head`), pooled
features of severity series and unlabeled images (:mod:`.pooled_features`), and the projection (:mod:`.projection`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.training.data.prepare import Prepared, evenly
from grepq_iqa.training.high_level.distortion_head import OUTPUTS, DistortionHeadRecipe, train_distortion_head
from grepq_iqa.training.high_level.imagenet import imagenet_provenance, load_imagenet
from grepq_iqa.training.high_level.pooled_features import (
    pool_clean_copies,
    pool_photographs,
    pool_severity_series,
)
from grepq_iqa.training.high_level.projection import ProjectionRecipe, train_projection
from grepq_iqa.training.high_level.run_files import write_encoder
from grepq_iqa.training.high_level.text_encoder import text_encoder_provenance
from grepq_iqa.training.loop import LoopSettings
from grepq_iqa.training.processes import part
from grepq_iqa.training.recipe import describe
from grepq_iqa.training.run_record import describe_data, run_key, state_hash, write_record

SENTENCE_DIM = 384


def encoder_config(recipe: ProjectionRecipe, head: DistortionHeadRecipe | None = None) -> dict[str, Any]:
    """The ``high_level`` object of config.json for this recipe."""
    return {
        "architecture": "efficientnet",
        "model": recipe.model,
        "layers": list(recipe.layers),
        "center_weighted": recipe.center_weighted,
        "head": recipe.head,
        "distortion_head": {"start": head.start, "outputs": list(OUTPUTS)} if head else None,
        **({"region_contrast": {"layers": list(recipe.region_layers)}} if recipe.region_layers else {}),
        "dim": SENTENCE_DIM,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }


def train_high_level(
    pristine: Prepared,
    unlabeled: Prepared,
    recipe: ProjectionRecipe,
    out: Path,
    *,
    head: DistortionHeadRecipe | None = None,
    recipe_name: str | None = None,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    on_progress: Callable[[str, int], None] = lambda stage, count: None,
) -> tuple[HighLevelEncoder, dict[str, Tensor]]:
    """The encoder and its prompts, left in ``out`` for ``export``.

    Where several processes train together, they share the distortion head's training, and the first does the rest;
    the others return the encoder as it is then, and no prompts.

    Args:
        pristine, unlabeled: photographs, as `prepare` listed them.
        recipe: of the projection.
        out: folder of the run; what is finished there and depends on nothing that changed is not made again.
        head: of the distortion head; None trains none.
        recipe_name: of the recipe, for the provenance.
        resume, workers, save_every, mixed_precision: of the distortion head's loop.
        on_progress: told of stages.
    """
    config = encoder_config(recipe, head)
    torch.manual_seed(recipe.seed)  # what is kept on disk is known by the weights, random ones included
    encoder = HighLevelEncoder(config).eval()
    tower = encoder.tower
    assert isinstance(tower, PooledEfficientNet)  # encoder_config says so
    load_imagenet(tower)
    encoder.to(memory_format=torch.channels_last).requires_grad_(False)
    if head:
        loop = LoopSettings(out, head.steps, head.batch_images, save_every, workers, mixed_precision)
        train_distortion_head(encoder, pristine, unlabeled, head, loop, resume=resume)
    if not part():  # what follows is the work of one
        return encoder, {}
    # Before anything is measured with them; which maps are pooled does not show in the weights.
    weights = run_key(state_hash(encoder), config)
    series = pool_severity_series(
        encoder,
        pristine,
        unlabeled,
        out,
        series=recipe.severity_series,
        crop=recipe.crop,
        seed=recipe.seed,
        weights=weights,
        on_shard=lambda count: on_progress("severity series", count),
    )
    some = evenly(unlabeled.photographs, recipe.unlabeled_images)
    on_progress("unlabeled images", len(some))

    def pool(x: Tensor) -> Tensor:
        return tower.pooled(encoder.normalize(x))

    pooled = pool_photographs(pool, some, out, weights)
    tower.set_standardization(pooled)
    regions = copies = None
    if recipe.region:
        of_regions = f"{weights} regions"
        regions = pool_photographs(lambda x: tower.region_statistics(encoder.normalize(x)), some, out, of_regions)
    if recipe.likeness:
        on_progress("pristine photographs", recipe.likeness_copies * len(pristine.paths))
        how_many = {"copies": recipe.likeness_copies, "seed": recipe.seed}
        copies = pool_clean_copies(pool, pristine, out, weights, **how_many)
    prompts = train_projection(tower, series, pooled, recipe, out, regions=regions, pristine=copies)
    write_encoder(encoder.eval(), config, prompts, out)
    settings = {"high_level": describe(recipe)} | ({"distortion_head": describe(head)} if head else {})
    write_record(
        out,
        settings,
        describe_data(pristine=pristine, unlabeled=unlabeled),
        recipe_name=recipe_name,
        base_model=[imagenet_provenance(), text_encoder_provenance()],
        mixed_precision={"high_level": "no"} | ({"distortion_head": mixed_precision} if head else {}),
        steps={"high_level": recipe.steps} | ({"distortion_head": head.steps} if head else {}),
    )
    return encoder, prompts
