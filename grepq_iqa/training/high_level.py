"""Train the compact model's high-level encoder: a frozen ImageNet tower and a projection trained on its statistics."""

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
from grepq_iqa.training.imagenet import load_imagenet
from grepq_iqa.training.projection import ProjectionRecipe, train_projection
from grepq_iqa.training.recipe import describe
from grepq_iqa.training.statistics import pool_ladders, pool_photographs

SENTENCE_DIM = 384
RUN = "high_level.json"


def encoder_config(recipe: ProjectionRecipe) -> dict[str, Any]:
    """The ``high_level`` object of config.json for this recipe."""
    return {
        "architecture": "timm",
        "model": recipe.model,
        "layers": list(recipe.layers),
        "head": recipe.head,
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
    on_progress: Callable[[str, int], None] = lambda stage, count: None,
) -> tuple[HighLevelEncoder, dict[str, Tensor]]:
    """The encoder and its prompts. Statistics are kept in ``out``, so a second run repeats only the projection."""
    encoder = HighLevelEncoder(encoder_config(recipe)).eval()
    assert isinstance(encoder.tower, PooledTimmTower)  # encoder_config says so
    load_imagenet(encoder.tower, recipe.model)
    encoder.to(memory_format=torch.channels_last)
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
    statistics = pool_photographs(encoder, evenly, out / "ordinary.safetensors")
    prompts, history = train_projection(encoder.tower, ladders, statistics, recipe)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    write_high_level(encoder.eval(), encoder_config(recipe), prompts, recipe, out)
    return encoder, prompts


def write_high_level(
    encoder: HighLevelEncoder, config: dict[str, Any], prompts: dict[str, Tensor], recipe: object, out: Path
) -> None:
    """Leave a trained encoder in ``out`` for ``export``: its weights, its prompts, its config and its recipe."""
    state = {k: v.contiguous() for k, v in encoder.tower.state_dict().items()}
    save_file(state, out / "tower.safetensors")
    save_file({name: vector.contiguous() for name, vector in prompts.items()}, out / "prompts.safetensors")
    described = {"config": config, "recipe": describe(recipe)}
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
