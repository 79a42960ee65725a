"""Train the compact model's high-level encoder: a frozen ImageNet tower and a projection trained on its statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder, PooledTimmTower
from grepq_iqa.training.imagenet import load_imagenet
from grepq_iqa.training.projection import ProjectionRecipe, train_projection
from grepq_iqa.training.statistics import pool_ladders, pool_photographs

SENTENCE_DIM = 384


def encoder_config(recipe: ProjectionRecipe) -> dict[str, Any]:
    """The ``high_level`` object of config.json for this recipe."""
    return {
        "architecture": "timm",
        "model": recipe.model,
        "layers": list(recipe.layers),
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
    statistics = pool_photographs(encoder, evenly)
    prompts, history = train_projection(encoder.tower, ladders, statistics, recipe)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    save_file({k: v.contiguous() for k, v in encoder.tower.state_dict().items()}, out / "tower.safetensors")
    save_file({name: vector.contiguous() for name, vector in prompts.items()}, out / "prompts.safetensors")
    return encoder.eval(), prompts


def read_high_level(recipe: ProjectionRecipe, out: Path) -> tuple[HighLevelEncoder, dict[str, Tensor]]:
    """What :func:`train_high_level` left in ``out``."""
    from safetensors.torch import load_file

    encoder = HighLevelEncoder(encoder_config(recipe))
    encoder.tower.load_state_dict(load_file(out / "tower.safetensors"))
    return encoder.eval(), load_file(out / "prompts.safetensors")
