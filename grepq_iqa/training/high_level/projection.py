"""Train the projection of a tower's pooled features, so that sentences about quality mean something.

What projects the frozen tower's features is trained by four terms: ranking by known strength of distortion, within a
severity series and across series with clean starts; the order of neighbors on a series; captions, a softmax over all
sentences that occur; and, where its weight is above 0, the paper's group contrastive loss on unlabeled images. Then
good - bad is made invariant to light compression, which a tower made to recognize things takes for cleanliness. Then
the embedding is moved along good - bad by how cluttered a photograph is (see :mod:`.clutter`), after and not during
training, because ranking within contents would unlearn whatever differs between contents; and by the distance from an
undistorted picture that the distortion head tells (see :mod:`.distortion_head`). Last, the direction is reduced to what
in-the-wild images differ by (:mod:`.components`), and three things are added: how much a picture's best regions exceed
the whole (:mod:`.regions`), what the head tells of the distortions that photographs have most, and how much it is like
pristine photographs (:mod:`.likeness`). A constant part keeps the embedding's length, by which a cosine divides, from
following light distortions. No human score is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.pooling import standardize
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.captions import (
    ATTRIBUTE_PROMPTS,
    PROMPT_BAD,
    PROMPT_GOOD,
    caption_of,
    distortion_strength,
)
from grepq_iqa.training.data.distorted_copies import FAMILIES
from grepq_iqa.training.data.severity_series import SERIES_SEVERITIES
from grepq_iqa.training.high_level.clutter import clutter_direction, clutter_of
from grepq_iqa.training.high_level.components import leading_part
from grepq_iqa.training.high_level.distortion_head import OUTPUTS
from grepq_iqa.training.high_level.invariance import made_invariant
from grepq_iqa.training.high_level.likeness import taught_direction
from grepq_iqa.training.high_level.pooled_features import PooledSeries
from grepq_iqa.training.high_level.regions import fit_regions
from grepq_iqa.training.high_level.text_encoder import encode_sentences
from grepq_iqa.training.loop import Batch, LoopSettings, run
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, select_extremes
from grepq_iqa.training.losses.ranking import SeverityRankingLoss

COMPRESSION = ("jpeg", "jpeg2000", "webp")
GCL_DIM = 128
START_STD = 0.01  # of the random weights; it decides on the embedding's length, see EXPERIMENTS.md


@dataclass(frozen=True)
class ProjectionRecipe:
    """Settings of the compact model's high-level encoder.

    Attributes:
        model, layers, center_weighted, head: the EfficientNet, its pooled stages, whether they are pooled
            center-weighted, too, and whether the last map is.
        severity_series, crop: how many series of ``crop`` pixels.
        unlabeled_images: how many, evenly taken, for standardization and the group contrastive loss.
        dropout: of features, against leaning on single channels.
        across, neighbors, captions, gcl: weights of the loss terms beside the ranking within a series.
        clutter: its standard deviation along good - bad beside that of what distortions taught, below 0 where clutter
            costs score; 0 adds none; needs ``head``.
        distortion: the standard deviation of what the distortion head tells, likewise; needs ``[distortion_head]``.
        gcl_batch, gcl_extremes: images a step for the group contrastive loss, and how many best and worst of them.
        components: of in-the-wild images' features, to which good - bad is reduced; 0 does not.
        residual: the share that is kept of what these components do not hold, for distortions that no photograph has.
        region_layers: stages whose regions are compared; none compares none.
        region: the standard deviation along good - bad of what the best regions exceed the whole by, beside that of all
            before; 0 adds none.
        family_costs: of families of distortion that the head tells, what a standard deviation of each costs beyond all
            that, beside the standard deviation of all before; needs ``[distortion_head]``.
        likeness: the standard deviation along good - bad of how much a picture is like pristine photographs, beside
            that of all before; 0 adds none.
        likeness_components: of in-the-wild images' features, that it is told from.
        likeness_copies: of every pristine photograph.
        constant: length of what is added to every embedding, at a right angle to all prompts, by the mean length over
            unlabeled images; 0 adds nothing.
    """

    model: str
    layers: list[int]
    center_weighted: bool
    head: bool
    severity_series: int
    crop: int
    unlabeled_images: int
    steps: int
    batch_series: int
    learning_rate: float
    weight_decay: float
    dropout: float
    across: float
    neighbors: float
    clutter: float
    distortion: float
    captions: float
    caption_temperature: float
    gcl: float
    gcl_batch: int
    gcl_extremes: int
    gcl_temperature: float
    margin: float
    seed: int
    components: int = 0
    residual: float = 1.0
    region_layers: list[int] = field(default_factory=list)
    region: float = 0.0
    family_costs: dict[str, float] = field(default_factory=dict)
    likeness: float = 0.0
    likeness_components: int = 200
    likeness_copies: int = 8
    constant: float = 0.0

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.family_costs) - set(FAMILIES)):
            sentence = f"recipe: family_costs in [high_level]: no family {', '.join(unknown)}"
            raise UsageError(f"{sentence}; known: {', '.join(FAMILIES)}")


class Draws(Dataset[Batch]):
    """Which series and which unlabeled images each step takes, and the seed of its dropout.

    Item ``k`` is a pure function of the seed and ``k``.
    """

    def __init__(self, series: int, unlabeled: int, recipe: ProjectionRecipe) -> None:
        self.series, self.unlabeled, self.recipe = series, unlabeled, recipe

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + index)
        return {
            "series": torch.randint(self.series, (self.recipe.batch_series,), generator=generator),
            "unlabeled": torch.randint(self.unlabeled, (self.recipe.gcl_batch,), generator=generator),
            "seed": torch.randint(1 << 31, (), generator=generator),
        }


def train_projection(
    tower: PooledEfficientNet,
    data: PooledSeries,
    unlabeled: Tensor,
    recipe: ProjectionRecipe,
    out: Path,
    *,
    regions: Tensor | None = None,
    pristine: Tensor | None = None,
) -> dict[str, Tensor]:
    """Fill ``tower``'s projection.

    Args:
        tower: all else stays as it is; it standardizes by ``unlabeled``.
        data: pooled features of severity series.
        unlabeled: pooled features ``(n, d)`` of unlabeled images; they feed the group contrastive loss and set standard
            deviations.
        recipe: settings.
        out: folder of the run.
        regions: statistics ``(n, regions, dim)`` of the unlabeled images' regions, where the recipe compares them.
        pristine: pooled features ``(m, d)`` of pristine photographs, where the recipe looks for likeness to them.

    Returns:
        Prompts, name to unit vector.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    frozen = tower.distortion_features.start  # the rest, trained to see distortions, would outdo it
    linear = nn.Linear(frozen, tower.dim)
    nn.init.normal_(linear.weight, std=START_STD, generator=generator)
    nn.init.zeros_(linear.bias)

    captions = [[caption_of(steps) for steps in series] for series in data.steps]
    sentences = sorted({caption for series in captions for caption in series} | {PROMPT_GOOD, PROMPT_BAD})
    vectors = encode_sentences(sentences)
    position = {sentence: index for index, sentence in enumerate(sentences)}
    caption = torch.tensor([[position[c] for c in series] for series in captions])
    strength = torch.tensor([[distortion_strength(steps) for steps in series] for series in data.steps])
    good, bad = vectors[position[PROMPT_GOOD]], vectors[position[PROMPT_BAD]]

    random_projection = torch.randn(vectors.shape[1], GCL_DIM, generator=generator) / vectors.shape[1] ** 0.5
    rank = SeverityRankingLoss(margin=recipe.margin, temperature=0.3)
    group_loss = GroupContrastiveLoss(recipe.gcl_temperature)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        device = batch["series"].device  # of the trained layer; all else is on the CPU
        drawn = {name: tensor[0].cpu() for name, tensor in batch.items()}  # a batch is one item
        dropout = torch.Generator().manual_seed(int(drawn["seed"]))

        def embed(pooled: Tensor) -> Tensor:
            z = tower.standardize(pooled)[..., :frozen]
            keep = (torch.rand(z.shape, generator=dropout) >= recipe.dropout) / (1 - recipe.dropout)
            return F.normalize(model((z * keep).to(device)).cpu(), dim=-1)

        chosen = drawn["series"]
        embedding = embed(data.pooled[chosen])
        score = 10 * embedding @ (good - bad)
        clean = data.clean_start[chosen]
        terms = {
            "within": rank(score, strength[chosen]),
            "across": recipe.across * rank(score[clean].reshape(1, -1), strength[chosen][clean].reshape(1, -1)),
            "neighbors": recipe.neighbors * rank.neighbors(score[:, : 1 + len(SERIES_SEVERITIES)]),
            "captions": recipe.captions
            * F.cross_entropy(
                (embedding @ vectors.T).flatten(0, 1) / recipe.caption_temperature, caption[chosen].flatten()
            ),
        }
        if recipe.gcl:
            images = embed(unlabeled[drawn["unlabeled"]])
            best, worst = select_extremes(images @ (good - bad), recipe.gcl_extremes)
            z = F.relu(images @ random_projection)
            terms["gcl"] = recipe.gcl * group_loss(z[best], z[worst])
        return torch.stack(list(terms.values())).sum(), {name: term.item() for name, term in terms.items()}

    settings = LoopSettings(out, recipe.steps, batch_size=1, save_every=recipe.steps, workers=0)
    run(linear, loss_of, Draws(len(data.pooled), len(unlabeled), recipe), optimizer, schedule, settings)

    linear.cpu()
    with torch.no_grad():
        tower.projection.weight.zero_()[:, :frozen] = linear.weight
        tower.projection.bias.copy_(linear.bias)
    axis = F.normalize(good - bad, dim=0)
    if recipe.distortion:  # else nothing would see light compression at all
        _make_invariant_to_light_compression(tower, data, unlabeled, axis)
    std = (tower.project(unlabeled) @ axis).std()
    if recipe.clutter:
        _move_along(tower, axis, recipe.clutter * std, *_clutter(tower, data, unlabeled))
    if recipe.distortion:
        _move_along(tower, axis, -recipe.distortion * std, *_told(tower, "distance", unlabeled))
    if recipe.components:
        _reduce_to_components(tower, axis, unlabeled, recipe)
    if recipe.region:
        if regions is None:
            raise UsageError("recipe: region in [high_level] needs the regions' statistics of unlabeled images")
        excess = fit_regions(tower, regions, axis)
        unlabeled = unlabeled.clone()
        unlabeled[:, tower.region_features.start] = excess  # pooled before there was anything to compare regions by
        std = (tower.project(unlabeled) @ axis).std()
        _move_along(tower, axis, recipe.region * std, *_only(tower, tower.region_features.start, excess))
    if recipe.family_costs:
        std = (tower.project(unlabeled) @ axis).std()
        for family, cost in recipe.family_costs.items():
            _move_along(tower, axis, -cost * std, *_told(tower, family, unlabeled))
    if recipe.likeness:
        if pristine is None:
            raise UsageError("recipe: likeness in [high_level] needs pooled features of pristine photographs")
        quality = tower.project(unlabeled) @ axis
        likeness = _likeness(tower, pristine, unlabeled, quality, recipe)
        _move_along(tower, axis, recipe.likeness * quality.std(), *likeness)

    names = {"good": PROMPT_GOOD, "bad": PROMPT_BAD}
    for attribute, (high, low) in ATTRIBUTE_PROMPTS.items():
        names |= {f"{attribute}.high": high, f"{attribute}.low": low}
    prompts = dict(zip(names, encode_sentences(list(names.values())), strict=True))
    if recipe.constant:
        with torch.no_grad():
            embeddings = tower.project(unlabeled)
            tower.projection.bias.add_(constant_part(embeddings, torch.stack(list(prompts.values())), recipe.constant))
    return prompts


def constant_part(embeddings: Tensor, prompts: Tensor, length: float) -> Tensor:
    """What embeddings have in common at a right angle to all prompts, ``(dim,)``.

    Args:
        embeddings: ``(n, dim)``.
        prompts: ``(m, dim)``.
        length: that it is given, by the mean length of the embeddings.
    """
    basis = torch.linalg.qr(prompts.T).Q
    common = embeddings.mean(0)
    common = common - basis @ (basis.T @ common)
    scaled: Tensor = length * embeddings.norm(dim=1).mean() * F.normalize(common, dim=0)
    return scaled


@torch.no_grad()
def _make_invariant_to_light_compression(
    tower: PooledEfficientNet, data: PooledSeries, unlabeled: Tensor, axis: Tensor
) -> None:
    """Change the projection along ``axis`` so that a mildly compressed picture looks as the untouched one."""
    compressed = torch.tensor([steps[1][0][0] in COMPRESSION for steps in data.steps])
    clean, mild = (tower.standardize(data.pooled[compressed, level]) for level in (0, 1))
    direction = tower.projection.weight.T @ axis
    change = made_invariant(direction, mild - clean) - direction
    _move_along(tower, axis, 1.0, change, -float((tower.standardize(unlabeled) @ change).mean()))


@torch.no_grad()
def _move_along(tower: PooledEfficientNet, axis: Tensor, std: Tensor | float, weights: Tensor, offset: float) -> None:
    """Move embeddings along ``axis`` by ``std`` times ``z @ weights + offset`` of standardized features ``z``."""
    tower.projection.weight.add_(std * torch.outer(axis, weights))
    tower.projection.bias.add_(std * offset * axis)


def _clutter(tower: PooledEfficientNet, data: PooledSeries, unlabeled: Tensor) -> tuple[Tensor, float]:
    """Weights of standardized features and offset of a clutter of mean 0 and standard deviation 1."""
    if tower.head is None:
        raise UsageError("recipe: clutter is read from the last map, so it needs head = true")
    frozen = tower.distortion_features.start
    series = tower.standardize(data.pooled[:, : 1 + len(SERIES_SEVERITIES)])[..., :frozen]
    clutter = clutter_of(unlabeled[:, tower.head_features])
    weights, offset = clutter_direction(tower.standardize(unlabeled)[:, :frozen], clutter, series)
    return F.pad(weights, (0, tower.feature_dim - frozen)), offset


def _told(tower: PooledEfficientNet, output: str, unlabeled: Tensor) -> tuple[Tensor, float]:
    """The same of an output of the distortion head: the distance from an undistorted picture, or a family's amount."""
    if tower.distortion_head is None:
        raise UsageError("recipe: distortion and family_costs in [high_level] need a section [distortion_head]")
    index = tower.distortion_features.start + OUTPUTS.index(output)
    return _only(tower, index, unlabeled[:, index])


def _only(tower: PooledEfficientNet, index: int, unlabeled: Tensor) -> tuple[Tensor, float]:
    """The same of feature ``index`` alone, by its values ``(n,)`` of unlabeled images."""
    z = standardize(unlabeled, tower.pool_mean[index], tower.pool_scale[index], tower.CLIP)
    std = z.std().clamp_min(1e-12)
    weights = torch.zeros(tower.feature_dim)
    weights[index] = 1 / std
    return weights, -float(z.mean() / std)


def _likeness(
    tower: PooledEfficientNet, pristine: Tensor, unlabeled: Tensor, quality: Tensor, recipe: ProjectionRecipe
) -> tuple[Tensor, float]:
    """Weights of standardized features and offset of likeness to pristine photographs, by the frozen tower alone."""
    frozen = tower.distortion_features.start
    clean, wild = (tower.standardize(pooled)[:, :frozen] for pooled in (pristine, unlabeled))
    weights, offset = taught_direction(clean, wild, quality, _frozen_blocks(tower), recipe.likeness_components)
    return F.pad(weights, (0, tower.feature_dim - frozen)), offset


def _frozen_blocks(tower: PooledEfficientNet) -> list[int]:
    return tower.block_sizes[: len(tower.layers) + (tower.head is not None)]


@torch.no_grad()
def _reduce_to_components(tower: PooledEfficientNet, axis: Tensor, unlabeled: Tensor, recipe: ProjectionRecipe) -> None:
    """Change the projection along ``axis`` to what leading components of unlabeled images say, and a share of the rest.

    The components are those of the frozen tower's features: what the head has learned to tell is kept by what they
    share with it.
    """
    frozen = tower.distortion_features.start
    z = tower.standardize(unlabeled)[:, :frozen]
    weights, offset = leading_part(z, _frozen_blocks(tower), tower.project(unlabeled) @ axis, recipe.components)
    weights = F.pad(weights, (0, tower.feature_dim - frozen))
    before = tower.projection.weight.T @ axis, float(tower.projection.bias @ axis)
    share = 1 - recipe.residual
    _move_along(tower, axis, 1.0, share * (weights - before[0]), share * (offset - before[1]))
