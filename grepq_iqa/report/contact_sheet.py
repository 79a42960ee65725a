"""Contact sheets: rows of small pictures under headings, each with a caption, as one PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grepq_iqa.data.images import MAX_PIXELS
from grepq_iqa.data.thumbnails import thumbnail
from grepq_iqa.errors import ImageError
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK, printable

if TYPE_CHECKING:
    from PIL import Image

_THUMBNAIL, _MARGIN, _CAPTION, _HEADING = 192, 8, 44, 28
_LEAST_WIDTH = 560  # room for a heading over few pictures


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        path: its file; one that cannot be read shows as a gray square.
        caption: a line below its name.
    """

    path: str | os.PathLike[str]
    caption: str


def write_contact_sheet(
    rows: Sequence[tuple[str, Sequence[Cell]]],
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Draw ``rows``, each a heading and its pictures, and write them as PNG.

    Args:
        rows: headings and pictures.
        path: the .png file; one that is there stays whole until the new one is.
        columns: a row with more pictures goes on in further lines; None: all in one.
        max_pixels: larger pictures show as gray squares.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    longest = max((len(cells) for _, cells in rows), default=1)
    columns = max(1, min(columns or longest, longest))
    cell, line = _THUMBNAIL + _MARGIN, _THUMBNAIL + _CAPTION + _MARGIN
    lines = [max(1, -(-len(cells) // columns)) for _, cells in rows]
    width = max(cell * columns + _MARGIN, _LEAST_WIDTH)
    sheet = Image.new("RGB", (width, len(rows) * _HEADING + sum(lines) * line + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=16), ImageFont.load_default(size=12)
    top = _MARGIN
    for (title, cells), height in zip(rows, lines, strict=True):
        draw.text((_MARGIN, top), title, fill="black", font=large)
        top += _HEADING
        for i, one in enumerate(cells):
            left, upper = _MARGIN + i % columns * cell, top + i // columns * line
            picture = _picture(one.path, max_pixels)
            inset = (_THUMBNAIL - picture.width) // 2, (_THUMBNAIL - picture.height) // 2
            sheet.paste(picture, (left + inset[0], upper + inset[1]))
            name = _fitted(draw, printable(Path(one.path).name), small)
            draw.multiline_text((left, upper + _THUMBNAIL + 4), f"{name}\n{one.caption}", fill="black", font=small)
        top += height * line
    note = PngInfo()
    note.add_text("Software", MARK)
    with replacing(path) as beside:
        sheet.save(beside, format="PNG", pnginfo=note)


def _picture(path: str | os.PathLike[str], max_pixels: int) -> Image.Image:
    from PIL import Image

    try:
        return thumbnail(path, _THUMBNAIL, max_pixels=max_pixels)
    except ImageError:  # gone since it was scored
        return Image.new("RGB", (_THUMBNAIL, _THUMBNAIL), "lightgray")


def _fitted(draw: Any, text: str, font: Any) -> str:
    if draw.textlength(text, font=font) <= _THUMBNAIL:
        return text
    while text and draw.textlength("..." + text, font=font) > _THUMBNAIL:
        text = text[1:]
    return "..." + text
