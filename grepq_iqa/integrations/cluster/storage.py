"""Files wherever they lie: local paths, and the URLs that fsspec knows, such as ``s3://bucket/key``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.text import first_line

INSTALL = "pip install 'grepq-iqa[ray]'"


class Refused(OSError):
    """A server answered that it does not give this file."""


class Busy(OSError):
    """A server answered that it cannot give this file now."""


_AGAIN = {408, 425, 429}
"""Answers of HTTP that tell to ask again later, though by their number they are the client's fault."""


@contextmanager
def told_as_os_errors(name: str) -> Iterator[None]:
    """Clients of servers raise what they like; here it becomes what local disks raise.

    Raises:
        PermissionError, FileNotFoundError, Refused: the server does not give this one.
        Busy: it does not now.
        UsageError: there are no credentials to ask with.
        OSError: it cannot be reached, or had trouble.
    """
    try:
        yield
    except (OSError, GrepqError, MemoryError, ImportError):
        raise
    except Exception as error:
        status = getattr(error, "status", None)
        if "Credential" in type(error).__name__:  # of botocore and of Google's client
            raise UsageError(f"{name}: {first_line(error)}") from error
        if isinstance(status, int) and status >= 400:
            kind = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError, 410: FileNotFoundError}
            other = Busy if status >= 500 or status in _AGAIN else Refused
            raise kind.get(status, other)(f"{name}: the server answered {status}") from error
        raise OSError(f"{name}: {type(error).__name__}: {first_line(error)}") from error


class Storage:
    """A place by its URL: the file system, and the path there.

    Args:
        url: a local path, or a URL such as ``s3://bucket/prefix``. Credentials and endpoints come from the environment,
            as the file system's own tools take them (``AWS_ENDPOINT_URL``, ``FSSPEC_S3_...``).

    Attributes:
        fs: fsspec's file system.
        root: the path there, without an ending slash.

    Raises:
        UsageError: no package reads such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self.fs, root = url_to_fs(url)
        except ImportError as error:
            raise UsageError(f"{url}: {error}; {INSTALL} brings what local files and S3 need") from error
        except ValueError as error:  # an unknown protocol
            raise UsageError(f"{url}: {error}") from error
        self.root: str = root.rstrip("/") or root

    @property
    def is_local(self) -> bool:
        """Whether it is a folder or file of this machine."""
        protocol = self.fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def address(self, path: str) -> str:
        """What a path of this file system is called elsewhere: a local path as it is, others as a URL."""
        return path if self.is_local else str(self.fs.unstrip_protocol(path))

    def join(self, *parts: str) -> str:
        """A path below the root."""
        return "/".join((self.root, *parts))

    def exists(self, *parts: str) -> bool:
        """Whether there is something below the root, as of now."""
        with told_as_os_errors(self.join(*parts)):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.join(*parts)))

    def read(self, *parts: str) -> bytes:
        """A whole file below the root.

        Raises:
            OSError: it cannot be read.
        """
        with told_as_os_errors(self.join(*parts)):
            content: bytes = self.fs.cat_file(self.join(*parts))
            return content

    def write(self, content: bytes, *parts: str) -> None:
        """Write a whole file below the root; who reads it meanwhile sees all of it or nothing.

        Object stores show an object when it is complete; on local disks a renamed file is.

        Raises:
            OSError: it cannot be written.
        """
        path = self.join(*parts)
        if self.is_local:
            write_atomically(path, content)
        else:
            with told_as_os_errors(path):
                self.fs.pipe_file(path, content)

    def names(self, *parts: str) -> list[str]:
        """All files anywhere below a folder under the root, relative to it; none where there is no such folder."""
        folder = self.join(*parts)
        try:
            with told_as_os_errors(folder):
                self.fs.invalidate_cache()
                found = self.fs.find(folder)
        except FileNotFoundError:
            return []
        return sorted(name[len(folder) + 1 :] for name in found if name.startswith(folder + "/"))

    def remove(self, *parts: str) -> None:
        """Delete a file below the root, if it is there."""
        with suppress(FileNotFoundError), told_as_os_errors(self.join(*parts)):
            self.fs.rm_file(self.join(*parts))


def open_storage(url: str) -> Storage:
    """As `Storage`; kept by the process that asks again."""
    if url not in _opened:
        _opened[url] = Storage(url)
    return _opened[url]


_opened: dict[str, Storage] = {}


def read_address(address: str) -> bytes:
    """A whole file by its path or URL.

    Raises:
        OSError: it cannot be read.
    """
    storage = Storage(address)  # file systems themselves are kept by fsspec
    with told_as_os_errors(address):
        content: bytes = storage.fs.cat_file(storage.root)
        return content


def open_address(address: str) -> Any:
    """A seekable binary file by its path or URL, read as needed.

    Raises:
        OSError: it cannot be opened.
    """
    storage = Storage(address)
    with told_as_os_errors(address):
        return storage.fs.open(storage.root, "rb")
