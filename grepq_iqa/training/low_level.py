"""Train the low-level encoder with the quality-aware contrastive loss (METHOD section 4)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.training.groups import QualityGroups
from grepq_iqa.training.loop import Batch, LoopSettings, run, warmup_cosine
from grepq_iqa.training.losses.qcl import QualityContrastiveLoss
from grepq_iqa.training.recipe import LowLevelRecipe


def train_low_level(
    photographs: list[Path],
    recipe: LowLevelRecipe,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
) -> LowLevelEncoder:
    """The encoder trained on ``photographs`` by ``recipe``; checkpoints and metrics go to ``out``."""
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

    data = QualityGroups(photographs, recipe, steps * recipe.batch_groups)
    settings = LoopSettings(out, steps, recipe.batch_groups, save_every, workers, mixed_precision)
    run(encoder, loss_of, data, optimiser, schedule, settings, resume=resume)
    return encoder.eval()
