"""Rows as Parquet, by pyarrow: typed columns, the run's settings in the file's metadata, errors as a column."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grepq_iqa.errors import UsageError
from grepq_iqa.rows import LISTS, TEXTS

_RECORD = b"grepq"  # key of the metadata


def require_parquet() -> None:
    """Refuse before the work.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'grepq-iqa[parquet]'") from error


def write_parquet(
    path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]], record: Mapping[str, Any]
) -> None:
    """Write rows; names of files that are no proper text keep what can be told of them.

    Args:
        path: written to as it is; the caller makes it take its place whole.
        fields: columns; texts, lists of texts, or numbers or null, as `grepq_iqa.rows` says.
        rows: one mapping each.
        record: JSON-ready, kept in the schema's metadata.

    Raises:
        UsageError: pyarrow is not installed.
        OSError: it cannot be written.
    """
    require_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(field: str) -> Any:
        if field in TEXTS:
            return pa.string()
        return pa.list_(pa.string()) if field in LISTS else pa.float64()

    listed = list(rows)
    columns = {
        field: pa.array([_value(row.get(field)) for row in listed], type=kind(field), from_pandas=True)
        for field in fields
    }
    schema = pa.schema([(field, kind(field)) for field in fields], metadata={_RECORD: json.dumps(record).encode()})
    pq.write_table(pa.table(columns, schema=schema), path)


def read_parquet(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and record of a file of `write_parquet`.

    Raises:
        UsageError: pyarrow is not installed, or the file is another one or damaged.
    """
    require_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)
        record = json.loads((table.schema.metadata or {})[_RECORD])
        rows: list[dict[str, Any]] = table.to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"{path} is damaged or no table of rows of ours; give another --output") from error
    return rows, record


def _value(value: Any) -> Any:
    """Text that Arrow takes: it must be UTF-8, and names of files need not be."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return [_value(one) for one in value] if isinstance(value, (list, tuple)) else value
