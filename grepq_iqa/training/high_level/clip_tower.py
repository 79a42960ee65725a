"""Train the paper's high-level encoder: CLIP's RN50 tower by the group contrastive loss (METHOD section 5).

The tower ranks each batch of ordinary photographs itself, by two sentences; the best and the worst become two groups.
Its BatchNorm stays in training mode, so running statistics are part of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.training.data.pictures import read_photograph
from grepq_iqa.training.high_level.compact import write_high_level
from grepq_iqa.training.loop import Batch, LoopSettings, run
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, extreme_groups
from grepq_iqa.training.recipe import describe
from grepq_iqa.weights.clip_prompts import prompt_vectors
from grepq_iqa.weights.tensors import POSITIONAL, misfits, read_safetensors

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True)
class GroupRecipe:
    """Settings of the paper's high-level training.

    Attributes:
        model: open_clip's name of the image tower.
        crop: side of the centre crop at native resolution, in pixels.
        batch_size, group_size: photographs a step, and how many of them make the best and the worst group.
        temperature: of the loss.
        projection_dim: width of the random projection in front of the loss, which is not trained.
        warmup_epochs: of a linear rise of the learning rate, which then stays.
        prompt_good, prompt_bad: the sentences that rank a batch.
        steps: a fixed number in place of ``epochs``.
    """

    model: str
    crop: int
    batch_size: int
    group_size: int
    temperature: float
    projection_dim: int
    epochs: int
    warmup_epochs: float
    learning_rate: float
    prompt_good: str
    prompt_bad: str
    seed: int
    steps: int = 0


class CentreCrops(Dataset[dict[str, Tensor]]):
    """Centre crops ``(3, crop, crop)`` of photographs at native resolution, each photograph once an epoch.

    Item ``k`` is a pure function of the seed and ``k``; photographs that do not fill an epoch's last batch sit it out.
    """

    def __init__(self, photographs: list[Path], crop: int, per_epoch: int, epochs: int, seed: int) -> None:
        self.photographs, self.crop, self.seed = photographs, crop, seed
        self.per_epoch, self.epochs = per_epoch, epochs

    def __len__(self) -> int:
        return self.per_epoch * self.epochs

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, position = divmod(index, self.per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.photographs))
        picture = read_photograph(self.photographs[int(order[position])])
        height, width = picture.shape[:2]
        if min(height, width) < self.crop:
            path = self.photographs[int(order[position])]
            raise UsageError(f"{path} is {width}x{height}, smaller than the crop of {self.crop} pixels")
        y, x = (height - self.crop) // 2, (width - self.crop) // 2
        crop = picture[y : y + self.crop, x : x + self.crop]
        return {"pictures": torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))}


def train_clip_tower(
    photographs: list[Path],
    recipe: GroupRecipe,
    checkpoint: Path,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> HighLevelEncoder:
    """The tower trained on ``photographs``, written to ``out`` with its prompts and metrics.

    Args:
        checkpoint: open_clip's of the whole CLIP model, safetensors: the start of the image tower, and the text tower.

    Raises:
        UsageError: fewer photographs than a batch has.
        WeightsError: the checkpoint is not that of ``recipe.model``.
    """
    per_epoch = len(photographs) // recipe.batch_size
    if not per_epoch:
        raise UsageError(f"a batch takes {recipe.batch_size} photographs, but there are only {len(photographs)}")
    steps = recipe.steps or recipe.epochs * per_epoch
    torch.manual_seed(recipe.seed)
    state = read_safetensors(checkpoint)
    sentences = prompt_vectors(state, recipe.prompt_good, recipe.prompt_bad)
    axis = sentences["prompts.good"] - sentences["prompts.bad"]
    encoder = build_clip_encoder(recipe.model, state).to(memory_format=torch.channels_last)
    projection = random_projection(encoder.dim, recipe.projection_dim, recipe.seed)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=recipe.learning_rate)
    warmup = max(1, round(recipe.warmup_epochs * per_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / warmup))
    criterion = GroupContrastiveLoss(recipe.temperature)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        embedding = model(batch["pictures"].contiguous(memory_format=torch.channels_last)).embedding.float()
        quality = F.normalize(embedding.detach(), dim=-1) @ axis.to(embedding.device)
        best, worst = extreme_groups(quality, recipe.group_size)
        z = projection.to(embedding.device)(embedding)
        return criterion(z[best], z[worst]), {"gap": (quality[best].mean() - quality[worst].mean()).item()}

    data = CentreCrops(photographs, recipe.crop, per_epoch * recipe.batch_size, -(-steps // per_epoch), recipe.seed)
    settings = LoopSettings(out, steps, recipe.batch_size, save_every, workers, mixed_precision)
    run(encoder, loss_of, data, optimiser, schedule, settings, resume=resume, on_step=on_step)
    prompts = {name.removeprefix("prompts."): vector for name, vector in prompt_vectors(state).items()}
    write_high_level(encoder.cpu().eval(), clip_config(recipe.model), prompts, describe(recipe), out)
    return encoder


def random_projection(dim: int, out_dim: int, seed: int) -> nn.Module:
    """Linear and ReLU with random weights that depend on ``seed`` alone and are not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(dim, out_dim), nn.ReLU()).requires_grad_(False)


def clip_config(model: str) -> dict[str, Any]:
    """The ``high_level`` object of config.json for a CLIP tower."""
    return {"architecture": "open_clip", "model": model, "mean": CLIP_MEAN, "std": CLIP_STD}


def build_clip_encoder(model: str, state: dict[str, Tensor]) -> HighLevelEncoder:
    """The image tower of an open_clip checkpoint.

    Raises:
        WeightsError: the checkpoint has another tower; the message names every key.
    """
    encoder = HighLevelEncoder(clip_config(model))
    given = {k: v.float() for k, v in state.items() if k.startswith("visual.") and not k.endswith(POSITIONAL)}
    wanted = {k: v for k, v in encoder.tower.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in given.items() if not k.endswith("num_batches_tracked")}
    if problems := misfits(given, wanted):
        raise WeightsError(f"the checkpoint is not that of CLIP's {model}: {'; '.join(problems[:5])}", model)
    encoder.tower.load_state_dict(given, strict=False)
    return encoder
