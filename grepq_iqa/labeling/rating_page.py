"""Pages for labeling: ratings of single pictures, or "which is better?" for pairs, saved as a table for `grepq fit`.

A page is one file that needs no network and runs in any browser. What is answered is kept by the browser at once, under
a key of the set of pictures, so that closing the page loses nothing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from grepq_iqa.data.images import MAX_PIXELS
from grepq_iqa.data.thumbnails import thumbnail
from grepq_iqa.errors import UsageError
from grepq_iqa.pages import SAVE_TABLE, data_uri, link_to, shown, write_page

THUMBNAIL_SIDE = 480
MOST_BUTTONS = 10
"""Whole ratings up to which each has a button and a key of its own."""

_PACKAGE = "grepq_iqa.labeling"
_USUAL = (1, 5)


def write_rating_page(
    path: Path,
    images: Sequence[Path],
    names: Sequence[str],
    *,
    csv_name: str = "to-label.csv",
    lowest: float = 1,
    highest: float = 5,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write a page to rate pictures on.

    Args:
        path: the .html file.
        images: picture files; the page shows one at full size as long as it lies where it is now.
        names: how the table shall name each, relative to where the table will be.
        csv_name: file name that the button suggests.
        lowest, highest: ends of the rating scale, worst and best.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: a picture cannot be read.
        UsageError: the page cannot be written.
        GrepqError: jinja2 is not installed.
    """
    if not lowest < highest:
        raise UsageError(f"the lowest rating must be below the highest, got {lowest:g} and {highest:g}")
    whole = float(lowest).is_integer() and float(highest).is_integer() and highest - lowest < MOST_BUTTONS
    write_page(
        path,
        (_PACKAGE, "templates/rating.html"),
        [(_PACKAGE, "templates/rating.css")],
        [SAVE_TABLE, (_PACKAGE, "templates/answers.js"), (_PACKAGE, "templates/rating.js")],
        scale=f"{lowest:g} (worst) to {highest:g} (best)",
        lowest=f"{lowest:g}",
        highest=f"{highest:g}",
        buttons=[f"{lowest + k:g}" for k in range(int(highest - lowest) + 1)] if whole else [],
        pictures=_pictures(path, images, names, max_pixels),
        settings={
            "names": list(names),
            "csv": csv_name,
            "key": _key(names, lowest, highest),
            "usual": (lowest, highest) == _USUAL,
            # Of pages that kept ratings of every scale in one place, and of those up to version 0.1.
            "earlier": [f"grepq-{_hash(sorted(names))}", f"grepq-{_hash(names)}"],
            "lowest": lowest,
            "highest": highest,
        },
    )


def write_pairs_page(
    path: Path,
    images: Sequence[Path],
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    *,
    csv_name: str = "pairs.csv",
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write a page that asks which of two pictures is better.

    Args:
        path: the .html file.
        images: picture files, shown at full size as long as they lie where they are now, else as small pictures.
        names: how the table shall name each.
        pairs: positions in ``images``, left and right.
        csv_name: file name that the button suggests.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: a picture cannot be read.
        UsageError: the page cannot be written.
        GrepqError: jinja2 is not installed.
    """
    named = sorted("\n".join(sorted((names[left], names[right]))) for left, right in pairs)
    write_page(
        path,
        (_PACKAGE, "templates/pairs.html"),
        [(_PACKAGE, "templates/pairs.css")],
        [SAVE_TABLE, (_PACKAGE, "templates/answers.js"), (_PACKAGE, "templates/pairs.js")],
        count=len(pairs),
        pictures=_pictures(path, images, names, max_pixels),
        settings={
            "names": list(names),
            "pairs": [list(pair) for pair in pairs],
            "csv": csv_name,
            "key": f"grepq-pairs-{_hash(named)}",
        },
    )


def _pictures(page: Path, images: Sequence[Path], names: Sequence[str], max_pixels: int) -> Iterator[dict[str, object]]:
    """One by one: small pictures of many images need not be held at once."""
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        stream = io.BytesIO()
        picture = thumbnail(image, THUMBNAIL_SIDE, max_pixels=max_pixels)
        picture.save(stream, "JPEG", quality=90, subsampling=0)
        yield {
            "number": number,
            "name": shown(name),
            "short": shown(image.name),
            "link": link_to(image, page),
            "picture": data_uri(stream.getvalue()),
        }


def _key(names: Sequence[str], lowest: float, highest: float) -> str:
    """Under which a browser keeps ratings: those of the usual scale where they always were."""
    plain = f"grepq-{_hash(sorted(names))}"
    return plain if (lowest, highest) == _USUAL else f"{plain}-{lowest:g}-{highest:g}"


def _hash(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]
