"""Train the part of the compact model's tower that sees distortions, on crops whose distortions are known.

It starts as a copy of ImageNet's later stages. Its linear layer has to tell how far each copy of a crop is from the
untouched one (by DISTS over the frozen tower's maps, see `grepq_iqa.training.similarity.dists`) and how severe every
family of distortions is. No human score is used.

The spatial filters of the copy stay ImageNet's: only what mixes channels and normalizes them is trained. Gradients of
5x5 depthwise filters cost a CPU more than all the rest together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from grepq_iqa.encoders.distortion_head import DistortionHead
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.training.data.distorted_copies import FAMILIES, DistortedCopies
from grepq_iqa.training.data.prepare import Photograph, Prepared, evenly
from grepq_iqa.training.high_level.pooled_features import pool_photographs
from grepq_iqa.training.loop import Batch, LoopSettings, run, warmup_cosine
from grepq_iqa.training.losses.distortion import DistortionLoss
from grepq_iqa.training.processes import first_before_others, is_first
from grepq_iqa.training.recipe import describe
from grepq_iqa.training.run_record import run_key, state_hash
from grepq_iqa.training.similarity.dists import dists

OUTPUTS = ("distance", *FAMILIES)
FILE = "distortion_head.safetensors"


@dataclass(frozen=True)
class DistortionHeadRecipe:
    """Settings of this training.

    Attributes:
        start: the first stage that is copied.
        crop: side of a crop, in pixels.
        batch_images: crops a step, each with its distorted copies.
        unlabeled_images: how many, evenly taken, standardize the statistics.
        distance, severity, ranking: weights of the loss terms.
    """

    start: int
    crop: int
    batch_images: int
    unlabeled_images: int
    steps: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    distance: float
    severity: float
    ranking: float
    seed: int


def train_distortion_head(
    encoder: HighLevelEncoder,
    pristine: Prepared,
    unlabeled: Prepared,
    recipe: DistortionHeadRecipe,
    settings: LoopSettings,
    *,
    resume: bool = False,
) -> Path:
    """Train ``encoder.tower.distortion_head``, which holds ImageNet's weights, in place; nothing else changes.

    A finished one of the same recipe, data, start and code is only read.

    Args:
        encoder: of the compact model.
        pristine, unlabeled: photographs that crops are cut from.
        recipe: settings.
        settings: of the loop; a folder inside its ``out``, named by all of these, takes the run.
        resume: go on from the last checkpoint.

    Returns:
        The folder of the run.

    Raises:
        UsageError: the tower has no distortion head.
    """
    tower = encoder.tower
    if not isinstance(tower, PooledEfficientNet) or tower.distortion_head is None:
        raise UsageError("only an EfficientNet with `distortion_head` in its config has one to train")
    head = tower.distortion_head
    start = state_hash(nn.ModuleList([tower.stem, tower.stages, head]))  # no other part has a say in it
    identity = {
        "settings": describe(recipe),
        "pristine": pristine.sha256,
        "unlabeled": unlabeled.sha256,
        "start": start,
        "mixed_precision": settings.mixed_precision,
    }
    out = settings.out / f"distortion_head-{run_key(identity)}"
    if (out / FILE).exists():
        head.load_state_dict(load_file(out / FILE))
        return out
    torch.manual_seed(recipe.seed)
    student = _Student(head)
    with first_before_others():  # which then read what it has kept
        student.standardize(encoder, evenly(unlabeled.photographs, recipe.unlabeled_images), out, start)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    final_ratio = recipe.final_learning_rate / recipe.learning_rate
    schedule = warmup_cosine(optimizer, recipe.steps, recipe.warmup_steps, final_ratio)
    criterion = DistortionLoss(recipe.distance, recipe.severity, recipe.ranking)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        sets = batch["pictures"].shape[:2]
        encoder.to(batch["pictures"].device)  # the loop moves the student only
        pictures = (batch["pictures"].flatten(0, 1).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(pictures.device.type, torch.bfloat16, settings.mixed_precision == "bf16"):
            maps = list(tower.maps(encoder.normalize(pictures)))
            distance = dists([x.reshape(*sets, *x.shape[1:]) for x in maps])
        found = model(maps[tower.distortion_start]).reshape(*sets, -1)
        loss: tuple[Tensor, dict[str, float]] = criterion(found, distance, batch["severity"], batch["clean"])
        return loss

    length = recipe.steps * recipe.batch_images
    data = DistortedCopies(pristine.paths, unlabeled.paths, recipe.crop, length, recipe.seed)
    settings = replace(settings, out=out, identity=identity)
    run(student, loss_of, data, optimizer, schedule, settings, resume=resume)
    encoder.cpu()
    head.requires_grad_(False)
    if is_first():
        with replacing(out / FILE) as beside:
            save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, beside)
    return out


class _Student(nn.Module):
    """A :class:`DistortionHead` in training: what is frozen of it stays so, whatever mode the loop asks for."""

    def __init__(self, head: DistortionHead) -> None:
        super().__init__()
        self.head = head.requires_grad_(True)
        for module in head.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.requires_grad_(False)
        nn.init.zeros_(head.linear.weight)
        nn.init.zeros_(head.linear.bias)

    def standardize(self, encoder: HighLevelEncoder, photographs: list[Photograph], out: Path, weights: str) -> None:
        """Take mean and scale of the head's statistics from unlabeled images."""
        tower = encoder.tower
        assert isinstance(tower, PooledEfficientNet)  # train_distortion_head has looked

        def pool(x: Tensor) -> Tensor:
            return self.head.pooled(tower.distortion_map(encoder.normalize(x)))

        pooled = pool_photographs(pool, photographs, out, weights)
        self.head.mean.copy_(pooled.mean(0))
        self.head.scale.copy_(pooled.std(0).clamp_min(1e-5))

    def train(self, mode: bool = True) -> _Student:
        """Normalization keeps ImageNet's running statistics: copies of a few crops are no sample of photographs."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        amounts: Tensor = self.head(x)
        return amounts
