"""Train the low-level encoder with the quality-aware contrastive loss (METHOD section 4)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.contrastive_views import QualityGroups
from grepq_iqa.training.loop import Batch, LoopSettings, last_checkpoint, run, warmup_cosine
from grepq_iqa.training.losses.qcl import QualityContrastiveLoss
from grepq_iqa.training.recipe import LowLevelRecipe, describe
from grepq_iqa.training.similarity.fsim_cache import SimilarityCache

RECIPE = "recipe.json"


def train_low_level(
    photographs: list[Path],
    recipe: LowLevelRecipe,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    cache: SimilarityCache | None = None,
) -> LowLevelEncoder:
    """The encoder trained on ``photographs`` by ``recipe``; checkpoints, metrics and recipe go to ``out``."""
    torch.manual_seed(recipe.seed)
    encoder = LowLevelEncoder().to(memory_format=torch.channels_last)
    steps = recipe.steps or recipe.epochs * math.ceil(len(photographs) / recipe.batch_groups)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    final_ratio = recipe.final_learning_rate / recipe.learning_rate
    schedule = warmup_cosine(optimiser, steps, recipe.warmup_steps, final_ratio)
    criterion = QualityContrastiveLoss(recipe.temperature)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        groups, versions = batch["first"].shape[:2]
        pictures = torch.cat([batch["first"].flatten(0, 1), batch["second"].flatten(0, 1)])
        features = model(pictures.contiguous(memory_format=torch.channels_last))
        first, second = features.view(2, groups, versions, -1)
        return criterion(first, second, batch["similarity"]), {}

    data = QualityGroups(photographs, recipe, steps * recipe.batch_groups, cache)
    settings = LoopSettings(out, steps, recipe.batch_groups, save_every, workers, mixed_precision)
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(json.dumps(describe(recipe), indent=2) + "\n", encoding="utf-8")
    run(encoder, loss_of, data, optimiser, schedule, settings, resume=resume)
    return encoder.eval()


@dataclass(frozen=True)
class LowLevelRun:
    """What a run left: the encoder of its last checkpoint in evaluation mode, its recipe, and the steps so far."""

    encoder: LowLevelEncoder
    recipe: dict[str, Any]
    steps: int


def read_low_level(out: Path) -> LowLevelRun:
    """The run in ``out``, finished or not.

    Raises:
        UsageError: it has no checkpoint yet.
    """
    checkpoint = last_checkpoint(out)
    if checkpoint is None:
        raise UsageError(f"{out} holds no checkpoint of `low-level`")
    encoder = LowLevelEncoder()
    encoder.load_state_dict(load_file(checkpoint / "model.safetensors"))
    steps = json.loads((checkpoint / "step.json").read_text(encoding="utf-8"))["step"]
    return LowLevelRun(encoder.eval(), json.loads((out / RECIPE).read_text(encoding="utf-8")), steps)
