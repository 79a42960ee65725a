"""What stands beside a file of rows, in ``NAME.meta.json``: who wrote it, with which settings, and what it was then.

Rows of other settings are not mixed with it, and rows that a person has changed since are not replaced unasked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.files import is_stream, sha256_of, write_atomically
from grepq_iqa.text import MARK

_CONTENT, _CHANGED = "sha256", "changed"


def record_of(command: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside or in a file of rows: who wrote it, and with which settings."""
    return {"generator": f"{MARK} {__version__}", "command": command, "settings": dict(settings)}


def write_record(output: Path, record: Mapping[str, Any], *, finished: bool, changed: bool = False) -> None:
    """Write ``record`` beside ``output``; with what the file holds, once all that this run writes is in it.

    Beside a device or a pipe nothing is left.

    Args:
        output, record: the file of rows, and what `record_of` says.
        finished: whether all is in it.
        changed: whether this run goes on with rows that a person changed: they stay protected.

    Raises:
        OSError: it cannot be written.
    """
    if is_stream(output):
        return
    content: dict[str, Any] = {_CONTENT: sha256_of(output)} if finished else {}
    content |= {_CHANGED: True} if changed else {}
    write_atomically(settings_path(output), json.dumps({**record, **content}, indent=1) + "\n")


def is_changed(output: Path) -> bool:
    """Whether a file is known to hold something else than runs left there; a run that was killed left no word."""
    try:
        known = json.loads(_record_path(output).read_text(encoding="utf-8"))
        left = known.get(_CONTENT)
        return known.get(_CHANGED) is True or (left is not None and left != sha256_of(output))
    except (OSError, ValueError, AttributeError):
        return False


def compare_settings(output: Path, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on behind rows of other settings.

    Raises:
        UsageError: they are others; the message names those that differ.
    """
    wanted = json.loads(json.dumps(dict(settings)))
    differ = [key for key in sorted(wanted.keys() | known.keys()) if wanted.get(key) != known.get(key)]
    if differ:
        was = ", ".join(f"{key} {known.get(key)}, now {wanted.get(key)}" for key in differ)
        raise UsageError(f"{output} was written with other settings ({was}); use those, or another --output")


def settings_beside(output: Path) -> dict[str, Any]:
    """Settings of the run that wrote the rows in ``output``.

    Raises:
        UsageError: they are not there, or cannot be read.
    """
    beside = _record_path(output)
    try:
        known = json.loads(beside.read_text(encoding="utf-8"))["settings"]
        if not isinstance(known, dict):
            raise TypeError("no settings in it")
        return known
    except FileNotFoundError:
        raise UsageError(
            f"{beside.name} with the settings of {output} is missing, so its rows cannot be gone on with; give "
            "another --output, or run without --resume"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{beside} cannot be read ({error}); run without --resume") from error


def settings_path(output: Path) -> Path:
    """Where the settings of the rows in ``output`` stand: beside the file itself, by whatever link it is known."""
    real = real_path(output)
    return real.with_name(f"{real.name}.meta.json")


def real_path(output: Path) -> Path:
    """The file that a link leads to; else ``output`` as it is."""
    return Path(os.path.realpath(output)) if output.is_symlink() and not is_stream(output) else output


def _record_path(output: Path) -> Path:
    """As `settings_path`; beside the link, where the first versions wrote it, if only there is one."""
    path, earlier = settings_path(output), output.with_name(f"{output.name}.meta.json")
    return path if path.exists() or not earlier.exists() else earlier
