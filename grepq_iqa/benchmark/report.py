"""A result for people: tables, a scatter plot with the logistic, and the images where score and MOS part most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grepq_iqa.benchmark.correlation import logistic
from grepq_iqa.benchmark.result import BenchmarkResult, rank_disagreements
from grepq_iqa.benchmark.run import OURS
from grepq_iqa.errors import GrepqError
from grepq_iqa.files import replacing, write_atomically
from grepq_iqa.report import contact_sheet
from grepq_iqa.text import MARK

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = {"Q": "GRepQ Q", "Q_L": "GRepQ Q_L", "Q_H": "GRepQ Q_H"}


def tables(result: BenchmarkResult) -> list[Table]:
    """Zero-shot and, where labels were used, data-efficient results, for a rich console."""
    from rich.table import Table

    zero_shot = Table(title=f"{result.dataset}: zero-shot, {result.images} images", title_justify="left")
    columns = ("SRCC", "PLCC", "PLCC cubic", "KRCC", "RMSE", "s/picture")
    zero_shot.add_column("method", no_wrap=True)
    for name in columns:
        # On a narrow terminal intervals go below their numbers; nothing is cut.
        zero_shot.add_column(name, justify="right", no_wrap=name not in ("SRCC", "PLCC"))
    for name, found in result.zero_shot.items():
        seconds = result.seconds["grepq" if name in OURS else name]
        zero_shot.add_row(
            _TITLES.get(name, name.upper()),
            _with_interval(found.srcc, found.intervals.get("srcc")),
            _with_interval(found.plcc, found.intervals.get("plcc")),
            f"{found.plcc_cubic:.3f}",
            f"{found.krcc:.3f}",
            f"{found.rmse:.3g}",
            f"{seconds:.3f}" if name not in OURS[1:] and np.isfinite(seconds) else "",
        )
    if not result.few_labels:
        return [zero_shot]
    few = Table(
        title=f"{result.dataset}: with few labels, median over {len(result.few_labels[0].srcc)} splits",
        title_justify="left",
        caption=result.protocol,
        caption_justify="left",
    )
    few.add_column("method", no_wrap=True)
    for name in ("labels", "SRCC", "worst to best", "PLCC", "RMSE"):
        few.add_column(name, justify="right", no_wrap=True)
    for name, values in result.test_parts.items():
        if name not in OURS[1:]:
            few.add_row(
                f"{_TITLES.get(name, name.upper())}, same test parts",
                "0",
                f"{np.median(values):.3f}",
                f"{min(values):.3f} to {max(values):.3f}",
                "",
                "",
            )
    ours = [("GRepQ features, ridge", row) for row in result.few_labels]
    ours += [(f"with head start: {result.prior}", row) for row in result.head_start]
    for title, row in ours:
        low, high = row.range_srcc
        few.add_row(
            title,
            str(row.labels),
            f"{row.median_srcc:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row.median_plcc:.3f}",
            f"{np.median(row.rmse):.3g}",
        )
    return [zero_shot, few]


def write_json(result: BenchmarkResult, path: str | Path) -> None:
    """Everything, single images included."""
    write_atomically(path, json.dumps({"generator": MARK} | result.to_json(), indent=1, allow_nan=False) + "\n")


def write_scatter(result: BenchmarkResult, path: str | Path, method: str = "Q") -> None:
    """MOS over score, one dot an image, with the fitted logistic, as PNG.

    Raises:
        GrepqError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise GrepqError("a scatter plot needs matplotlib: pip install 'grepq-iqa[benchmark]'") from None
    found = result.zero_shot[method]
    scores = np.array([row.scores[method] for row in result.per_image])
    mos = np.array([row.mos for row in result.per_image])
    # A figure of its own, so that a caller's pyplot state and backend stay as they are.
    figure = Figure(figsize=(6, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(scores, mos, s=9, alpha=float(np.clip(300 / len(mos), 0.08, 0.6)), linewidths=0, color="#1f5a92")
    grid = np.linspace(scores.min(), scores.max(), 300)
    axes.plot(grid, logistic(grid, found.logistic), color="#c8401e", linewidth=2, label="four-parameter logistic")
    axes.set_xlabel(f"{_TITLES.get(method, method.upper())} (higher is better)")
    axes.set_ylabel(result.scale)
    axes.set_title(
        f"{result.dataset}, {result.images} images: SRCC {found.srcc:.3f}, PLCC {found.plcc:.3f}", fontsize="medium"
    )
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", metadata={"Software": MARK})


def write_contact_sheet(result: BenchmarkResult, path: str | Path, method: str = "Q", k: int = 8) -> None:
    """The ``k`` images that the method ranks most too high and most too low against MOS, in two rows, as PNG.

    Under each: its name, and its place by score and by MOS (0: worst of the set, 100: best).
    """
    scores = np.array([row.scores[method] for row in result.per_image])
    mos = np.array([row.mos for row in result.per_image])

    def cell(position: int) -> contact_sheet.Cell:
        places = [100 * float(np.mean(values < values[position])) for values in (scores, mos)]
        return contact_sheet.Cell(result.per_image[position].path, f"score {places[0]:.0f}, MOS {places[1]:.0f}")

    too_high, too_low = rank_disagreements(result, method, k)
    name = _TITLES.get(method, method.upper())
    rows = [
        (f"{name} too high: people liked these less", [cell(position) for position in too_high]),
        (f"{name} too low: people liked these more", [cell(position) for position in too_low]),
    ]
    contact_sheet.write_contact_sheet(rows, path)


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
