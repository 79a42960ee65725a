"""Text for people."""

from __future__ import annotations

MARK = "made by grepq-iqa"
"""Stands in the metadata of every page and picture that this package writes: such a file may be written anew."""


def printable(text: object) -> str:
    """``text`` with line breaks and control characters spelled out: a file's name must not break a table."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
