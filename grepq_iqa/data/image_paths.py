"""What a person names -> the image files that are meant, lazily and in a stable order.

A folder stands for the images below it, found by their endings and sorted; hidden files, the bins and thumbnail folders
that systems leave (`SYSTEM_FOLDERS`), links to folders, and whatever is no regular file are left out of it. A pattern
such as ``*.jpg`` or ``**/*.png`` stands for its matches, ``**`` not going through links to folders. A table (.csv,
.tsv) stands for the images that it names, and ``-`` for a list on stdin, one path a line or divided by zero bytes.
What does not exist is passed on, so that it gets a row of its own.
"""

from __future__ import annotations

import codecs
import glob
import locale
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, TextIO

from grepq_iqa.data import tables
from grepq_iqa.data.formats import EXTENSIONS
from grepq_iqa.data.labels import read_paths
from grepq_iqa.errors import UsageError

SYSTEM_FOLDERS = ("@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash-*", "__MACOSX")
"""Folders, as patterns, that hold copies which nobody took: Synology's and QNAP's, Windows', Linux' and macOS'."""

_CHUNK = 1 << 16
_LONGEST_PATH = 1 << 15
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")


def iter_image_paths(
    paths: Iterable[str | os.PathLike[str]], stdin: TextIO | BinaryIO | None = None, skipped: Counter[str] | None = None
) -> Iterator[Path]:
    """Files named by ``paths``, one after the other.

    Args:
        paths: files, folders, patterns, tables, or ``-``.
        stdin: read for ``-``; None: the process's.
        skipped: counts, by ending in lower case, the files in searched folders that were left out.

    Raises:
        LabelsError: a table has no column of images.
        UsageError: what comes on stdin is not a list of paths.
    """
    for given in paths:
        text = os.fspath(given)
        if text == "-":
            for name in _listed(stdin or sys.stdin):
                yield from iter_image_paths([name], skipped=skipped) if name != "-" else ()
            continue
        path = Path(text)
        if _holds(path.is_dir):
            yield from _images_below(path, skipped)
        elif path.suffix.lower() in tables.SUFFIXES and _holds(path.is_file):
            yield from read_paths(path)
        elif glob.has_magic(text) and not _holds(path.exists):
            yield from _matches(path, skipped)
        else:
            yield path


def _holds(check: Callable[[], bool]) -> bool:
    """A check of a path, False where the system refuses to look: a name too long, a locked folder, a zero byte."""
    try:
        return check()
    except (OSError, ValueError):
        return False


def _matches(pattern: Path, skipped: Counter[str] | None) -> Iterator[Path]:
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base, wanted = Path(*parts[:fixed]), Path(*parts[fixed:])
    hidden_wanted = any(part.startswith(".") for part in wanted.parts)
    try:
        found = sorted(base.glob(str(wanted)))  # which does not follow links to folders, so loops end
    except (OSError, ValueError, NotImplementedError):
        found = []
    matches = [
        match
        for match in found
        if hidden_wanted or not any(part.startswith(".") for part in match.relative_to(base).parts)
    ]
    for match in matches:
        yield from _images_below(match, skipped) if _holds(match.is_dir) and "**" not in wanted.parts else [match]
    if not matches:
        yield pattern


def _images_below(folder: Path, skipped: Counter[str] | None) -> Iterator[Path]:
    """Sorted folder by folder, so that nothing needs to be held but one folder's names."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        ending = Path(entry.name).suffix.lower()
        if _holds(lambda entry=entry: entry.is_dir(follow_symlinks=False)):  # type: ignore[misc]
            if not any(fnmatch(entry.name, pattern) for pattern in SYSTEM_FOLDERS):
                yield from _images_below(Path(entry.path), skipped)
        elif ending in EXTENSIONS:
            # A pipe would keep its reader waiting. A broken link is passed on, for its row to say so.
            if _holds(entry.is_file) or entry.is_symlink():
                yield Path(entry.path)
        elif skipped is not None and _holds(entry.is_file):
            skipped[ending] += 1


def _name(line: bytes) -> str:
    """A file's name as the system writes it; on Windows a list may also be in the console's code page."""
    try:
        return os.fsdecode(line)
    except UnicodeDecodeError:  # there alone: elsewhere any bytes are a name
        return line.decode(locale.getpreferredencoding(False), errors="replace")


def _listed(stdin: TextIO | BinaryIO) -> Iterator[str]:
    """Names on a stream, each as soon as it is whole; a zero byte among the first says that zeros divide them."""
    stream = getattr(stdin, "buffer", stdin)
    separator, rest, first = b"", b"", True
    while chunk := stream.read1(_CHUNK) if hasattr(stream, "read1") else stream.read(_CHUNK):
        data = chunk.encode("utf-8", "surrogateescape") if isinstance(chunk, str) else chunk
        if first and _CONTROL.search(data[:512]):
            raise UsageError("stdin holds something else than a list of paths; name an image's file instead of -")
        if first:
            data = data.removeprefix(codecs.BOM_UTF8)  # PowerShell's
        first = False
        rest += data
        if not separator:
            separator = next((end for end in (b"\0", b"\n") if end in rest), b"")
        if separator:
            *names, rest = rest.split(separator)
            yield from (_name(line.rstrip(b"\r")) for line in names if line.strip(b"\r"))
        if len(rest) > _LONGEST_PATH:
            raise UsageError("stdin holds something else than a list of paths: a name has no end")
    if rest.strip(b"\r\n"):
        yield _name(rest.rstrip(b"\r\n"))
