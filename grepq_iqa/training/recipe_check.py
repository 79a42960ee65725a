"""Every section of a recipe, read before the first stage: what is wrong in the last one must not cost hours."""

from __future__ import annotations

from grepq_iqa.errors import UsageError
from grepq_iqa.training.high_level.clip_tower import ClipRecipe
from grepq_iqa.training.high_level.distortion_head import DistortionHeadRecipe
from grepq_iqa.training.high_level.projection import ProjectionRecipe
from grepq_iqa.training.recipe import (
    ExpectedRecipe,
    ExportRecipe,
    FeatureRecipe,
    FineDetailRecipe,
    LowLevelRecipe,
    PredictedFsimRecipe,
    ProvenanceRecipe,
    RatingsRecipe,
    ScoringRecipe,
    has_section,
    load_recipe,
)
from grepq_iqa.training.stages import is_compact

NEEDED = {"low_level": LowLevelRecipe, "scoring": ScoringRecipe, "features": FeatureRecipe}
OPTIONAL = {
    "distortion_head": DistortionHeadRecipe,
    "fine_detail": FineDetailRecipe,
    "predicted_fsim": PredictedFsimRecipe,
    "export": ExportRecipe,
    "ratings": RatingsRecipe,
    "provenance": ProvenanceRecipe,
    "expected": ExpectedRecipe,
}


def check_recipe(name: str) -> None:
    """Read what the stages will read.

    Args:
        name: of a bundled recipe, or a file.

    Raises:
        UsageError: no such recipe, a section that is missing, or settings that are unknown, missing or senseless.
    """
    kinds = NEEDED | {"high_level": ProjectionRecipe if is_compact(name) else ClipRecipe}
    for section, kind in kinds.items():
        load_recipe(name, section, kind)
    for section, kind in OPTIONAL.items():
        if has_section(name, section):
            load_recipe(name, section, kind)
    if has_section(name, "predicted_fsim") and not has_section(name, "distortion_head"):
        raise UsageError(f"recipe {name}: [predicted_fsim] needs a section [distortion_head], whose answers it reads")
    if is_compact(name):
        _check_together(name)


def _check_together(name: str) -> None:
    """What sections of the compact recipe ask of each other."""
    high = load_recipe(name, "high_level", ProjectionRecipe)
    weights = load_recipe(name, "features", FeatureRecipe)
    wrong = {
        f"layers in [features] are {len(weights.layers)} weights, not one for each of the {len(high.layers)} layers in "
        "[high_level]": len(weights.layers) != len(high.layers),
        "distortion and family_costs in [high_level] need a section [distortion_head]": bool(
            high.distortion or high.family_costs
        )
        and not has_section(name, "distortion_head"),
        "clutter in [high_level] needs head = true, whose map it looks at": bool(high.clutter) and not high.head,
        "region in [high_level] needs region_layers": bool(high.region) and not high.region_layers,
        "region_layers in [high_level] are some of its layers": not set(high.region_layers) <= set(high.layers),
    }
    for sentence in (sentence for sentence, is_so in wrong.items() if is_so):
        raise UsageError(f"recipe {name}: {sentence}")
