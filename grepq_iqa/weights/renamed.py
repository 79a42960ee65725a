"""Words of earlier versions -> today's: what users have on disk is read for ever.

Format 1 of config.json and of recipes (up to version 0.1) said damage for distortion, ladders for severity series,
groups for three things, and wrote some words in British spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DISTORTIONS = {"colour_cast": "color_cast", "quantisation": "quantization"}

HIGH_LEVEL = {"centre": "center_weighted", "damage": "distortion_head"}

TENSORS = {"encoder.damage.read.": "encoder.distortion_head.linear.", "encoder.damage.": "encoder.distortion_head."}
PROMPTS = {"colourfulness.high": "colorfulness.high", "colourfulness.low": "colorfulness.low"}

RECIPE_SECTIONS = {"damage": "distortion_head"}
RECIPE_KEYS: dict[str, dict[str, str]] = {
    "low_level": {
        "distortions_per_group": "distortions_per_image",
        "fixed_versions": "fixed_copies",
        "batch_groups": "batch_images",
    },
    "distortion_head": {"batch_groups": "batch_images", "photographs": "unlabeled_images"},
    "high_level": {
        "centre": "center_weighted",
        "ladders": "severity_series",
        "photographs": "unlabeled_images",
        "batch_ladders": "batch_series",
        "neighbours": "neighbors",
        "damage": "distortion",
        "groups": "gcl",
        "group_batch": "gcl_batch",
        "group_size": "gcl_extremes",
        "group_temperature": "gcl_temperature",
    },
    "high_level_clip": {"group_size": "extremes"},  # the paper's tower has settings of its own
    "scoring": {"high_level_spread": "high_level_std", "low_level_share": "low_level_ratio"},
    "features": {"damage": "distortion"},
}


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``values`` under today's keys, in the same order."""
    return {names.get(key, key): value for key, value in values.items()}


def recipe_section(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One section of a recipe in today's words; those of today stay.

    Args:
        section: today's name of it; "high_level_clip" for that of a CLIP tower.
        settings: as they stand.
    """
    today = renamed(settings, RECIPE_KEYS.get(section, {}))
    if "simplicity" in today:  # clutter is its opposite
        today["clutter"] = -today.pop("simplicity")
    if isinstance(today.get("families"), list):
        today["families"] = [DISTORTIONS.get(name, name) for name in today["families"]]
    return today


def tensor_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of an encoder's file under today's names."""
    return {_tensor_name(name): tensor for name, tensor in tensors.items()}


def _tensor_name(name: str) -> str:
    for old, new in TENSORS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
