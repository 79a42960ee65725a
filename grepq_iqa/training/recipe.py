"""Recipes: the settings of a training run, one small TOML file each."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.weights import renamed
from grepq_iqa.zero_shot import POOLINGS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

T = TypeVar("T")

_OF_COPIES = ("crop", "copies_max_side", "distortions_per_image", "levels_per_distortion", "families", "seed")


@dataclass(frozen=True)
class LowLevelRecipe:
    """Settings of the low-level encoder's training (docs/method.md, section 4). Give ``steps`` or ``epochs``.

    Attributes:
        crop: side of the random square that stands for a photograph, in pixels; 0 takes the whole photograph.
        grid, cell: a fragment view has ``grid * grid`` crops of ``cell`` pixels.
        distortions_per_image, levels_per_distortion: an item is the photograph and their product of distorted copies.
        families: names in ``distortions.DISTORTIONS`` to draw from, or "all".
        fixed_copies: a photograph is distorted in the same way every epoch, in 8-bit copies as files have, so that they
            and their FSIM matrix can be kept.
        copies_max_side: photographs with a longer side are shrunk to this one before fixed copies are made; 0 never.
        equal_cells: fragments as the reference cuts them, see `fragments.fragment_positions`.
        separate_views: each view goes through the encoder by itself, so BatchNorm sees one view at a time and updates
            its running statistics twice a step.
        short_batches: the last batch of an epoch is as short as it comes; otherwise batches run on into the next.
        similarity_power: FSIM is raised to this power before it weights pairs; the paper's is 1.
        averaging: decay of the moving average of the weights that is the result of the run, or less in a short run; 0:
            the last weights are the result.
    """

    crop: int
    grid: int
    cell: int
    distortions_per_image: int
    levels_per_distortion: int
    families: list[str] | str
    temperature: float
    similarity_power: float
    batch_images: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    seed: int
    steps: int = 0
    epochs: int = 0
    fixed_copies: bool = False
    copies_max_side: int = 0
    equal_cells: bool = False
    separate_views: bool = False
    short_batches: bool = False
    averaging: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.averaging < 1:
            raise UsageError(f"recipe: averaging in [low_level] is a decay from 0 to below 1, not {self.averaging}")


@dataclass(frozen=True)
class FeatureRecipe:
    """How much each block of features counts in a regression on few labels, 1 being most.

    Attributes:
        low_level: the low-level encoder's features.
        layers: one a pooled stage of the high-level tower, or one for the whole of a tower without stages.
        head: the tower's last map, where it is pooled.
        distortion: the amounts of distortion, where there are any.
        region: the contrast of regions, where there is one.
        fine: the amounts of light distortions, where there are any.
    """

    low_level: float
    layers: list[float]
    head: float = 1.0
    distortion: float = 1.0
    region: float = 1.0
    fine: float = 1.0


@dataclass(frozen=True)
class ScoringRecipe:
    """How Q_L and Q_H share Q, by their standard deviations over unlabeled in-the-wild images.

    The paper's scales suit its own encoders.

    Attributes:
        high_level_std: standard deviation of Q_H; 0 keeps the paper's scales of both parts, 10 and 100.
        low_level_ratio: standard deviation of Q_L, by that of Q_H.
        ridge: of the distance to pristine patches; 0 is the paper's, 0.001.
        prior_patches: how many patches of its own the pristine covariance counts for beside a picture's; 0 is the
            paper's, equal shares.
        center: standard deviation of a Gaussian around the middle by which a picture's patches count, in halves of its
            sides; 0 is the paper's, all alike.
        pooling: "mean", the distance of a picture's mean patch, which is the paper's, or "median", that of the
            patches' own distances.

    Raises:
        UsageError: another pooling.
    """

    high_level_std: float
    low_level_ratio: float = 0.0
    ridge: float = 0.0
    prior_patches: float = 0.0
    center: float = 0.0
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise UsageError(f"[scoring]: pooling {self.pooling!r} is none of {', '.join(POOLINGS)}")


@dataclass(frozen=True)
class FineDetailRecipe:
    """Settings of the full-resolution branch.

    Attributes:
        series: crops with more and more of one thing, half of them clean ones.
        epochs: of the small networks that learn from them.
        weight: what an amount of one costs, in standard deviations over unlabeled in-the-wild images of the projection
            on good - bad: one number for every kind, or one each.
        close_up: what an amount counts that only close-ups of a large picture show.
    """

    series: int
    weight: float | list[float]
    close_up: float = 0.5
    epochs: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        from grepq_iqa.encoders.fine_detail import AMOUNTS  # here, for --help needs none of what it imports

        if isinstance(self.weight, list) and len(self.weight) != len(AMOUNTS):
            raise UsageError(f"recipe: weight in [fine_detail] is one number, or one each for {', '.join(AMOUNTS)}")


@dataclass(frozen=True)
class PredictedFsimRecipe:
    """Settings of what predicts FSIM without a reference; needs ``[distortion_head]``.

    Attributes:
        series: crops of clean photographs with their distorted copies.
        unlabeled_images: photographs of which nothing is known, evenly taken.
        weight: what the way from the worst copy to the untouched crop is worth, in standard deviations over unlabeled
            in-the-wild images of the projection on good - bad.
        crop: of series, in pixels.
        epochs: of the small networks that learn from both.
    """

    series: int
    unlabeled_images: int
    weight: float
    crop: int = 384
    epochs: int = 60
    seed: int = 0


@dataclass(frozen=True)
class RatingsRecipe:
    """Settings of the ratings predictor; the penalty of its linear half is chosen by leave-one-out.

    Attributes:
        components: of the features that the kernel half looks at.
        kernel_penalty: of that half.
        network_share: of small networks beside the mean of ridge and kernel ridge; 0 trains none.
        networks, hidden, epochs: how many, of how many hidden units, trained for how long.
        copies: of every photograph, mirrored and cut, that the networks also learn from.
        score_share: of Q_H beside all that, both by their standard deviations.
        clip: limit of standardized features.
        parts: of the range of expected opinions, each with residual quantiles of its own.
    """

    score_share: float
    components: int = 48
    kernel_penalty: float = 0.05
    clip: float = 3.0
    parts: int = 5
    network_share: float = 0.0
    networks: int = 3
    hidden: int = 32
    epochs: int = 20
    copies: int = 0


@dataclass(frozen=True)
class ExportRecipe:
    """What export measures and fixes.

    Attributes:
        most: unlabeled images for the tables of quantiles and scales, at most.
        max_side: longest side that the model looks at, in pixels; 0 for any.
    """

    most: int = 2500
    max_side: int = 1024


@dataclass(frozen=True)
class ExpectedRecipe:
    """What a model made by this recipe reached.

    Attributes:
        data: on what, in words.
        srcc: "zero-shot" or a number of labels, to the median SRCC.
    """

    data: str
    srcc: dict[str, float]


@dataclass(frozen=True)
class ProvenanceRecipe:
    """What a model made by this recipe says of itself.

    Attributes:
        human_scores: how human scores were used in choosing the recipe, a sentence; the training of the
            encoders reads none.
    """

    human_scores: str


def load_recipe(name: str, section: str, kind: type[T], **overrides: Any) -> T:
    """The ``section`` of recipe ``name`` (a bundled name or a TOML file) as ``kind``; an override of None is ignored.

    Raises:
        UsageError: no such recipe, no such section, or a key that is missing or unknown.
    """
    path, settings = _read_section(name, section)
    settings |= {key: value for key, value in overrides.items() if value is not None}
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    required = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}  # type: ignore[arg-type]
    wrong = sorted(set(settings) - names) + sorted(required - set(settings))
    if wrong:
        raise UsageError(f"{path} [{section}]: unknown or missing settings: {', '.join(wrong)}")
    return kind(**settings)


def has_setting(name: str, section: str, setting: str) -> bool:
    """Whether recipe ``name`` sets ``setting`` in ``section``: tells one kind of training from another.

    Raises:
        UsageError: no such recipe or section.
    """
    return setting in _read_section(name, section)[1]


def has_section(name: str, section: str) -> bool:
    """Whether recipe ``name`` has ``section``.

    Raises:
        UsageError: no such recipe.
    """
    return section in _read(name)[1]


def section_of(name: str, section: str) -> dict[str, Any]:
    """The settings that recipe ``name`` writes in ``section``, in today's words; none where it has no such section.

    Raises:
        UsageError: no such recipe.
    """
    settings: dict[str, Any] = _read(name)[1].get(section, {})
    return settings


def recipe_label(name: str) -> str:
    """What config.json and the model card call recipe ``name``: a bundled one's name, or that of the file."""
    return Path(name).name


def describe(recipe: object) -> dict[str, Any]:
    """The settings as plain values, for config.json and checkpoints."""
    values: dict[str, Any] = asdict(recipe)  # type: ignore[call-overload]
    return values


def key_of_copies(recipe: LowLevelRecipe) -> str:
    """12 hex digits that change with the settings that draw a photograph's fixed copies, and with the version."""
    described = describe(recipe)
    settings = {name: described[name] for name in _OF_COPIES} | {"bits": 8, "code": __version__}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _read_section(name: str, section: str) -> tuple[Path, dict[str, Any]]:
    path, sections = _read(name)
    if section not in sections:
        raise UsageError(f"{path} has no section [{section}]")
    return path, sections[section]


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    """Path and sections of a recipe, in today's words whatever those of the file are."""
    path = Path(name)
    if not name.endswith(".toml"):
        path = Path(str(resources.files("grepq_iqa.training") / "recipes" / f"{name}.toml"))
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.toml"))
        raise UsageError(f"no recipe {name!r}: give a .toml file or one of {', '.join(known)}")
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    sections = renamed.renamed(written, renamed.RECIPE_SECTIONS)
    clip = "batch_size" in sections.get("high_level", {})
    return path, {
        section: renamed.recipe_section("high_level_clip" if section == "high_level" and clip else section, settings)
        for section, settings in sections.items()
    }
