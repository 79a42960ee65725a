"""Writing files whole, and telling them by their content."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_PREFIX = 100  # of a temporary name: most file systems take 255 bytes


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether what is written there is kept in no file of that name: a device, a pipe, or ``/dev/stdout``."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - one call tells all; every write asks
    except (OSError, ValueError):
        return False
    if stat.S_ISREG(mode):
        return os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd")  # noqa: PTH100, PTH120
    return not stat.S_ISDIR(mode)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to, which takes its place when the block ends well.

    Whoever reads ``path`` meanwhile sees the old content or the new, never a part. Permissions are those that the
    process's umask gives a new file. Folders are made; after an error nothing is left behind. A device or a pipe is
    not replaced: it gets what was written when the block ends well, behind what it holds if it leads to a file.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    target = Path(path)
    if is_stream(target):
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / f"whole{target.suffix}"
            yield whole
            with whole.open("rb") as content, target.open("ab") as stream:
                shutil.copyfileobj(content, stream)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: savers such as matplotlib's choose their format by it.
    beside = target.with_name(f".{target.stem[:_LONGEST_PREFIX]}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a whole file, text as UTF-8 with its line ends as they are, by way of `replacing`.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as beside:
        beside.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 lower-case hex digits, read in pieces of 1 MiB.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def same_file_key(path: str | os.PathLike[str]) -> str:
    """What relative and absolute names of one file have in common; links are not followed."""
    return os.path.normcase(os.path.abspath(path))  # noqa: PTH100 - links are kept
