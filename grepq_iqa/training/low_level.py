"""Train the low-level encoder with the quality-aware contrastive loss (docs/method.md, section 4)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.contrastive_views import ContrastiveViews, as_float
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.loop import Batch, LoopSettings, last_checkpoint, run, steps_done, warmup_cosine, weights_of
from grepq_iqa.training.losses.qcl import QualityContrastiveLoss
from grepq_iqa.training.processes import is_first, wait_for_all
from grepq_iqa.training.recipe import LowLevelRecipe, describe
from grepq_iqa.training.run_record import describe_data, read_record, write_record

LEAST_SPANS = 8
"""How often the span of the moving average goes into a run, at least: of its first weights less than .1 % is left."""


def train_low_level(
    photographs: Prepared,
    recipe: LowLevelRecipe,
    out: Path,
    *,
    recipe_name: str | None = None,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    kept: Path | None = None,
) -> LowLevelEncoder:
    """The encoder trained on ``photographs`` by ``recipe``; checkpoints, metrics and the run's record go to ``out``.

    Args:
        photographs: as `prepare` listed them.
        recipe: settings.
        out: folder of the run.
        recipe_name: of the recipe, for the provenance.
        resume, workers, save_every, mixed_precision: of the loop.
        kept: folder of `prepare` that holds fixed copies and their FSIM matrices; None makes them for every item.
    """
    torch.manual_seed(recipe.seed)
    encoder = LowLevelEncoder().to(memory_format=torch.channels_last)
    steps = recipe.steps or recipe.epochs * math.ceil(len(photographs.photographs) / recipe.batch_images)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    final_ratio = recipe.final_learning_rate / recipe.learning_rate
    schedule = warmup_cosine(optimizer, steps, recipe.warmup_steps, final_ratio)
    criterion = QualityContrastiveLoss(recipe.temperature)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        views = [as_float(batch[name]) for name in ("first", "second")]
        photographs, copies = views[0].shape[:2]
        if recipe.separate_views:
            first, second = (_features(model, view.flatten(0, 1)) for view in views)
        else:
            first, second = _features(model, torch.cat([view.flatten(0, 1) for view in views])).chunk(2)
        rows = (photographs, copies, -1)
        return criterion(first.view(rows), second.view(rows), batch["similarity"]), {}

    data = ContrastiveViews(photographs.photographs, recipe, steps * recipe.batch_images, kept)
    identity = _identity(describe(recipe), photographs.sha256, mixed_precision)
    epoch = len(photographs.photographs) if recipe.short_batches else 0
    decay = averaging_of(recipe, steps)
    settings = LoopSettings(
        out, steps, recipe.batch_images, save_every, workers, mixed_precision, identity, epoch, decay
    )
    if resume:
        steps_done(settings)  # before the record of the run there is written over
    wait_for_all()
    if is_first():
        write_record(
            out,
            {"low_level": describe(recipe)},
            describe_data(low_level=photographs),
            recipe_name=recipe_name,
            base_model=None,
            mixed_precision={"low_level": mixed_precision},
            steps={"low_level": steps},
        )
    run(encoder, loss_of, data, optimizer, schedule, settings, resume=resume)
    return read_low_level(out).encoder


@dataclass(frozen=True)
class LowLevelRun:
    """What a run left.

    Attributes:
        encoder: of its last checkpoint, in evaluation mode.
        record: of the run, with the steps taken so far.
    """

    encoder: LowLevelEncoder
    record: dict[str, Any]


def read_low_level(out: Path) -> LowLevelRun:
    """The run in ``out``, finished or not.

    Raises:
        UsageError: it has no checkpoint yet, or only that of an earlier run in the same folder.
    """
    checkpoint = last_checkpoint(out)
    if checkpoint is None:
        raise UsageError(f"{out} holds no checkpoint of `low-level`")
    encoder = LowLevelEncoder()
    encoder.load_state_dict(weights_of(checkpoint))
    record = read_record(out)
    stored = json.loads((checkpoint / "step.json").read_text(encoding="utf-8"))
    settings, precision = record["settings"]["low_level"], record["mixed_precision"]["low_level"]
    told = _identity(settings, record["data"][0]["sha256"], precision)
    if stored.get("identity") not in (None, told):  # None: by version 0.1
        raise UsageError(f"the checkpoint in {out} is that of an earlier run there: let the last one save its own")
    return LowLevelRun(encoder.eval(), record | {"steps": {"low_level": stored["step"]}})


def averaging_of(recipe: LowLevelRecipe, steps: int) -> float:
    """The decay of the moving average in a run of so many steps."""
    return min(recipe.averaging, max(0.0, 1 - LEAST_SPANS / steps))


def _features(model: nn.Module, pictures: Tensor) -> Tensor:
    features: Tensor = model(pictures.contiguous(memory_format=torch.channels_last))
    return features


def _identity(settings: dict[str, Any], photographs: str, mixed_precision: str) -> dict[str, Any]:
    return {"settings": settings, "photographs": photographs, "mixed_precision": mixed_precision}
