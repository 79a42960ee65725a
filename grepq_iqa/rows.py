"""What became of one picture, as the row that the command line writes and the server answers: names and digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grepq_iqa.batch import Result
    from grepq_iqa.model import GRepQ

RESULT_FIELDS = {
    "score": ("path", "score", "low_level", "high_level", "percentile", "warnings", "error"),
    "predict": ("path", "mos", "low", "high", "warnings", "error"),
    "explain": (
        *("path", "score", "percentile", "sharpness", "noise", "compression", "dark", "bright", "contrast"),
        *("color_cast", "saturation", "over_sharpening", "upscaling", "reasons", "sentence", "warnings", "error"),
    ),
    "pick": ("path", "group", "pick", "score", "mos", "percentile", "taken", "why", "error"),
}
"""Fields of the rows of each command, in order: the header by which a file of them is known."""

TEXTS, LISTS = {"path", "taken", "why", "sentence", "error"}, {"reasons", "warnings"}
"""Fields that hold text, or lists of texts (in CSV joined by "; "); all others hold numbers or nothing."""

TABLE_FIELDS = RESULT_FIELDS | {"explain": ("path", "score", "percentile", "sentence", "warnings", "error")}
"""What of them a table on a terminal has room for."""


def score_row(result: Result) -> dict[str, Any]:
    """Zero-shot scores by name; empty after an error."""
    if result.score is None:
        return {}
    found = result.score
    return {
        "score": found.score,
        "low_level": found.low_level,
        "high_level": found.high_level,
        "percentile": found.percentile,
        "warnings": list(found.warnings),
    }


def predict_row(model: GRepQ, result: Result, confidence: float) -> dict[str, Any]:
    """Prediction and interval by name; ends that too few labels leave open are None; empty after an error.

    Args:
        model: that predicts.
        result: with features.
        confidence: of the interval, in (0, 1).
    """
    if result.score is None or result.features is None:
        return {}
    import numpy as np

    prediction = model.predict(features=result.features[None], confidence=confidence)
    mos, low, high = (np.ravel(v)[0].item() for v in (prediction.mos, prediction.low, prediction.high))
    notes = list(result.score.warnings)
    if not math.isfinite(high - low):
        notes.append(f"too few labels for a {confidence:.0%} interval")
        low, high = None, None
    return {"mos": mos, "low": low, "high": high, "warnings": notes}


def completed(command: str, result: Result, row: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the row of ``command``, numbers rounded; those that ``row`` lacks are None."""
    whole = {"path": result.path, "warnings": [], "error": result.error} | dict(row)
    return {field: rounded(whole.get(field)) for field in RESULT_FIELDS[command]}


def rounded(value: Any) -> Any:
    """Six significant digits say all that a score knows; tuples become lists."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return list(value) if isinstance(value, tuple) else value
