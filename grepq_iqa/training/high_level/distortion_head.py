"""Train the part of the compact model's tower that sees damage, on crops whose damage is known.

It starts as a copy of ImageNet's later stages. Its linear layer has to tell how far each version of a crop is from the
untouched one (by the distance of the frozen tower's maps, see :mod:`.map_distance`) and how severe every family of
damage is. No human score is used.

The spatial filters of the copy stay ImageNet's: only what mixes channels and normalises them is trained. Gradients of
5x5 depthwise filters cost a CPU more than all the rest together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from grepq_iqa.encoders.distortion_head import DamageReader
from grepq_iqa.encoders.high_level import HighLevelEncoder, PooledTimmTower
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.distorted_copies import FAMILIES, DamagedVersions
from grepq_iqa.training.high_level.pooled_features import pool_photographs
from grepq_iqa.training.loop import Batch, LoopSettings, run, warmup_cosine
from grepq_iqa.training.losses.distortion import DamageLoss
from grepq_iqa.training.similarity.dists import map_distance

READS = ("distance", *FAMILIES)
FILE = "damage.safetensors"


@dataclass(frozen=True)
class DamageRecipe:
    """Settings of this training.

    Attributes:
        start: the first stage that is copied.
        crop: side of a crop, in pixels.
        batch_groups: groups of versions a step.
        photographs: how many ordinary ones, evenly taken, standardise the statistics.
        distance, severity, ranking: weights of the loss terms.
    """

    start: int
    crop: int
    batch_groups: int
    photographs: int
    steps: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    distance: float
    severity: float
    ranking: float
    seed: int


def train_damage_reader(
    encoder: HighLevelEncoder,
    pristine: list[Path],
    ordinary: list[Path],
    recipe: DamageRecipe,
    settings: LoopSettings,
    *,
    resume: bool = False,
) -> None:
    """Train ``encoder.tower.damage``, which holds ImageNet's weights, in place; nothing else of ``encoder`` changes.

    A finished one in ``settings.out`` is only read.

    Raises:
        UsageError: the tower has nothing that reads damage.
    """
    tower = encoder.tower
    if not isinstance(tower, PooledTimmTower) or tower.damage is None:
        raise UsageError("only a timm tower with `damage` in its config reads damage")
    if (settings.out / FILE).exists():
        tower.damage.load_state_dict(load_file(settings.out / FILE))
        return
    settings.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    student = _Student(tower.damage)
    student.standardise(encoder, ordinary[:: max(1, len(ordinary) // recipe.photographs)], settings.out)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    final_ratio = recipe.final_learning_rate / recipe.learning_rate
    schedule = warmup_cosine(optimiser, recipe.steps, recipe.warmup_steps, final_ratio)
    criterion = DamageLoss(recipe.distance, recipe.severity, recipe.ranking)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        groups = batch["pictures"].shape[:2]
        pictures = (batch["pictures"].flatten(0, 1).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(pictures.device.type, torch.bfloat16, settings.mixed_precision == "bf16"):
            maps = list(tower.maps(encoder.normalise(pictures)))
            distance = map_distance([x.unflatten(0, groups) for x in maps])
        found = model(maps[tower.damage_start]).unflatten(0, groups)
        return criterion(found, distance, batch["severity"], batch["clean"])

    data = DamagedVersions(pristine, ordinary, recipe.crop, recipe.steps * recipe.batch_groups, recipe.seed)
    run(student, loss_of, data, optimiser, schedule, settings, resume=resume)
    tower.damage.requires_grad_(False)
    save_file({name: tensor.contiguous() for name, tensor in tower.damage.state_dict().items()}, settings.out / FILE)


class _Student(nn.Module):
    """A :class:`DamageReader` in training: what is frozen of it stays so, whatever mode the loop asks for."""

    def __init__(self, reader: DamageReader) -> None:
        super().__init__()
        self.reader = reader.requires_grad_(True)
        for module in reader.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.requires_grad_(False)
        nn.init.zeros_(reader.read.weight)
        nn.init.zeros_(reader.read.bias)

    def standardise(self, encoder: HighLevelEncoder, photographs: list[Path], out: Path) -> None:
        """Take mean and scale of the reader's statistics from ordinary photographs."""
        tower = encoder.tower
        assert isinstance(tower, PooledTimmTower)  # train_damage_reader has looked

        def pool(x: Tensor) -> Tensor:
            return self.reader.pooled(next(islice(tower.maps(encoder.normalise(x)), tower.damage_start, None)))

        pooled = pool_photographs(pool, photographs, out / "start.safetensors")
        self.reader.mean.copy_(pooled.mean(0))
        self.reader.scale.copy_(pooled.std(0).clamp_min(1e-5))

    def train(self, mode: bool = True) -> _Student:
        """Normalisation keeps ImageNet's running statistics: versions of a few crops are no sample of photographs."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(x)
