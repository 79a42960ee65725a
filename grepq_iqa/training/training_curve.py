"""The training curve of a run as a picture, from its metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK

SMOOTHED_POINTS = 60  # the running mean spans 1/60 of the run


def plot_training_curve(out: Path) -> Path:
    """Draw ``out/curve.png``: the loss of every step, its running mean, and the learning rate.

    Raises:
        UsageError: matplotlib is not installed, or ``out`` has no metrics.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("the training curve needs matplotlib: pip install 'grepq-iqa[train]'") from None
    try:
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UsageError(f"{out} has no metrics.jsonl: {error.strerror}") from None
    steps = np.array([row["step"] for row in rows])
    loss = np.array([row["loss"] for row in rows])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", title=out.name)
    axes.plot(steps, loss, linewidth=0.5, alpha=0.4, label="every step")
    width = max(1, len(loss) // SMOOTHED_POINTS)
    if len(loss) >= width:
        axes.plot(steps[width - 1 :], np.convolve(loss, np.ones(width) / width, "valid"), label=f"mean of {width}")
    if "lr" in rows[0]:
        rate = axes.twinx()
        rate.plot(steps, [row["lr"] for row in rows], color="0.6", linestyle=":")
        rate.set_ylabel("learning rate (dotted)")
    axes.legend()
    path = out / "curve.png"
    with replacing(path) as beside:
        figure.savefig(beside, dpi=120, metadata={"Software": MARK})
    return path
