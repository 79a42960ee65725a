"""The photographs on the page: those of the folder that was given, and those that were dropped.

Dropped ones live in a temporary folder, under numbers, until the server ends. A client names a photograph by its number
only; no name from a client becomes a path here.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.batch import Result
from grepq_iqa.data.formats import RAW_EXTENSIONS
from grepq_iqa.data.images import MAX_PIXELS, DecodedImage
from grepq_iqa.data.thumbnails import gray_thumbnail, thumbnail
from grepq_iqa.errors import GrepqError
from grepq_iqa.files import sha256_of
from grepq_iqa.server.answers import Refusal
from grepq_iqa.server.settings import Settings

THUMBNAIL_SIDE, VIEW_SIDE = 320, 2048
_QUALITY = 95  # of the view: a rater must not see the damage of our own compression


@dataclass
class Photo:
    """One photograph of the page.

    Attributes:
        id: by which clients name it.
        name: shown, and written into the table of ratings.
        path: where its bytes are.
        of_folder: whether it is the user's own file, which is read only.
        digest: SHA-256 of its bytes; None before it was read.
        result: with features; None before it was scored.
        gray: small gray picture by which copies are found.
        has_thumbnail: whether there is one.
        size: bytes that a dropped one takes.
    """

    id: int
    name: str
    path: Path
    of_folder: bool
    digest: str | None = None
    result: Result | None = None
    gray: NDArray[np.float32] | None = None
    has_thumbnail: bool = False
    size: int = 0

    @property
    def usable(self) -> bool:
        """Whether it has a score and features."""
        return self.result is not None and self.result.score is not None and self.result.features is not None


class PhotoStore:
    """Photographs by number.

    Args:
        settings: folder and limits.
        paths: the folder's photographs.
        max_pixels: larger pictures are not shown.
    """

    def __init__(self, settings: Settings, paths: Iterable[Path] = (), max_pixels: int = MAX_PIXELS) -> None:
        self._settings, self._max_pixels = settings, max_pixels
        self._numbers = itertools.count(1)
        self._photos: dict[int, Photo] = {}
        self._by_digest: dict[str, Photo] = {}
        self._stored = 0
        self._lock = threading.Lock()
        self._session = secrets.token_hex(16)
        self._temporary = Path(tempfile.mkdtemp(prefix="grepq-serve-"))
        for path in paths:
            photo = Photo(next(self._numbers), _name_in(settings.folder, path), path, of_folder=True)
            self._photos[photo.id] = photo

    def __len__(self) -> int:
        return len(self._photos)

    def all(self) -> list[Photo]:
        """In the order in which they came."""
        return list(self._photos.values())

    def get(self, number: int) -> Photo:
        """The photograph of a number.

        Raises:
            Refusal: there is none of that number.
        """
        try:
            return self._photos[number]
        except KeyError:
            raise Refusal(404, "there is no such photograph; reload the page", "unknown") from None

    def add(self, name: str, file: IO[bytes]) -> Photo:
        """A dropped photograph; the one that is there where its bytes are known.

        Raises:
            Refusal: there is no room for it.
        """
        file.seek(0)
        data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            return self._add(name, data, digest)

    def _add(self, name: str, data: bytes, digest: str) -> Photo:
        known = self._by_digest.get(digest)
        if known is not None:
            return known
        if len(self._photos) >= self._settings.max_photos:
            raise Refusal(507, f"the page takes {self._settings.max_photos} photographs at most", "stored")
        if self._stored + len(data) > self._settings.max_stored:
            most = self._settings.max_stored / 1e6
            sentence = f"dropped photographs may take {most:.0f} MB at most; give their folder to grepq serve instead"
            raise Refusal(507, sentence, "stored")
        number = next(self._numbers)
        ending = PurePosixPath(name).suffix.lower()
        path = self._temporary / f"photo-{number}{ending if ending in RAW_EXTENSIONS else ''}"  # by which raw is known
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise Refusal(507, f"the photograph cannot be kept: {error.strerror or error}", "stored") from None
        photo = Photo(number, name, path, of_folder=False, digest=digest, size=len(data))
        self._photos[number] = self._by_digest[digest] = photo
        self._stored += len(data)
        return photo

    def forget_dropped(self) -> None:
        """Take the dropped ones off the page."""
        with self._lock:
            for photo in [one for one in self._photos.values() if not one.of_folder]:
                del self._photos[photo.id]
                photo.path.unlink(missing_ok=True)
                self._thumbnail_path(photo).unlink(missing_ok=True)
            self._by_digest.clear()
            self._stored = 0

    def note_pixels(self, photo: Photo, decoded: DecodedImage) -> None:
        """What is kept of the pixels: a thumbnail, and a smaller one that tells copies. Runs in a decoding thread."""
        try:
            if photo.digest is None:
                photo.digest = sha256_of(photo.path)
            pixels = decoded.values.transpose(1, 2, 0)
            photo.gray = gray_thumbnail(pixels, max_pixels=self._max_pixels)
            self._thumbnail_path(photo).write_bytes(_jpeg(pixels, THUMBNAIL_SIDE, 85, self._max_pixels))
            photo.has_thumbnail = True
        except (GrepqError, OSError):  # a full disk costs the thumbnail, not the score
            photo.has_thumbnail = False

    def source(self, photo: Photo) -> Any:
        """What the model reads: the user's own file, or a dropped one, which has a number for a name."""
        return os.fspath(photo.path)

    def thumbnail(self, photo: Photo) -> bytes:
        """A small JPEG.

        Raises:
            Refusal: there is none.
        """
        try:
            return self._thumbnail_path(photo).read_bytes()
        except OSError:
            raise Refusal(404, "there is no thumbnail", "unknown") from None

    def view(self, photo: Photo) -> bytes:
        """A JPEG to look at, at most `VIEW_SIDE` pixels a side: never the client's bytes.

        Raises:
            Refusal: it can no longer be read.
        """
        try:
            return _jpeg(self.source(photo), VIEW_SIDE, _QUALITY, self._max_pixels)
        except GrepqError as error:
            reason = getattr(error, "reason", error)
            raise Refusal(404, f"the photograph cannot be shown: {reason}", "unknown") from None

    def view_tag(self, photo: Photo) -> str:
        """Changes with what `view` gives, and with every store; 32 hex digits."""
        try:
            found = photo.path.stat()
            told = f"{self._session} {photo.id} {found.st_mtime_ns} {found.st_size} {found.st_ino}"
        except OSError:
            told = f"{self._session} {photo.id} gone"
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def close(self) -> None:
        """Delete what was dropped."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _thumbnail_path(self, photo: Photo) -> Path:
        return self._temporary / f"thumbnail-{photo.id}.jpg"


def _jpeg(source: Any, side: int, quality: int, max_pixels: int) -> bytes:
    stream = io.BytesIO()
    thumbnail(source, side, max_pixels=max_pixels).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def _name_in(folder: Path | None, path: Path) -> str:
    """As `grepq fit` reads it in a table that lies in the folder."""
    try:
        return path.relative_to(folder).as_posix() if folder is not None else path.as_posix()
    except ValueError:
        return path.absolute().as_posix()
