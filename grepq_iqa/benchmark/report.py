"""A result for people: tables, a scatter plot with the logistic, and the images where score and MOS part most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grepq_iqa.benchmark.correlation import logistic
from grepq_iqa.benchmark.result import BenchmarkResult, rank_disagreements
from grepq_iqa.benchmark.run import OURS
from grepq_iqa.data.thumbnails import thumbnail
from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.files import replacing, write_atomically
from grepq_iqa.text import MARK

if TYPE_CHECKING:
    from PIL import Image
    from rich.table import Table

_TITLES = {"Q": "GRepQ Q", "Q_L": "GRepQ Q_L", "Q_H": "GRepQ Q_H"}
_THUMBNAIL, _MARGIN, _CAPTION = 192, 8, 44


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
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    too_high, too_low = rank_disagreements(result, method, k)
    rows = [
        (f"{_TITLES.get(method, method.upper())} too high: people liked these less", too_high),
        (f"{_TITLES.get(method, method.upper())} too low: people liked these more", too_low),
    ]
    cell = _THUMBNAIL + _MARGIN
    heading = 28
    width = max(cell * max(1, len(too_high), len(too_low)) + _MARGIN, 560)
    height = len(rows) * (heading + _THUMBNAIL + _CAPTION + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=16), ImageFont.load_default(size=12)
    scores = np.array([row.scores[method] for row in result.per_image])
    mos = np.array([row.mos for row in result.per_image])
    top = _MARGIN
    for title, positions in rows:
        draw.text((_MARGIN, top), title, fill="black", font=large)
        for column, position in enumerate(positions):
            row = result.per_image[position]
            left = _MARGIN + column * cell
            picture = _picture(row.path)
            inset = (_THUMBNAIL - picture.width) // 2, (_THUMBNAIL - picture.height) // 2
            sheet.paste(picture, (left + inset[0], top + heading + inset[1]))
            places = [100 * float(np.mean(values < values[position])) for values in (scores, mos)]
            caption = f"{_fitted(draw, Path(row.path).name, small)}\nscore {places[0]:.0f}, MOS {places[1]:.0f}"
            draw.multiline_text((left, top + heading + _THUMBNAIL + 4), caption, fill="black", font=small)
        top += heading + _THUMBNAIL + _CAPTION + _MARGIN
    note = PngInfo()
    note.add_text("Software", MARK)
    with replacing(path) as beside:
        sheet.save(beside, format="PNG", pnginfo=note)


def _picture(path: str) -> Image.Image:
    from PIL import Image

    try:
        return thumbnail(path, _THUMBNAIL)
    except ImageError:  # gone since it was scored
        return Image.new("RGB", (_THUMBNAIL, _THUMBNAIL), "lightgray")


def _fitted(draw: Any, text: str, font: Any) -> str:
    if draw.textlength(text, font=font) <= _THUMBNAIL:
        return text
    while text and draw.textlength("..." + text, font=font) > _THUMBNAIL:
        text = text[1:]
    return "..." + text


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
