"""No-reference image quality assessment: zero-shot scores, and predictions on your own scale (GRepQ, WACV 2024).

>>> from grepq_iqa import GRepQ
>>> GRepQ.from_pretrained().score("photo.jpg")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grepq_iqa._version import __version__

if TYPE_CHECKING:
    from grepq_iqa.calibration.regressor import MOSRegressor
    from grepq_iqa.data.images import load_image
    from grepq_iqa.errors import GrepqError, ImageError, LabelsError, NotFittedError, UsageError, WeightsError
    from grepq_iqa.model import GRepQ
    from grepq_iqa.results import Explanation, Prediction, Reason, Score

__all__ = [
    "Explanation",
    "GRepQ",
    "GrepqError",
    "ImageError",
    "LabelsError",
    "MOSRegressor",
    "NotFittedError",
    "Prediction",
    "Reason",
    "Score",
    "UsageError",
    "WeightsError",
    "__version__",
    "load_image",
]

_ERRORS = ("GrepqError", "ImageError", "LabelsError", "NotFittedError", "UsageError", "WeightsError")
_HOMES = {
    "GRepQ": "grepq_iqa.model",
    "MOSRegressor": "grepq_iqa.calibration.regressor",
    "Explanation": "grepq_iqa.results",
    "Prediction": "grepq_iqa.results",
    "Reason": "grepq_iqa.results",
    "Score": "grepq_iqa.results",
    "load_image": "grepq_iqa.data.images",
    **dict.fromkeys(_ERRORS, "grepq_iqa.errors"),
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import, so it loads on first use
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
