"""The exceptions that users see. Each carries its data, so that a program can act on it without parsing text."""

from __future__ import annotations

from typing import Any

_PROBLEMS_SHOWN = 5  # where more than twice as many are wrong, a screen of them hides what is common to all


class GrepqError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(GrepqError, ValueError):
    """The caller asked for something that cannot be done; the message says what to change."""


class ImageError(GrepqError, ValueError):
    """An image cannot be used.

    Attributes:
        source: its path, or a description such as ``<ndarray>``.
        reason: why, without the source.
        hint: what to do about it, or None.
    """

    def __init__(self, source: str, reason: str, hint: str | None = None) -> None:
        self.source, self.reason, self.hint = source, reason, hint
        super().__init__(f"{source}: {reason}" + (f" ({hint})" if hint else ""))

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders intact
        return type(self), (self.source, self.reason, self.hint)


class LabelsError(GrepqError, ValueError):
    """A table of labels cannot be used.

    Attributes:
        path: the file, or None for labels passed from Python.
        problems: one sentence for every bad row, with its line number; the message shows the first of many only.
    """

    def __init__(self, message: str, path: str | None = None, problems: tuple[str, ...] = ()) -> None:
        self.path, self.problems = path, problems
        shown = list(problems)
        if len(shown) > 2 * _PROBLEMS_SHOWN:
            shown = [*problems[:_PROBLEMS_SHOWN], f"and {len(problems) - _PROBLEMS_SHOWN} more rows"]
        super().__init__("\n  ".join([message, *shown]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_labels_error, (self.args[0], self.path, self.problems)


def _rebuild_labels_error(message: str, path: str | None, problems: tuple[str, ...]) -> LabelsError:
    error = LabelsError.__new__(LabelsError)
    Exception.__init__(error, message)
    error.path, error.problems = path, problems
    return error


class WeightsError(GrepqError, RuntimeError):
    """A model's files cannot be found, fetched, verified or read.

    Attributes:
        name: the model or repository asked for.
        file: the file concerned, or None.
        hint: the setting to change, or None.
    """

    def __init__(self, message: str, name: str, file: str | None = None, hint: str | None = None) -> None:
        self.name, self.file, self.hint = name, file, hint
        super().__init__(f"{message} ({hint})" if hint else message)

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders intact
        return _rebuild_weights_error, (self.args[0], self.name, self.file, self.hint)


def _rebuild_weights_error(message: str, name: str, file: str | None, hint: str | None) -> WeightsError:
    error = WeightsError.__new__(WeightsError)
    Exception.__init__(error, message)
    error.name, error.file, error.hint = name, file, hint
    return error


class NotFittedError(GrepqError, ValueError, AttributeError):
    """Predictions were asked for before labels were given."""
