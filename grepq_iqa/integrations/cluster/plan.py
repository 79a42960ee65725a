"""What belongs together: inputs in a stable order, cut into fragments that are scored and written whole.

The plan is made once and stored beside the scores, so that a run that goes on later has the same fragments, whatever
has been added to the inputs meanwhile.
"""

from __future__ import annotations

import glob
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, cast

from grepq_iqa.data.formats import EXTENSIONS
from grepq_iqa.data.image_paths import SYSTEM_FOLDERS
from grepq_iqa.errors import UsageError
from grepq_iqa.integrations.cluster.storage import Storage, open_address

Kind = Literal["image", "parquet", "tar", "arrow"]

CONTAINERS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".tar": "tar",
    ".tgz": "tar",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""Files that hold many pictures, by their ending in lower case."""

OWN_FOLDER = "_grepq"
"""Of a run, below its output: the settings and the plan. Readers of Parquet pass over names that begin so."""

SHARD = 100
"""So many fragments share a file of the plan, and a folder of the output."""

_FOOTERS_AT_ONCE = 16  # reading one from a network is waiting


@dataclass(frozen=True)
class Input:
    """One file, or a part of it.

    Attributes:
        kind: how it is read.
        path: its path or URL.
        size: of the file in bytes, 0 where unknown.
        first: of a Parquet file, the first row group that is meant.
        count: how many row groups, 0 for all of the file.
    """

    kind: Kind
    path: str
    size: int = 0
    first: int = 0
    count: int = 0


def iter_inputs(url: str, output: Storage | None = None) -> Iterator[Input]:
    """Pictures and containers below a prefix, in a folder, of a pattern, or one file, sorted folder by folder.

    Hidden files, the folders that systems leave, and the output of a run are passed over.

    Raises:
        UsageError: there is nothing of the name.
        OSError: it cannot be listed.
    """
    storage = Storage(url)
    skipped = output.address(output.root) if output else None
    if glob.has_magic(storage.root) and not storage.fs.exists(storage.root):
        found = storage.fs.glob(storage.root, detail=True)
        for path, entry in sorted(found.items()):
            if entry["type"] == "directory":
                yield from _below(storage, path.rstrip("/"), skipped)
            else:
                yield from _one(storage, path, int(entry.get("size") or 0))
    elif storage.fs.isfile(storage.root):
        known = list(_one(storage, storage.root, int(storage.fs.size(storage.root) or 0)))
        yield from known or [Input("image", storage.address(storage.root))]  # any name is right for a named file
    elif storage.fs.isdir(storage.root):
        yield from _below(storage, storage.root, skipped)
    else:
        raise UsageError(f"{url}: there is no such file, folder or prefix")


def cut(inputs: Iterable[Input], pictures: int) -> Iterator[tuple[Input, ...]]:
    """Fragments of about so many pictures: files in a row, row groups of a Parquet file, or one other container.

    Where fragments end depends on the inputs alone.
    """
    waiting: list[Input] = []
    containers: list[Input] = []

    def flush_containers() -> Iterator[tuple[Input, ...]]:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            for parts in pool.map(lambda one: list(_parts(one, pictures)), containers):
                yield from ((part,) for part in parts)
        containers.clear()

    for one in inputs:
        if one.kind == "image":
            waiting.append(one)
            if len(waiting) == pictures:
                yield tuple(waiting)
                waiting.clear()
        else:
            containers.append(one)
            if len(containers) == _FOOTERS_AT_ONCE:
                yield from flush_containers()
    yield from flush_containers()
    if waiting:
        yield tuple(waiting)


def write_plan(output: Storage, fragments: Iterable[tuple[Input, ...]]) -> tuple[int, int]:
    """Store fragments below the output, a file for each `SHARD` of them; returns how many there are, and files read."""
    total = inputs = 0
    shard: list[tuple[Input, ...]] = []

    def flush() -> None:
        if shard:
            output.write(_packed(shard), OWN_FOLDER, "plan", f"{(total - 1) // SHARD:06d}.parquet")
            shard.clear()

    for fragment in fragments:
        shard.append(fragment)
        total += 1
        inputs += len(fragment)
        if len(shard) == SHARD:
            flush()
    flush()
    return total, inputs


def read_fragment(output_url: str, fragment: int) -> tuple[Input, ...]:
    """A fragment of the stored plan, by its number.

    Raises:
        OSError: the plan cannot be read.
    """
    return _shard(output_url, fragment // SHARD)[fragment % SHARD]


def _below(storage: Storage, folder: str, skipped: str | None) -> Iterator[Input]:
    entries = storage.fs.ls(folder, detail=True)
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        path = str(entry["name"]).rstrip("/")
        name = PurePosixPath(path).name
        if path == folder or name.startswith(".") or name == OWN_FOLDER or storage.address(path) == skipped:
            continue  # an object store may list a folder among its own files
        if entry["type"] == "directory":
            if not any(fnmatch(name, pattern) for pattern in SYSTEM_FOLDERS):
                yield from _below(storage, path, skipped)
        else:
            yield from _one(storage, path, int(entry.get("size") or 0))


def _one(storage: Storage, path: str, size: int) -> Iterator[Input]:
    name = PurePosixPath(path).name.lower()
    suffix = ".tar" if name.endswith((".tar.gz", ".tar.bz2", ".tar.xz")) else PurePosixPath(name).suffix
    if suffix in EXTENSIONS:
        yield Input("image", storage.address(path), size)
    elif suffix in CONTAINERS:
        yield Input(CONTAINERS[suffix], storage.address(path), size)


def _parts(container: Input, pictures: int) -> Iterator[Input]:
    if container.kind != "parquet":
        yield container
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_address(container.path) as file:
            metadata = pq.ParquetFile(file).metadata
            rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError):  # whoever scores it will say why
        yield container
        return
    first = held = 0
    for i, count in enumerate(rows):
        if i > first and held + count > pictures:
            yield Input("parquet", container.path, container.size, first, i - first)
            first, held = i, 0
        held += count
    if rows:
        yield Input("parquet", container.path, container.size, first, len(rows) - first)


def _packed(fragments: list[tuple[Input, ...]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"fragment": i, **vars(one)} for i, fragment in enumerate(fragments) for one in fragment]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    return sink.getvalue()


@lru_cache(maxsize=2)  # neighbors are scored one after the other
def _shard(output_url: str, shard: int) -> list[tuple[Input, ...]]:
    import pyarrow.parquet as pq

    content = Storage(output_url).read(OWN_FOLDER, "plan", f"{shard:06d}.parquet")
    fragments: list[list[Input]] = []
    for row in pq.read_table(io.BytesIO(content)).to_pylist():
        if row["fragment"] == len(fragments):
            fragments.append([])
        kind = cast(Kind, row["kind"])
        fragments[-1].append(Input(kind, row["path"], row["size"], row["first"], row["count"]))
    return [tuple(fragment) for fragment in fragments]
