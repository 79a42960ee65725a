"""Train the projection of a tower's statistics, so that sentences about quality mean something.

What projects the frozen tower's statistics is trained by four terms: ranking by known damage, within a ladder and
across ladders with clean starts; the order of neighbours on a ladder; captions, a softmax over all sentences that
occur; and the paper's group contrastive loss on ordinary photographs. Then good - bad is made blind to light
compression, which a tower made to recognise things takes for cleanliness. Last, the embedding is moved along good - bad
by how simple a photograph is (see :mod:`.simplicity`), after and not during training, because ranking within contents
would unlearn whatever differs between contents; and by the distance from an undamaged picture that is read (see
:mod:`.damage_reader`), which also sees light compression. No human score is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.encoders.high_level import PooledTimmTower
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.captions import ATTRIBUTE_PROMPTS, PROMPT_BAD, PROMPT_GOOD, caption_of, damage_of
from grepq_iqa.training.data.severity_series import RUNGS
from grepq_iqa.training.high_level.clutter import simplicity_direction, simplicity_of
from grepq_iqa.training.high_level.invariance import blinded
from grepq_iqa.training.high_level.pooled_features import LadderStatistics
from grepq_iqa.training.high_level.text_encoder import encode_sentences
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, extreme_groups
from grepq_iqa.training.losses.ranking import DamageRankingLoss

COMPRESSION = ("jpeg", "jpeg2000", "webp")


@dataclass(frozen=True)
class ProjectionRecipe:
    """Settings of the compact model's high-level encoder.

    Attributes:
        model, layers, centre, head: the timm tower, its pooled stages, whether their centres are pooled, too, and
            whether the last map is.
        ladders, crop: how many ladders of ``crop`` pixels.
        photographs: how many ordinary photographs, evenly taken, for standardisation and groups.
        dropout: of statistics, against leaning on single channels.
        across, neighbours, captions, groups: weights of the loss terms beside the ranking within a ladder.
        simplicity: its spread along good - bad beside the spread of what damage taught; 0 adds none; needs ``head``.
        damage: the spread of what is read of damage likewise; needs ``[damage]``.
        group_batch, group_size: photographs a step for the group contrastive loss, and members of a group.
    """

    model: str
    layers: list[int]
    centre: bool
    head: bool
    ladders: int
    crop: int
    photographs: int
    steps: int
    batch_ladders: int
    learning_rate: float
    weight_decay: float
    dropout: float
    across: float
    neighbours: float
    simplicity: float
    damage: float
    captions: float
    caption_temperature: float
    groups: float
    group_batch: int
    group_size: int
    group_temperature: float
    margin: float
    seed: int


def train_projection(
    tower: PooledTimmTower,
    data: LadderStatistics,
    ordinary: Tensor,
    recipe: ProjectionRecipe,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Fill ``tower``'s projection.

    Args:
        tower: all else stays as it is; it standardises by ``ordinary``.
        data: statistics of ladders, from :func:`~grepq_iqa.training.high_level.pooled_features.pool_ladders`.
        ordinary: statistics ``(n, d)`` of ordinary photographs; they feed the groups and set spreads.

    Returns:
        Prompts, name to unit vector; and the metrics of every step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    frozen = tower.damage_features.start  # what is read of damage has been trained, and would outdo all else
    linear = nn.Linear(frozen, tower.dim)
    nn.init.normal_(linear.weight, std=0.01, generator=generator)
    nn.init.zeros_(linear.bias)

    captions = [[caption_of(steps) for steps in ladder] for ladder in data.steps]
    sentences = sorted({caption for ladder in captions for caption in ladder} | {PROMPT_GOOD, PROMPT_BAD})
    vectors = encode_sentences(sentences)
    position = {sentence: index for index, sentence in enumerate(sentences)}
    caption = torch.tensor([[position[c] for c in ladder] for ladder in captions])
    damage = torch.tensor([[damage_of(steps) for steps in ladder] for ladder in data.steps])
    good, bad = vectors[position[PROMPT_GOOD]], vectors[position[PROMPT_BAD]]

    random_projection = torch.randn(vectors.shape[1], 128, generator=generator) / vectors.shape[1] ** 0.5
    rank = DamageRankingLoss(margin=recipe.margin, temperature=0.3)
    group_loss = GroupContrastiveLoss(recipe.group_temperature)
    optimiser = torch.optim.AdamW(linear.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)

    def embed(pooled: Tensor) -> Tensor:
        z = tower.standardise(pooled)[..., :frozen]
        keep = (torch.rand(z.shape, generator=generator) >= recipe.dropout) / (1 - recipe.dropout)
        return F.normalize(linear(z * keep), dim=-1)

    history = []
    for step in range(1, recipe.steps + 1):
        chosen = torch.randint(len(data.pooled), (recipe.batch_ladders,), generator=generator)
        embedding = embed(data.pooled[chosen])
        score = 10 * embedding @ (good - bad)
        clean = data.clean_start[chosen]
        terms = {
            "within": rank(score, damage[chosen]),
            "across": recipe.across * rank(score[clean].reshape(1, -1), damage[chosen][clean].reshape(1, -1)),
            "neighbours": recipe.neighbours * rank.neighbours(score[:, : 1 + len(RUNGS)]),
            "captions": recipe.captions
            * F.cross_entropy(
                (embedding @ vectors.T).flatten(0, 1) / recipe.caption_temperature, caption[chosen].flatten()
            ),
        }
        if recipe.groups:
            batch = torch.randint(len(ordinary), (recipe.group_batch,), generator=generator)
            photographs = embed(ordinary[batch])
            best, worst = extreme_groups(photographs @ (good - bad), recipe.group_size)
            z = F.relu(photographs @ random_projection)
            terms["groups"] = recipe.groups * group_loss(z[best], z[worst])
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        history.append({"step": step, "loss": loss.item(), **{name: term.item() for name, term in terms.items()}})

    with torch.no_grad():
        tower.projection.weight.zero_()[:, :frozen] = linear.weight
        tower.projection.bias.copy_(linear.bias)
    axis = F.normalize(good - bad, dim=0)
    if recipe.damage:  # else nothing would see light compression at all
        _blind_to_light_compression(tower, data, ordinary, axis)
    spread = (tower.project(ordinary) @ axis).std()
    if recipe.simplicity:
        _move_along(tower, axis, recipe.simplicity * spread, *_simplicity(tower, data, ordinary))
    if recipe.damage:
        _move_along(tower, axis, recipe.damage * spread, *_soundness(tower, ordinary))

    names = {"good": PROMPT_GOOD, "bad": PROMPT_BAD}
    for attribute, (high, low) in ATTRIBUTE_PROMPTS.items():
        names |= {f"{attribute}.high": high, f"{attribute}.low": low}
    prompts = dict(zip(names, encode_sentences(list(names.values())), strict=True))
    return prompts, history


@torch.no_grad()
def _blind_to_light_compression(tower: PooledTimmTower, data: LadderStatistics, ordinary: Tensor, axis: Tensor) -> None:
    """Change the projection along ``axis`` so that a compressed picture's first rung looks as the untouched one."""
    compressed = torch.tensor([steps[1][0][0] in COMPRESSION for steps in data.steps])
    clean, mild = (tower.standardise(data.pooled[compressed, rung]) for rung in (0, 1))
    direction = tower.projection.weight.T @ axis
    change = blinded(direction, mild - clean) - direction
    _move_along(tower, axis, 1.0, change, -float((tower.standardise(ordinary) @ change).mean()))


@torch.no_grad()
def _move_along(tower: PooledTimmTower, axis: Tensor, spread: Tensor | float, weights: Tensor, offset: float) -> None:
    """Move embeddings along ``axis`` by ``spread`` times ``z @ weights + offset`` of standardised statistics ``z``."""
    tower.projection.weight.add_(spread * torch.outer(axis, weights))
    tower.projection.bias.add_(spread * offset * axis)


def _simplicity(tower: PooledTimmTower, data: LadderStatistics, ordinary: Tensor) -> tuple[Tensor, float]:
    """Weights of standardised statistics and offset of a simplicity of mean 0 and spread 1 over ``ordinary``."""
    if tower.head is None:
        raise UsageError("recipe: simplicity is read from the last map, so it needs head = true")
    frozen = tower.damage_features.start
    ladders = tower.standardise(data.pooled[:, : 1 + len(RUNGS)])[..., :frozen]
    simplicity = simplicity_of(ordinary[:, tower.head_features])
    weights, offset = simplicity_direction(tower.standardise(ordinary)[:, :frozen], simplicity, ladders)
    return F.pad(weights, (0, tower.feature_dim - frozen)), offset


def _soundness(tower: PooledTimmTower, ordinary: Tensor) -> tuple[Tensor, float]:
    """The same of being undamaged: minus the distance that is read, the first of the damage features."""
    if tower.damage is None:
        raise UsageError("recipe: damage in [high_level] needs a section [damage]")
    weights = torch.zeros(tower.feature_dim)
    weights[tower.damage_features.start] = -1
    found = tower.standardise(ordinary) @ weights
    spread = found.std().clamp_min(1e-12)
    return weights / spread, -float(found.mean() / spread)
