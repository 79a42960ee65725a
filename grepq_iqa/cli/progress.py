"""Progress on stderr, and only where a person is watching."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")


class Bars:
    """Bars on stderr, one a kind of work; nothing where stderr is no terminal.

    Args:
        rows_on_stdout: results go to stdout as they come: where that is a terminal, they are progress enough, and a
            bar would be mixed into them.
        log_every: without a terminal, a line on stderr after so many steps; 0 writes none.
    """

    def __init__(self, *, rows_on_stdout: bool = False, log_every: int = 0) -> None:
        self.visible = sys.stderr.isatty() and not (rows_on_stdout and sys.stdout.isatty())
        self._log_every = 0 if sys.stderr.isatty() else log_every
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Bars:
        if self.visible:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            # Rows on stdout are results: rich must not draw them above the bar, on stderr.
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, name: str, done: int, total: int | None = None) -> None:
        """So much of ``name`` is done."""
        if self._log_every and done % self._log_every == 0:
            sys.stderr.write(f"{name} {done}" + (f" of {total}" if total else "") + "\n")
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done)


def track(items: Iterable[T], name: str, total: int | None = None, *, rows_on_stdout: bool = False) -> Iterator[T]:
    """Pass ``items`` through and show how many have passed."""
    with Bars(rows_on_stdout=rows_on_stdout) as bars:
        if total is not None:
            bars.show(name, 0, total)
        for done, item in enumerate(items, start=1):
            bars.show(name, done, total)
            yield item
