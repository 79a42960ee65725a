"""Train the projection of a frozen tower's statistics, so that sentences about quality mean something.

Four terms: ranking by known damage, within a ladder and across ladders with clean starts; the order of neighbours on a
ladder; captions, a softmax over all sentences that occur; and the paper's group contrastive loss on ordinary
photographs. Then the embedding is moved along good - bad by how simple a photograph is (see :mod:`.simplicity`): after
and not during training, because ranking within contents would unlearn whatever differs between contents. No human score
is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.encoders.high_level import PooledTimmTower
from grepq_iqa.errors import UsageError
from grepq_iqa.training.damage import ATTRIBUTE_PROMPTS, PROMPT_BAD, PROMPT_GOOD, caption_of, damage_of
from grepq_iqa.training.distortions import SEVERITIES
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, extreme_groups
from grepq_iqa.training.losses.ranking import DamageRankingLoss
from grepq_iqa.training.sentences import encode_sentences
from grepq_iqa.training.simplicity import simplicity_direction, simplicity_of
from grepq_iqa.training.statistics import LadderStatistics


@dataclass(frozen=True)
class ProjectionRecipe:
    """Settings of the compact model's high-level encoder.

    Attributes:
        model, layers, head: the timm tower, its pooled stages, and whether the last map is pooled, too.
        ladders, crop: how many ladders of ``crop`` pixels.
        photographs: how many ordinary photographs, evenly taken, for standardisation and groups.
        dropout: of statistics, against leaning on single channels.
        across, neighbours, captions, groups: weights of the loss terms beside the ranking within a ladder.
        simplicity: its spread along good - bad beside the spread of what damage taught; 0 adds none; needs ``head``.
        group_batch, group_size: photographs a step for the group contrastive loss, and members of a group.
    """

    model: str
    layers: list[int]
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
    captions: float
    caption_temperature: float
    groups: float
    group_batch: int
    group_size: int
    group_temperature: float
    margin: float
    seed: int


def train_projection(
    tower: PooledTimmTower, data: LadderStatistics, ordinary: Tensor, recipe: ProjectionRecipe
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Fill ``tower``'s projection and standardisation.

    Args:
        tower: its stem and stages stay as they are.
        data: statistics of ladders, from :func:`~grepq_iqa.training.statistics.pool_ladders`.
        ordinary: statistics ``(n, d)`` of ordinary photographs; they set the standardisation and feed the groups.

    Returns:
        Prompts, name to unit vector; and the metrics of every step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    tower.pool_mean.copy_(ordinary.mean(0))
    tower.pool_scale.copy_(ordinary.std(0).clamp_min(1e-5))
    nn.init.normal_(tower.projection.weight, std=0.01, generator=generator)
    nn.init.zeros_(tower.projection.bias)

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
    optimiser = torch.optim.AdamW(
        tower.projection.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)

    def embed(pooled: Tensor) -> Tensor:
        keep = (torch.rand(pooled.shape, generator=generator) >= recipe.dropout) / (1 - recipe.dropout)
        return F.normalize(tower.projection(tower.standardise(pooled) * keep), dim=-1)

    history = []
    for step in range(1, recipe.steps + 1):
        chosen = torch.randint(len(data.pooled), (recipe.batch_ladders,), generator=generator)
        embedding = embed(data.pooled[chosen])
        score = 10 * embedding @ (good - bad)
        clean = data.clean_start[chosen]
        terms = {
            "within": rank(score, damage[chosen]),
            "across": recipe.across * rank(score[clean].reshape(1, -1), damage[chosen][clean].reshape(1, -1)),
            "neighbours": recipe.neighbours * rank.neighbours(score[:, : 1 + len(SEVERITIES)]),
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

    if recipe.simplicity:
        _add_simplicity(tower, data, ordinary, F.normalize(good - bad, dim=0), recipe.simplicity)

    names = {"good": PROMPT_GOOD, "bad": PROMPT_BAD}
    for attribute, (high, low) in ATTRIBUTE_PROMPTS.items():
        names |= {f"{attribute}.high": high, f"{attribute}.low": low}
    prompts = dict(zip(names, encode_sentences(list(names.values())), strict=True))
    return prompts, history


@torch.no_grad()
def _add_simplicity(
    tower: PooledTimmTower, data: LadderStatistics, ordinary: Tensor, axis: Tensor, share: float
) -> None:
    """Move embeddings along ``axis`` by their simplicity, ``share`` of the spread that they have there already."""
    if tower.head is None:
        raise UsageError("recipe: simplicity is read from the last map, so it needs head = true")
    z = tower.standardise(ordinary)
    ladders = tower.standardise(data.pooled[:, : 1 + len(SEVERITIES)].flatten(0, 1)).unflatten(
        0, (len(data.pooled), -1)
    )
    weights, offset = simplicity_direction(z, simplicity_of(ordinary[:, -tower.block_sizes[-1] :]), ladders)
    spread = share * (tower.projection(z) @ axis).std()
    tower.projection.weight.add_(spread * torch.outer(axis, weights))
    tower.projection.bias.add_(spread * offset * axis)
