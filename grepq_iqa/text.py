"""Text for people."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MARK = "made by grepq-iqa"
"""Stands in the metadata of every page and picture that this package writes: such a file may be written anew."""


def printable(text: object) -> str:
    """``text`` with line breaks and control characters spelled out: a file's name must not break a table."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is none of the ``known`` ones, with the nearest of these and all of them."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return f"there is no {kind} {name!r}.{meant} There are: {', '.join(names)}"
