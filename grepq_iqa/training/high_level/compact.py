"""Train the compact model's high-level encoder: a frozen ImageNet tower, what reads damage, and a projection of both.

Three stages, of which a second run finds the first two done: the reader of damage (:mod:`.damage_reader`), statistics
of ladders and ordinary photographs (:mod:`.statistics`), and the projection (:mod:`.projection`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder, PooledTimmTower
from grepq_iqa.errors import UsageError
from grepq_iqa.training.high_level.distortion_head import READS, DamageRecipe, train_damage_reader
from grepq_iqa.training.high_level.imagenet import load_imagenet
from grepq_iqa.training.high_level.pooled_features import pool_ladders, pool_photographs
from grepq_iqa.training.high_level.projection import ProjectionRecipe, train_projection
from grepq_iqa.training.loop import LoopSettings
from grepq_iqa.training.recipe import describe

SENTENCE_DIM = 384
RUN = "high_level.json"


def encoder_config(recipe: ProjectionRecipe, damage: DamageRecipe | None = None) -> dict[str, Any]:
    """The ``high_level`` object of config.json for this recipe."""
    return {
        "architecture": "timm",
        "model": recipe.model,
        "layers": list(recipe.layers),
        "centre": recipe.centre,
        "head": recipe.head,
        "damage": {"start": damage.start, "reads": list(READS)} if damage else None,
        "dim": SENTENCE_DIM,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }


def train_high_level(
    pristine: list[Path],
    ordinary: list[Path],
    recipe: ProjectionRecipe,
    out: Path,
    *,
    damage: DamageRecipe | None = None,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    on_progress: Callable[[str, int], None] = lambda stage, count: None,
) -> tuple[HighLevelEncoder, dict[str, Tensor]]:
    """The encoder and its prompts. A finished reader of damage and statistics that are in ``out`` are not made again.

    Args:
        damage: None trains no reader of damage.
        resume, workers, save_every, mixed_precision: of that reader's training loop.
    """
    config = encoder_config(recipe, damage)
    encoder = HighLevelEncoder(config).eval()
    tower = encoder.tower
    assert isinstance(tower, PooledTimmTower)  # encoder_config says so
    load_imagenet(tower, recipe.model)
    encoder.to(memory_format=torch.channels_last).requires_grad_(False)
    if damage:
        loop = LoopSettings(out / "damage", damage.steps, damage.batch_groups, save_every, workers, mixed_precision)
        train_damage_reader(encoder, pristine, ordinary, damage, loop, resume=resume)
    ladders = pool_ladders(
        encoder,
        pristine,
        ordinary,
        out / "ladders",
        ladders=recipe.ladders,
        crop=recipe.crop,
        seed=recipe.seed,
        on_shard=lambda count: on_progress("ladders", count),
    )
    evenly = ordinary[:: max(1, len(ordinary) // recipe.photographs)][: recipe.photographs]
    on_progress("photographs", len(evenly))
    statistics = pool_photographs(lambda x: tower.pooled(encoder.normalise(x)), evenly, out / "ordinary.safetensors")
    tower.set_standard(statistics)
    prompts, history = train_projection(tower, ladders, statistics, recipe)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    described = {"projection": describe(recipe)} | ({"damage": describe(damage)} if damage else {})
    write_high_level(encoder.eval(), config, prompts, described, out)
    return encoder, prompts


def write_high_level(
    encoder: HighLevelEncoder,
    config: dict[str, Any],
    prompts: dict[str, Tensor],
    recipe: dict[str, Any],
    out: Path,
) -> None:
    """Leave a trained encoder in ``out`` for ``export``: its weights, its prompts, its config and its recipe."""
    state = {k: v.contiguous() for k, v in encoder.tower.state_dict().items()}
    save_file(state, out / "tower.safetensors")
    save_file({name: vector.contiguous() for name, vector in prompts.items()}, out / "prompts.safetensors")
    described = {"config": config, "recipe": recipe}
    (out / RUN).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class HighLevelRun:
    """What a run left: the encoder in evaluation mode, its part of config.json, its prompts, its recipe."""

    encoder: HighLevelEncoder
    config: dict[str, Any]
    prompts: dict[str, Tensor]
    recipe: dict[str, Any]


def read_high_level(out: Path) -> HighLevelRun:
    """What :func:`write_high_level` left in ``out``.

    Raises:
        UsageError: nothing is there, or training has not come to its end.
    """
    if not (out / RUN).exists():
        raise UsageError(f"{out} holds no finished run of `high-level`")
    described = json.loads((out / RUN).read_text(encoding="utf-8"))
    encoder = HighLevelEncoder(described["config"])
    encoder.tower.load_state_dict(load_file(out / "tower.safetensors"))
    return HighLevelRun(
        encoder.eval(), described["config"], load_file(out / "prompts.safetensors"), described["recipe"]
    )
