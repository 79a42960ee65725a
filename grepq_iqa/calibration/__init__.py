"""From features to predicted MOS: the regressor, its head start, how good it is, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grepq_iqa.calibration.regressor import MOSRegressor

__all__ = ["MOSRegressor"]


def __getattr__(name: str) -> object:
    # scikit-learn takes a second to import, and reading a ratings predictor does without
    if name == "MOSRegressor":
        from grepq_iqa.calibration.regressor import MOSRegressor

        return MOSRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
