"""Where a page's small pictures go: into it, or into a folder beside it, so that a page that is there stays whole.

A file in the folder is named by its content: writing a new report never changes a picture of an older one. Those that
no page needs any more are removed after the new page has taken its place, and only those that are named so.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from grepq_iqa.errors import UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.pages import data_uri
from grepq_iqa.text import MARK

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 82
_MARK_FILE = "made-by.txt"
_NAME = re.compile(r"[0-9a-f]{24}\.jpg")
_LEFTOVER = re.compile(r"\.[0-9a-f]{24}\.[0-9a-f]{8}\.part\.jpg|\.made-by\.[0-9a-f]{8}\.part\.txt")


class PictureFolder:
    """Takes pictures and gives URLs for them.

    Args:
        page: the .html file that shows them.
        inside: whether they are written into the page itself.

    Attributes:
        folder: ``NAME_files`` beside the page.
    """

    def __init__(self, page: Path, *, inside: bool) -> None:
        self.folder = page.with_name(f"{page.stem}_files")
        self._inside = inside
        self._used: set[str] = set()

    def require(self) -> None:
        """Refuse a folder that is not ours, before any work is done.

        Raises:
            UsageError: something else is there, or it cannot be written to.
        """
        if self._inside:
            return
        try:
            if not self.folder.exists() and not self.folder.is_symlink():
                return
            if not self.folder.is_dir():
                raise UsageError(f"{self.folder} is to hold the report's pictures, and is a file; name another report")
            if any(self.folder.iterdir()) and not (self.folder / _MARK_FILE).is_file():
                raise UsageError(
                    f"{self.folder} is to hold the report's pictures, and holds other files; name another report"
                )
            if not os.access(self.folder, os.W_OK):
                raise UsageError(f"cannot write to {self.folder}: permission denied")
        except OSError as error:
            raise UsageError(f"cannot write to {self.folder}: {error.strerror or error}") from error

    def url(self, picture: Image.Image) -> str:
        """Keep a picture and return what the page shall call it.

        Raises:
            UsageError: it cannot be written.
        """
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=QUALITY)
        jpeg = stream.getvalue()
        if self._inside:
            return data_uri(jpeg)
        name = hashlib.sha256(jpeg).hexdigest()[:24] + ".jpg"
        try:
            if not self._used:
                write_atomically(self.folder / _MARK_FILE, f"{MARK}: pictures of the report beside this folder\n")
            if name not in self._used and not (self.folder / name).exists():
                write_atomically(self.folder / name, jpeg)
        except OSError as error:
            raise UsageError(f"cannot write to {self.folder}: {error.strerror or error}") from error
        self._used.add(name)
        return f"./{quote(os.fsencode(self.folder.name))}/{name}"

    def remove_unused(self) -> None:
        """Remove pictures of reports that are no more; what else lies in the folder stays."""
        if not (self.folder / _MARK_FILE).is_file():
            return
        for path in self.folder.iterdir():
            old = _NAME.fullmatch(path.name) and path.name not in self._used
            if old or _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if not self._used:
            (self.folder / _MARK_FILE).unlink()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
