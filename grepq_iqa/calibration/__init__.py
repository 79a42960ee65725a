"""From features to predicted MOS: the regressor, how good it is, and its files."""

from grepq_iqa.calibration.regressor import MOSRegressor

__all__ = ["MOSRegressor"]
