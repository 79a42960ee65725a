"""Train the paper's high-level encoder: CLIP's RN50 tower by the group contrastive loss (docs/method.md, section 5).

The tower ranks each batch of unlabeled images itself, by two sentences; the best and the worst are what the loss
contrasts. Its BatchNorm stays in training mode, so running statistics are part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from grepq_iqa.encoders.clip_resnet import ClipResNetTower, MeanTokenAttentionPool
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import sha256_of
from grepq_iqa.training.data.pictures import read_picture
from grepq_iqa.training.data.prepare import Prepared
from grepq_iqa.training.high_level.activation_checkpoints import checkpoint_blocks, checkpoint_method
from grepq_iqa.training.high_level.run_files import write_encoder
from grepq_iqa.training.loop import Batch, LoopSettings, run
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, select_extremes
from grepq_iqa.training.processes import gathered, is_first, require_equal_shares
from grepq_iqa.training.recipe import describe
from grepq_iqa.training.run_record import describe_data, write_record
from grepq_iqa.weights.clip_prompts import prompt_vectors
from grepq_iqa.weights.import_official import CLIP_MEAN, CLIP_STD
from grepq_iqa.weights.tensors import POSITIONAL, misfits, read_safetensors

CLIP_REPO = "timm/resnet50_clip.openai"
"""Where the checkpoint comes from unless a file is given."""


@dataclass(frozen=True)
class ClipRecipe:
    """Settings of the paper's high-level training.

    Attributes:
        model: open_clip's name of the image tower.
        crop: side of the center crop at native resolution, in pixels.
        batch_size, extremes: images a step, and how many of them count as the best and as the worst.
        temperature: of the loss.
        projection_dim: width of the random projection in front of the loss, which is not trained.
        warmup_epochs: of a linear rise of the learning rate from 0, which then stays.
        prompt_good, prompt_bad: the sentences that rank a batch.
        positional_embedding: whether CLIP's is added and trained, as in the reference; the trained tower goes without.
        steps: a fixed number in place of ``epochs``.
    """

    model: str
    crop: int
    batch_size: int
    extremes: int
    temperature: float
    projection_dim: int
    epochs: int
    warmup_epochs: float
    learning_rate: float
    prompt_good: str
    prompt_bad: str
    seed: int
    steps: int = 0
    positional_embedding: bool = False


class CenterCrops(Dataset[dict[str, Tensor]]):
    """Center crops ``(3, crop, crop)`` of photographs at native resolution, each photograph once an epoch.

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
        picture = read_picture(self.photographs[int(order[position])])
        height, width = picture.shape[:2]
        if min(height, width) < self.crop:
            path = self.photographs[int(order[position])]
            raise UsageError(f"{path} is {width}x{height}, smaller than the crop of {self.crop} pixels")
        # Half to even, as torchvision's CenterCrop.
        y, x = round((height - self.crop) / 2), round((width - self.crop) / 2)
        crop = picture[y : y + self.crop, x : x + self.crop]
        return {"pictures": torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))}


def train_clip_tower(
    unlabeled: Prepared,
    recipe: ClipRecipe,
    checkpoint: Path,
    out: Path,
    *,
    recipe_name: str | None = None,
    source: str | None = None,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 100,
    mixed_precision: str = "no",
    checkpoint_activations: bool = False,
) -> HighLevelEncoder:
    """The tower trained on unlabeled images, left in ``out`` for ``export`` with its prompts and metrics.

    Args:
        unlabeled: images, as `prepare` listed them.
        recipe: settings.
        checkpoint: open_clip's of the whole CLIP model, safetensors: the start of the image tower, and the text tower.
        out: folder of the run.
        recipe_name: of the recipe, for the provenance.
        source: where the checkpoint came from, for the provenance; None: only its name and hash are known.
        resume, workers, save_every, mixed_precision: of the loop.
        checkpoint_activations: compute the maps of the tower's blocks a second time instead of keeping them, which
            takes a third more time and a fraction of the memory; the result is the same.

    Raises:
        UsageError: fewer images than a batch has, or a batch that processes cannot share equally.
        WeightsError: the checkpoint is not that of ``recipe.model``.
    """
    photographs = unlabeled.paths
    per_epoch = len(photographs) // recipe.batch_size
    if not per_epoch:
        raise UsageError(f"a batch takes {recipe.batch_size} photographs, but there are only {len(photographs)}")
    require_equal_shares(recipe.batch_size, "photographs")
    steps = recipe.steps or recipe.epochs * per_epoch
    torch.manual_seed(recipe.seed)
    state = read_safetensors(checkpoint)
    sentences = prompt_vectors(state, recipe.prompt_good, recipe.prompt_bad)
    axis = sentences["prompts.good"] - sentences["prompts.bad"]
    encoder = build_clip_encoder(recipe.model, state).to(memory_format=torch.channels_last)
    if recipe.positional_embedding:
        add_positional_embedding(encoder, state, recipe.crop)
    if checkpoint_activations:
        checkpoint_tower(encoder)
    projection = random_projection(encoder.dim, recipe.projection_dim, recipe.seed)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=recipe.learning_rate)
    warmup = int(recipe.warmup_epochs * per_epoch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / warmup) if warmup else 1.0)
    criterion = GroupContrastiveLoss(recipe.temperature)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        mine = model(batch["pictures"].contiguous(memory_format=torch.channels_last)).embedding.float()
        embedding = gathered(mine)  # the groups are those of the whole batch
        quality = F.normalize(embedding.detach(), dim=-1) @ axis.to(embedding.device)
        best, worst = select_extremes(quality, recipe.extremes)
        z = projection.to(embedding.device)(embedding)
        return criterion(z[best], z[worst]), {"gap": (quality[best].mean() - quality[worst].mean()).item()}

    data = CenterCrops(photographs, recipe.crop, per_epoch * recipe.batch_size, -(-steps // per_epoch), recipe.seed)
    base = {"name": f"CLIP {recipe.model}", "file": checkpoint.name, "sha256": sha256_of(checkpoint), "hub": source}
    identity = {
        "settings": describe(recipe),
        "unlabeled": unlabeled.sha256,
        "base_model": base["sha256"],
        "mixed_precision": mixed_precision,
    }
    settings = LoopSettings(out, steps, recipe.batch_size, save_every, workers, mixed_precision, identity)
    run(encoder, loss_of, data, optimizer, schedule, settings, resume=resume)
    pool_of(encoder).positional_embedding = None
    if not is_first():
        return encoder
    prompts = {name.removeprefix("prompts."): vector for name, vector in prompt_vectors(state).items()}
    write_encoder(encoder.cpu().eval(), clip_config(recipe.model), prompts, out)
    write_record(
        out,
        {"high_level": describe(recipe)},
        describe_data(unlabeled=unlabeled),
        recipe_name=recipe_name,
        base_model=base,
        mixed_precision={"high_level": mixed_precision},
        steps={"high_level": steps},
    )
    return encoder


def add_positional_embedding(encoder: HighLevelEncoder, state: dict[str, Tensor], crop: int) -> None:
    """Let the tower add the checkpoint's positional embedding, which fits one size of crops.

    Raises:
        UsageError: ``crop`` is another.
    """
    embedding = state[f"visual.{POSITIONAL}"].float()
    side = crop // 32
    if len(embedding) != 1 + side**2:
        fitting = 32 * round((len(embedding) - 1) ** 0.5)
        raise UsageError(f"positional_embedding = true needs crops of {fitting} pixels, not of {crop}")
    pool_of(encoder).positional_embedding = nn.Parameter(embedding.clone())


def pool_of(encoder: HighLevelEncoder) -> MeanTokenAttentionPool:
    """The attention pool of CLIP's tower."""
    assert isinstance(encoder.tower, ClipResNetTower)  # build_clip_encoder makes no other
    pool: MeanTokenAttentionPool = encoder.tower.visual.attnpool
    return pool


def checkpoint_tower(encoder: HighLevelEncoder) -> None:
    """Let the stem and the residual blocks of CLIP's tower keep their inputs only."""
    assert isinstance(encoder.tower, ClipResNetTower)  # build_clip_encoder makes no other
    visual = encoder.tower.visual
    checkpoint_method(visual, "stem")
    checkpoint_blocks(
        block for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4) for block in layer
    )


def random_projection(dim: int, out_dim: int, seed: int) -> nn.Module:
    """Linear and ReLU with random weights that depend on ``seed`` alone and are not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(dim, out_dim), nn.ReLU()).requires_grad_(False)


def clip_config(model: str) -> dict[str, Any]:
    """The ``high_level`` object of config.json for a CLIP tower."""
    return {"architecture": "open_clip", "model": model, "mean": list(CLIP_MEAN), "std": list(CLIP_STD)}


def build_clip_encoder(model: str, state: dict[str, Tensor]) -> HighLevelEncoder:
    """The image tower of an open_clip checkpoint.

    Raises:
        WeightsError: the checkpoint has another tower; the message names every key.
    """
    encoder = HighLevelEncoder(clip_config(model))
    given = {k: v.float() for k, v in state.items() if k.startswith("visual.") and not k.endswith(POSITIONAL)}
    if problems := misfits(given, encoder.tower.state_dict()):
        raise WeightsError(f"the checkpoint is not that of CLIP's {model}: {'; '.join(problems[:5])}", model)
    encoder.tower.load_state_dict(given, strict=False)
    return encoder
