"""The pictures of a fragment, one after the other, from wherever they lie; what cannot be read is a row's error."""

from __future__ import annotations

import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from grepq_iqa.data.formats import EXTENSIONS
from grepq_iqa.data.named_bytes import NamedBytes
from grepq_iqa.errors import ImageError
from grepq_iqa.integrations.cluster.plan import Input
from grepq_iqa.integrations.cluster.storage import Busy, Refused, open_address, read_address
from grepq_iqa.text import first_line

if TYPE_CHECKING:
    from grepq_iqa.batch import NamedSource

PICTURE_COLUMNS = ("bytes", "image", "img", "picture", "photo", "content", "data", "jpg", "jpeg", "png", "webp")
"""Columns of tables in which encoded pictures are looked for, in this order, unless one is named."""

ADDRESS_COLUMNS = ("path", "url", "uri", "file", "filename")
"""Columns that name pictures elsewhere, looked for where there are no pictures."""

_ROWS_AT_ONCE = 32  # of a table: some ten megabytes of photographs

_NO_PICTURES = "no column of pictures: name it with --column"


def pictures(inputs: Iterable[Input], column: str | None = None) -> Iterator[NamedSource]:
    """Names and pictures of a fragment. A container that is damaged ends in one more, which raises when fetched.

    Names are paths or URLs; within a container ``#`` and the member's name or the row's number follow.

    Args:
        inputs: of the fragment.
        column: of tables; None looks for one.

    Raises:
        OSError: the storage cannot be reached, which may be different later.
    """
    for one in inputs:
        if one.kind == "image":
            yield one.path, _source(one.path)
            continue
        import pyarrow as pa

        damage = (pa.ArrowException, tarfile.TarError, EOFError, zlib.error, KeyError, UnicodeDecodeError)
        try:
            with open_address(one.path) as file:
                yield from _READERS[one.kind](one, file, column)
        except (FileNotFoundError, PermissionError) as error:
            yield one.path, partial(_refuse, one.path, _why(error))
        except damage as error:
            yield one.path, partial(_refuse, one.path, f"breaks off or is damaged here: {first_line(error)}")


_ATTEMPTS, _PAUSE = 3, 0.5  # seconds more after every one


def fetch(address: str) -> NamedBytes:
    """A picture's file.

    Raises:
        ImageError: it does not exist or may not be read.
        OSError: the storage cannot be reached.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return NamedBytes(read_address(address), address)
        except (FileNotFoundError, PermissionError, IsADirectoryError, Refused) as error:
            raise ImageError(address, _why(error)) from error
        except Busy as error:
            if attempt == _ATTEMPTS:
                raise ImageError(address, f"{_why(error)} {_ATTEMPTS} times") from error
            time.sleep(_PAUSE * attempt)
    raise AssertionError("every attempt returns, raises or is followed by another")


def _source(address: str) -> str | Callable[[], NamedBytes]:
    return partial(fetch, address) if "://" in address else address


def _why(error: OSError) -> str:
    if isinstance(error, (Refused, Busy)):
        return str(error).rpartition(": ")[2]
    return {"FileNotFoundError": "does not exist", "PermissionError": "permission denied"}.get(
        type(error).__name__, "not a file"
    )


def _refuse(name: str, reason: str) -> bytes:
    raise ImageError(name, reason)


def _from_tar(one: Input, file: Any, column: str | None) -> Iterator[NamedSource]:
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
                continue
            stream = archive.extractfile(member)
            name = f"{one.path}#{member.name}"
            yield name, NamedBytes(b"" if stream is None else stream.read(), name)


def _from_parquet(one: Input, file: Any, column: str | None) -> Iterator[NamedSource]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    name = _column(table.schema_arrow, column)
    if name is None:
        yield one.path, partial(_refuse, one.path, _NO_PICTURES)
        return
    last = one.first + one.count if one.count else table.metadata.num_row_groups
    row = sum(table.metadata.row_group(i).num_rows for i in range(one.first))
    for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=list(range(one.first, last)), columns=[name]):
        yield from _rows(one.path, row, batch.column(0))
        row += batch.num_rows


def _from_arrow(one: Input, file: Any, column: str | None) -> Iterator[NamedSource]:
    import pyarrow as pa

    begins = file.read(6)
    file.seek(0)
    if begins == b"ARROW1":
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:  # as Hugging Face keeps its tables
        reader = pa.ipc.open_stream(file)
        batches = iter(reader)
    name = _column(reader.schema, column)
    if name is None:
        yield one.path, partial(_refuse, one.path, _NO_PICTURES)
        return
    row = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            yield from _rows(one.path, row + start, batch.slice(start, _ROWS_AT_ONCE).column(name))
        row += batch.num_rows


def _rows(path: str, row: int, values: Any) -> Iterator[NamedSource]:
    for i, value in enumerate(values.to_pylist(), start=row):
        name = f"{path}#{i}"
        if isinstance(value, dict):
            value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if value is None:
            yield name, partial(_refuse, name, "there is no picture in this row")
        elif isinstance(value, str):
            yield name, _source(_beside(path, value))
        else:
            yield name, value


def _beside(table: str, address: str) -> str:
    """An address as a table has it: whole, or relative to the table's folder."""
    if "://" in address or address.startswith("/"):
        return address
    return f"{table.rpartition('/')[0]}/{address}"


def _column(schema: Any, wanted: str | None) -> str | None:
    import pyarrow.types as types

    names = list(schema.names)
    if wanted is not None:
        return wanted if wanted in names else None

    def holds_bytes(name: str) -> bool:
        kind = schema.field(name).type
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_struct(kind))

    found = next((name for name in PICTURE_COLUMNS if name in names and holds_bytes(name)), None)
    return found or next((name for name in ADDRESS_COLUMNS if name in names), None)


_READERS: dict[str, Callable[[Input, Any, str | None], Iterator[NamedSource]]] = {
    "tar": _from_tar,
    "parquet": _from_parquet,
    "arrow": _from_arrow,
}
