"""One picture of how good a fit is: held-out predictions against the labels, and what more labels would bring."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.calibration.validation import CrossValidation, LearningCurve
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METADATA = {".png": {"Software": MARK}, ".svg": {"Creator": MARK}, ".pdf": {"Creator": MARK}}


def require_plot(path: str | os.PathLike[str]) -> None:
    """Fail early, before minutes of work, where no plot can be drawn.

    Raises:
        UsageError: matplotlib is not installed, or does not write files of this ending; the message says what to do.
    """
    try:
        import matplotlib  # noqa: F401
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'grepq-iqa[plot]'") from error
    known = FigureCanvasAgg(Figure()).get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in known:
        raise UsageError(f"cannot draw a plot to {path}: use .png, .svg or .pdf")


def plot_fit(
    path: str | os.PathLike[str],
    mos: ArrayLike,
    validation: CrossValidation,
    curve: LearningCurve | None = None,
    *,
    mos_name: str = "MOS",
) -> None:
    """Draw both panels into a picture file; the ending of ``path`` sets its format (.png, .pdf, .svg).

    Args:
        path: where to write.
        mos: labels ``(n,)``.
        validation: of the fit on them.
        curve: None leaves its panel out.
        mos_name: what to call the scale on the axes.

    Raises:
        UsageError: matplotlib is not installed, or the file cannot be written.
    """
    require_plot(path)
    # The object interface draws without a window system and leaves a caller's pyplot alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11 if curve else 5.5, 5.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2 if curve else 1, squeeze=False)[0]
    _predicted_against_given(axes[0], np.asarray(mos, dtype=np.float64), validation, mos_name)
    if curve:
        _learning(axes[1], curve)
    try:
        with replacing(path) as beside:
            figure.savefig(beside, metadata=_METADATA.get(Path(path).suffix.lower()))
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise UsageError(f"cannot write the plot to {path}: {error}") from error


def _predicted_against_given(axes: Axes, mos: NDArray[np.float64], validation: CrossValidation, mos_name: str) -> None:
    finite = np.isfinite(validation.low) & np.isfinite(validation.high)
    if finite.any():
        axes.vlines(
            mos[finite],
            validation.low[finite],
            validation.high[finite],
            color="tab:blue",
            alpha=min(0.5, max(0.1, 25 / len(mos))),
            linewidth=1.2,
            label=f"{validation.confidence:.0%} interval (held {validation.coverage:.0%})",
        )
    axes.scatter(mos, validation.predicted, s=14, color="tab:blue", zorder=3, label="one image")
    ends = [min(mos.min(), validation.predicted.min()), max(mos.max(), validation.predicted.max())]
    axes.plot(ends, ends, color="0.4", linewidth=1, linestyle="--", label="exact")
    axes.set(
        xlabel=f"given {mos_name}",
        ylabel=f"predicted {mos_name}, image held out",
        title=f"SRCC {validation.srcc.value:.3f}   PLCC {validation.plcc.value:.3f}   RMSE {validation.rmse.value:.3g}",
    )
    axes.legend(loc="upper left", fontsize="small")


def _learning(axes: Axes, curve: LearningCurve) -> None:
    axes.fill_between(curve.labels, curve.low, curve.high, color="tab:orange", alpha=0.2, label="90 % of the draws")
    axes.plot(curve.labels, curve.srcc, color="tab:orange", marker="o", label="mean")
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve.labels, [str(n) for n in curve.labels])
    axes.minorticks_off()
    axes.set(xlabel="labels fitted on", ylabel="SRCC, images held out")
    if np.isfinite(curve.gain_by_doubling):
        axes.set_title(f"twice the labels: at best SRCC +{curve.gain_by_doubling:.3f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
