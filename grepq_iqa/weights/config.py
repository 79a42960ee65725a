"""config.json of a model directory: reading every format that was ever written, in the words of the last one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grepq_iqa.errors import WeightsError
from grepq_iqa.files import write_atomically
from grepq_iqa.weights import renamed

FORMAT = 3
"""1: up to version 0.1. 2: the field's words, see `grepq_iqa.weights.renamed`. 3: a model may have
``high_level.region_contrast``, ``low_level.ridge``, ``low_level.prior_patches``, ``low_level.center``,
``low_level.pooling``, ``fine_detail`` and ``predicted_fsim``, without which its scores are others."""


def read_config(name: str, path: Path) -> dict[str, Any]:
    """config.json as it stands in the file, checked for the keys that loading needs.

    Raises:
        WeightsError: it cannot be read, lacks keys, or is of a later format.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"config.json of {name!r} cannot be read: {error}", name, "config.json") from error
    if not isinstance(config, dict) or config.get("format") not in range(1, FORMAT + 1):
        found = config.get("format") if isinstance(config, dict) else None
        raise WeightsError(
            f"config.json of {name!r} has format {found!r}; this version reads 1 to {FORMAT}",
            name,
            "config.json",
            "update grepq-iqa",
        )
    missing = [key for key in ("low_level", "high_level") if key not in config]
    if missing:
        raise WeightsError(f"config.json of {name!r} lacks {', '.join(missing)}", name, "config.json")
    return config


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write config.json whole.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of any format as one of the last; what decides on scores is renamed, what tells of its making stays."""
    if config["format"] > 1:
        return dict(config)
    high = high_level_upgraded(config["high_level"])
    return {**config, "format": FORMAT, "high_level": high}


def high_level_upgraded(high: Mapping[str, Any]) -> dict[str, Any]:
    """The ``high_level`` object of format 1 in the words of format 2."""
    today = renamed.renamed(high, renamed.HIGH_LEVEL)
    if today.get("architecture") == "timm":
        today["architecture"] = "efficientnet"
    head = today.get("distortion_head")
    if head and "reads" in head:
        outputs = [renamed.DISTORTIONS.get(output, output) for output in head["reads"]]
        today["distortion_head"] = {"start": head["start"], "outputs": outputs}
    return today
