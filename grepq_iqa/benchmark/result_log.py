"""Scores of single images, kept on disk as they come, so that a run over twelve thousand images can be interrupted."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One image by one method.

    Attributes:
        values: named scores.
        seconds: how long it took, decoding included; None where that is not known.
    """

    values: dict[str, float]
    seconds: float | None


class ResultLog:
    """Append-only results of one method, one JSON line an image.

    An image is known by path, size and time of change. A line that an interrupt cut is dropped when the log is next
    opened.

    Args:
        directory: made if need be; None: nothing is kept.
        key: identifies the method with its version and settings; the file's name.
    """

    def __init__(self, directory: str | Path | None, key: str) -> None:
        self._entries: dict[str, tuple[tuple[int, int], Entry]] = {}
        self._lines: Any = None
        if directory is None:
            return
        path = Path(directory).expanduser() / f"{key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._read(path)
        self._lines = path.open("ab")

    def __enter__(self) -> ResultLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()

    def get(self, path: Path) -> Entry | None:
        """What is known of this file as it is now, or None."""
        known = self._entries.get(str(path.absolute()))
        try:
            return known[1] if known is not None and known[0] == _state(path) else None
        except OSError:
            return None

    def put(self, path: Path, entry: Entry) -> None:
        """Keep an entry; it has left this process when this returns."""
        name, (size, changed) = str(path.absolute()), _state(path)
        self._entries[name] = ((size, changed), entry)
        if self._lines is not None:
            line = {
                "path": name,
                "size": size,
                "mtime_ns": changed,
                "values": entry.values,
                "seconds": entry.seconds,
            }
            self._lines.write(json.dumps(line).encode() + b"\n")
            self._lines.flush()

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        for text in whole.splitlines():
            try:
                line = json.loads(text)
                entry = Entry(line["values"], line["seconds"])
                self._entries[line["path"]] = ((line["size"], line["mtime_ns"]), entry)
            except (ValueError, KeyError, TypeError):  # a damaged line costs one image, computed again
                continue


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
