"""Pages that open from disk: one file, no network, nothing run but what this package wrote.

A page is a Jinja2 template with everything escaped, a style and a script from files of their own, which are written
into it, and a content security policy that allows these two by their SHA-256 and nothing else: a file's name that holds
HTML shows as text, and would not run if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK, printable

if TYPE_CHECKING:
    from jinja2 import Environment

BASE_STYLE = ("grepq_iqa.pages", "base.css")
SAVE_TABLE = ("grepq_iqa.pages", "save_table.js")
"""A script of the pages that save tables, before their own."""


def write_page(
    path: Path,
    template: tuple[str, str],
    styles: Sequence[tuple[str, str]],
    scripts: Sequence[tuple[str, str]],
    **context: object,
) -> None:
    """Write a page piece by piece: what ``context`` gives lazily is never held as a whole.

    A page that was there stays as it is until the new one is complete.

    Args:
        path: the .html file.
        template: package and the name of a file in it, as of the next two; shown with ``context``, and with
            ``policy``, ``style``, ``script`` and ``mark`` for its head.
        styles: written into the page in this order, after those that all pages share.
        scripts: likewise.
        context: values for the template; all are escaped.

    Raises:
        UsageError: the page cannot be written.
        GrepqError: jinja2 is not installed.
    """
    environment = _environment(template[0])
    from markupsafe import Markup

    style = "\n".join(_text(*one) for one in (BASE_STYLE, *styles))
    script = "\n".join(_text(*one) for one in scripts)
    pieces = environment.get_template(template[1]).generate(
        **context, policy=policy(style, script), style=Markup(style), script=Markup(script), mark=MARK
    )
    try:
        with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as page:
            for piece in pieces:
                page.write(piece)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def require_pages() -> None:
    """Refuse a page before any work is done for it.

    Raises:
        GrepqError: jinja2 is not installed.
    """
    _environment("grepq_iqa.pages")


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and script: pictures from disk, and nothing else."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def shown(name: object) -> str:
    """A file's name for people: control characters and marks of direction spelled out, bytes of no text as U+FFFD."""
    text = os.fspath(name) if isinstance(name, os.PathLike) else str(name)
    return printable("".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text))


def link_to(target: Path, page: Path) -> str:
    """URL of a file for a page: relative where it lies below the page's folder, so that both can be moved together."""
    from urllib.parse import quote

    absolute = Path(os.path.abspath(target))  # noqa: PTH100 - links are kept
    folder = Path(os.path.abspath(page)).parent  # noqa: PTH100
    try:
        inside = absolute.relative_to(folder)
    except ValueError:
        try:
            return absolute.as_uri()
        except UnicodeEncodeError:
            return "file://" + quote(_bytes_of(absolute.as_posix()))
    # "./" keeps a colon in the first name from being taken for a scheme.
    return "./" + quote(_bytes_of(inside.as_posix()))


def _bytes_of(name: str) -> bytes:
    """The bytes of a name; of one that no file system here could hold, those that Windows would take."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def data_uri(jpeg: bytes) -> str:
    """A JPEG as a URL that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _text(package: str, name: str) -> str:
    # Line ends as the browser normalizes them before it computes a hash.
    return files(package).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _environment(package: str) -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise GrepqError("pages need jinja2: pip install 'grepq-iqa[report]'") from None

    return Environment(
        loader=FunctionLoader(lambda name: _text(package, name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
