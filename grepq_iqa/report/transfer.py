"""Copying, moving and linking one file so that nothing is lost, whenever the process or the machine stops.

Nothing is written over: a name is taken by a hard link or an exclusive creation, which the file system refuses where
the name exists. A move within a file system is a second name, then the removal of the first. Between file systems it is
a copy beside the target, flushed to the disk, read back and compared by SHA-256, and only then named and the source
removed: at every moment one whole file stands under one of the two names.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

from grepq_iqa.files import sha256_of

Action = Literal["copy", "move", "link"]


class Changed(OSError):
    """A copy is not what the source was: it changed meanwhile, or the disk does not keep what it is given."""


def transfer(action: Action, source: Path, target: Path) -> None:
    """Do it; after an error the source is as it was and the target does not exist.

    Args:
        action: "link" makes a symbolic link with an absolute path, and a hard link where there are none.
        source: a file. Of a symbolic link, "move" takes the link, made to lead to the same file from its new place.
        target: a name that does not exist, in a folder that does.

    Raises:
        FileExistsError: the target exists.
        OSError: it could not be done.
    """
    if action == "link":
        _link(source, target)
    elif action == "copy":
        _copy(source, target)
    elif source.is_symlink():
        target.symlink_to(_goal(source))
        source.unlink()
    else:
        _move(source, target)
    _flush_folder(target.parent)
    if action == "move":
        _flush_folder(source.parent)


def _move(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        _copy(source, target)
    try:
        source.unlink()
    except OSError:
        target.unlink()
        raise


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f".{uuid.uuid4().hex[:12]}.part")
    try:
        before = source.stat()
        with source.open("rb") as read, beside.open("xb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
        with suppress(OSError):  # a card or a share keeps no owners or modes
            shutil.copystat(source, beside)
        after = source.stat()
        unchanged = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        if not unchanged or sha256_of(source) != sha256_of(beside):
            raise Changed(f"{source} changed while it was copied, or {target.parent} does not keep what it is given")
        _take_name(beside, target)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _take_name(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: an empty file holds the name until the whole one takes its place
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            beside.replace(target)
        except OSError:
            target.unlink()
            raise


def _link(source: Path, target: Path) -> None:
    goal = source.absolute()
    try:
        target.symlink_to(goal)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # Windows without the right to, FAT
        os.link(source, target)


def _goal(link: Path) -> str:
    """Where a symbolic link leads, from anywhere."""
    return os.path.normpath(link.parent.resolve() / link.readlink())


def _flush_folder(folder: Path) -> None:
    """Names, too, are on the disk; Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
