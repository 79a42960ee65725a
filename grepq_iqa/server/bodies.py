"""Request bodies -> pictures, limited while they are read: by bytes, by time, and by what all bodies hold together."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from grepq_iqa.data.formats import RAW_EXTENSIONS
from grepq_iqa.server.answers import Refusal, busy, too_large, too_slow
from grepq_iqa.server.settings import (
    BODY_GRACE_SECONDS,
    IDLE_SECONDS,
    MIB,
    SLOWEST_BYTES_PER_SECOND,
    Settings,
)

_LONGEST_NAME = 255
_SMALL = 4096
_LINGER_BYTES, _LINGER_SECONDS = 8 * MIB, 2.0  # read and thrown away so that a client sees why it was refused


class Picture(NamedTuple):
    """One picture that a client sent.

    Attributes:
        name: what the client calls it; for answers only, never a path here.
        file: its bytes; None where there were too many.
        error: why it cannot be used.
    """

    name: str
    file: IO[bytes] | None
    error: str | None = None


class Buffers:
    """Counts the bytes that all bodies hold, and refuses more than ``most``."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, size: int) -> None:
        """Room for so many more.

        Raises:
            Refusal: there is none.
        """
        if self.held + size > self.most:
            raise busy()
        self.held += size

    def give_back(self, size: int) -> None:
        """Room for others."""
        self.held -= size


async def body_chunks(request: Request, most: int, what: str, buffers: Buffers) -> AsyncGenerator[bytes, None]:
    """The body, piece by piece; whoever reads it gives back what the buffers took.

    Raises:
        Refusal: too many bytes, in all or for the moment, or they come too slowly.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        await _linger(request)
        raise too_large(what, most)
    received, started = 0, time.monotonic()
    stream = request.stream()
    while True:
        allowed = started + BODY_GRACE_SECONDS + received / SLOWEST_BYTES_PER_SECOND - time.monotonic()
        try:
            chunk = await asyncio.wait_for(anext(stream), max(0.01, min(IDLE_SECONDS, allowed)))
        except StopAsyncIteration:
            return
        except (asyncio.TimeoutError, TimeoutError):
            raise too_slow() from None
        except ClientDisconnect:
            raise Refusal(400, "the client went away", "gone", {"Connection": "close"}) from None
        received += len(chunk)
        if received > most:
            await _linger(request)
            raise too_large(what, most)
        buffers.take(len(chunk))
        yield chunk


async def small_body(request: Request) -> bytes:
    """The body of a request that holds no picture.

    Raises:
        Refusal: too many bytes, or they come too slowly.
    """
    body = b""
    async for chunk in body_chunks(request, _SMALL, "the request", Buffers(_SMALL)):
        body += chunk
    return body


@asynccontextmanager
async def pictures_of(request: Request, settings: Settings, buffers: Buffers) -> AsyncGenerator[list[Picture], None]:
    """The pictures of a request: its body, or every file of a multipart form.

    Raises:
        Refusal: the body cannot be used.
    """
    counted = _Counted(buffers)
    files: list[Picture] = []
    try:
        if _content_type(request) == "multipart/form-data":
            files = await _parts(request, settings, counted)
        else:
            files = [await _whole_body(request, settings, counted)]
        yield files
    finally:
        buffers.give_back(counted.taken)
        for one in files:
            if one.file is not None:
                one.file.close()


class _Counted(Buffers):
    """Passes on to the common buffers, and knows how much this request took."""

    def __init__(self, common: Buffers) -> None:
        self._common, self.taken = common, 0

    def take(self, size: int) -> None:
        self._common.take(size)
        self.taken += size


async def _whole_body(request: Request, settings: Settings, buffers: Buffers) -> Picture:
    name = plain_name(request.query_params.get("name", "")) or "body"
    data = io.BytesIO()
    async for chunk in body_chunks(request, settings.max_picture, "the picture", buffers):
        data.write(chunk)
    data.seek(0)
    return named_picture(name, data)


async def _parts(request: Request, settings: Settings, buffers: Buffers) -> list[Picture]:
    chunks = body_chunks(request, settings.max_request, "the request", buffers)
    parser = MultiPartParser(request.headers, chunks, max_files=settings.max_files, max_fields=settings.max_files)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(400, f"the form cannot be read: {error.message}", "form", {"Connection": "close"}) from None
    except (KeyError, ValueError, UnicodeError):
        raise Refusal(400, "the form cannot be read", "form", {"Connection": "close"}) from None
    pictures: list[Picture] = []
    for _, part in form.multi_items():
        if not isinstance(part, UploadFile):
            continue
        name = plain_name(part.filename or "") or f"picture {len(pictures) + 1}"
        if (part.size or 0) > settings.max_picture:
            await part.close()
            pictures.append(Picture(name, None, f"has more than {settings.max_picture / 1e6:.0f} MB"))
        else:
            pictures.append(named_picture(name, part.file))
    if not pictures:
        raise Refusal(400, "the form holds no file; send each picture as a part with a file name", "form")
    return pictures


def named_picture(name: str, file: Any) -> Picture:
    """A picture whose file tells decoders no more of its name than the ending, which raw files are known by."""
    ending = PurePosixPath(name).suffix.lower()
    wrapped: Any = _Named(file, "<picture>" + (ending if ending in RAW_EXTENSIONS else ""))
    return Picture(name, wrapped)


class _Named:
    """A file with a name of ours."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self.name, self.filename = file, name, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._file, attribute)


def plain_name(name: str) -> str:
    """A client's name for a picture as a relative path without tricks; "" where nothing is left of it.

    It names the picture in answers and in the table of ratings, which other programs read as paths: so there is no way
    out of a folder in it, no drive, no control character, and no leading sign that a spreadsheet takes for a formula.
    """
    clean = "".join(c if c.isprintable() else "_" for c in name.replace("\\", "/"))
    parts = [part.strip() for part in clean.split("/")]
    parts = [part for part in parts if part not in ("", ".", "..", "~") and not part.endswith(":")]
    result = "/".join(parts).replace(":", "_").lstrip("~")
    while len(result.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        result = result[-(len(result) - 1) :]
    result = result.encode("utf-8", "replace").decode().lstrip("/")
    return f"./{result}" if result[:1] in tuple("=+-@") else result


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _linger(request: Request) -> None:
    """Read a little more, so that the answer is not lost in a reset of the connection."""
    read, deadline = 0, time.monotonic() + _LINGER_SECONDS
    try:
        while read < _LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            message = await asyncio.wait_for(request.receive(), left)
            read += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return
    except (asyncio.TimeoutError, TimeoutError):
        return
