"""`Scorer` for Spark's ``DataFrame.mapInPandas``: frames of pandas in, frames of one schema out.

Example:
    >>> from grepq_iqa.integrations import COLUMNS, Scorer, spark
    >>> scorer = Scorer()
    >>> pictures = session.read.format("binaryFile").load("s3a://bucket/photos")  # doctest: +SKIP
    >>> pictures = pictures.withColumnRenamed("content", "bytes")  # doctest: +SKIP
    >>> scores = pictures.mapInPandas(spark.in_pandas(scorer), spark.schema(scorer))  # doctest: +SKIP

Spark itself is not imported; pandas comes with it. Spark hands 10,000 rows to a worker at once, which is too many
pictures: set ``spark.sql.execution.arrow.maxRecordsPerBatch`` to 64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from grepq_iqa.integrations.scorer import COLUMNS, Scorer

if TYPE_CHECKING:
    import pandas as pd


def in_pandas(scorer: Scorer | None = None) -> Callable[[Iterable[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """A function for ``mapInPandas``: the columns of `schema` for frames with a column ``bytes`` or ``path``.

    Args:
        scorer: its settings go to the workers; None: ``Scorer()``.
    """
    chosen = scorer or Scorer()

    def score(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        for frame in frames:
            # Further columns of the frame are left out, whatever they are called.
            read = [name for name in frame.columns if name in (chosen.column, *COLUMNS)]
            rows: dict[str, Any] = chosen({name: frame[name].to_numpy() for name in read})
            missing = [None] * len(frame)
            yield pd.DataFrame({name: list(rows[name]) if name in rows else missing for name in chosen.columns})

    return score


def schema(scorer: Scorer | None = None) -> str:
    """The schema of its rows, as Spark writes it."""
    words = {"path": "string", "warnings": "string", "error": "string", "features": "array<float>"}
    return ", ".join(f"{name} {words.get(name, 'double')}" for name in (scorer or Scorer()).columns)
