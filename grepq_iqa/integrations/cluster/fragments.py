"""One fragment: its pictures scored, its rows written as one Parquet file that appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.integrations.cluster.plan import OWN_FOLDER, SHARD, read_fragment
from grepq_iqa.integrations.cluster.reading import pictures
from grepq_iqa.integrations.cluster.storage import open_storage
from grepq_iqa.text import MARK, first_line

if TYPE_CHECKING:
    from grepq_iqa.batch import NamedSource, Result
    from grepq_iqa.integrations.scorer import Scorer

METADATA = b"grepq_iqa"
"""Key of every file's metadata: JSON of generator, command and settings, the same in all files of a run."""

PROVENANCE = b"grepq_iqa.fragment"
"""Key of every file's metadata: JSON of which fragment it is, who scored it, and how long that took."""

_ATTEMPTS = 3  # at a fragment, while the storage fails; its client has tried each time, too
_PAUSE = 2.0  # seconds before storage is asked again, longer each time

_DEATHS = 3  # of workers in one fragment, after which it is left: it is not the machines

READERS = 4
"""Threads that read ahead of a worker's encoders: they wait for the network, and decode one at a time or so."""

_ENDED = "the process that read this picture ended: it is made to do harm, or needs more memory than there is"


@dataclass(frozen=True)
class Done:
    """What became of a fragment.

    Attributes:
        fragment: its number.
        rows: how many were written; 0 where it was there already or failed.
        failed: how many of them have errors.
        error: why it could not be written, or None.
    """

    fragment: int
    rows: int = 0
    failed: int = 0
    error: str | None = None


def place(fragment: int) -> tuple[str, str]:
    """Folder and name of a fragment's file below the output."""
    return f"shard={fragment // SHARD:06d}", f"part-{fragment:08d}.parquet"


def score_fragment(output_url: str, fragment: int, scorer: Scorer, settings: Mapping[str, Any]) -> Done:
    """Score a fragment of the plan and write it, unless its file is there.

    A worker that dies leaves its mark. Who takes its fragment over then scores every picture in a process of its own,
    so that one which ends its process becomes a row with an error instead of ending one worker after the other. A
    fragment in which `_DEATHS` workers died all the same, as by a table that breaks its reader, is left unwritten.

    Args:
        output_url: of the run.
        fragment: its number.
        scorer: by which.
        settings: of the run; the model must be the one that they name.
    """
    output = open_storage(output_url)
    folder, name = place(fragment)
    mark = (OWN_FOLDER, "started", f"{fragment:08d}")
    error, before = "", b""
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE * attempt)
        try:
            if output.exists(folder, name):
                return Done(fragment)
            before = output.read(*mark) if output.exists(*mark) else b""
            deaths = len(before.split())
            if deaths >= _DEATHS:
                return Done(
                    fragment, error=f"{deaths} workers ended while they read it: {_first(output_url, fragment)}"
                )
            output.write(before + f"{platform.node()}:{os.getpid()}\n".encode(), *mark)
            started = time.perf_counter()
            sources = pictures(read_fragment(output_url, fragment), scorer.column)
            results = list(_one_by_one(scorer, sources) if deaths else scorer.stream(sources, readers=READERS))
            _require_access(results)
            seconds = time.perf_counter() - started
            output.write(_file(scorer, results, settings, fragment, seconds), folder, name)
            output.remove(*mark)
            return Done(fragment, len(results), sum(result.error is not None for result in results))
        except OSError as reason:
            with suppress(OSError):  # this worker lives
                output.write(before, *mark) if before else output.remove(*mark)
            error = f"{type(reason).__name__}: {first_line(reason)}"
    return Done(fragment, error=f"storage cannot be read or written ({error})")


def _require_access(results: list[Result]) -> None:
    """All refused is no fault of the pictures'.

    Raises:
        OSError: that is so.
    """
    if results and all((result.error or "").startswith("permission denied") for result in results):
        raise PermissionError("permission denied for every picture")


def _first(output_url: str, fragment: int) -> str:
    return read_fragment(output_url, fragment)[0].path


def check_model(scorer: Scorer, settings: Mapping[str, Any]) -> None:
    """Refuse a worker whose files of the model are others than those of the run.

    Raises:
        UsageError: they are.
    """
    model = scorer.load()
    here = model.encoder_hash
    if "fit" in settings and model.predictor_hash != settings["fit"]:
        raise UsageError(
            f"worker {platform.node()} has another fit of {settings['model']} than the run: give all the same files"
        )
    if here != settings["encoder_hash"]:
        raise UsageError(
            f"worker {platform.node()} has other weights of {settings['model']} ({here[:12]}) than the run "
            f"({settings['encoder_hash'][:12]}): install the same version everywhere"
        )


def _file(scorer: Scorer, results: list[Result], settings: Mapping[str, Any], fragment: int, seconds: float) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = scorer.table(results)
    arrays = {}
    for name, values in columns.items():
        kind = (
            pa.list_(pa.float32()) if name == "features" else pa.float64() if values.dtype.kind == "f" else pa.string()
        )
        # A name that is no proper text would be refused by Parquet's strings.
        listed = [_text(value) for value in values] if kind == pa.string() else values
        arrays[name] = pa.array(listed, kind, from_pandas=True)
    worker = f"{platform.node()}:{os.getpid()}"
    provenance = {"fragment": fragment, "worker": worker, "seconds": round(seconds, 3), "rows": len(results)}
    metadata = {METADATA: json.dumps(record(settings)).encode(), PROVENANCE: json.dumps(provenance).encode()}
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


def record(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's files say of it."""
    return {"generator": f"{MARK} {__version__}", "command": "score-many", "settings": dict(settings)}


def _text(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def _one_by_one(scorer: Scorer, sources: Iterable[NamedSource]) -> Iterator[Result]:
    """Results of pictures that each go through another process, one at a time."""
    from grepq_iqa.batch import Result

    pool = _pool(scorer)
    try:
        for name, source in sources:
            try:
                yield pool.submit(_score_one, scorer, name, source).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = _pool(scorer)
                yield Result(name, error=_ENDED)
    finally:
        pool.shutdown()


def _pool(scorer: Scorer) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(1, get_context("forkserver" if os.name == "posix" else "spawn"))
    try:
        pool.submit(_load, scorer).result()
    except BrokenProcessPool as error:
        pool.shutdown()
        raise OSError("not enough memory to load the model a second time") from error
    return pool


def _load(scorer: Scorer) -> None:
    scorer.load()


def _score_one(scorer: Scorer, name: str, source: Any) -> Result:
    return next(iter(scorer.stream([(name, source)])))
