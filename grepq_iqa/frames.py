"""Scores as a pandas DataFrame: one row for each file, errors in a column, nothing raised for a broken picture."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from grepq_iqa.batch import Result, score_paths
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ

COLUMNS = ("score", "low_level", "high_level", "percentile", "warnings", "error")
PREDICTED = ("mos", "low", "high")
_PATH_COLUMNS = ("path", "image", "file", "filename")


def score_frame(
    model: GRepQ,
    images: Any,
    *,
    column: str | None = None,
    predict: bool = False,
    confidence: float = 0.9,
    cache: FeatureCache | None = None,
) -> pd.DataFrame:
    """See `grepq_iqa.GRepQ.score_frame`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError("score_frame needs pandas: pip install pandas") from error
    names = (*(PREDICTED if predict else ()), *COLUMNS)
    if isinstance(images, pd.DataFrame):
        given = images
        paths = given[_path_column(given, column)]
        if taken := [name for name in names if name in given.columns]:
            raise UsageError(f"the table has columns {', '.join(map(str, taken))} already: drop or rename them")
    elif column is not None:
        raise UsageError("column= names a column of a DataFrame, and the images are none")
    else:
        paths = images if isinstance(images, pd.Series) else pd.Series(list(_each(images)), dtype=object, name="path")
        given = pd.DataFrame({"path": paths})
    missing = paths.isna().to_numpy()
    files = [os.fspath(path) for path, without in zip(paths, missing, strict=True) if not without]
    found = score_paths(model, files, features=predict, cache=cache)
    no_path = Result("", error="no path")
    rows = [_row(model, no_path if without else next(found), predict, confidence) for without in missing]
    table = pd.DataFrame(rows, columns=list(names), index=given.index)
    table["error"] = pd.Series([row["error"] for row in rows], index=given.index, dtype=object)  # None, and no NaN
    numbers = [name for name in names if name not in {"warnings", "error"}]
    table = table.astype(dict.fromkeys(numbers, "float64"))
    out = given.copy()
    for name in names:  # of equal indexes, which are not joined: with repeated labels rows would multiply
        out[name] = table[name]
    return out


def _row(model: GRepQ, result: Result, predict: bool, confidence: float) -> dict[str, Any]:
    if result.score is None:
        return {"warnings": [], "error": result.error}
    score = result.score
    row: dict[str, Any] = {
        "score": score.score,
        "low_level": score.low_level,
        "high_level": score.high_level,
        "percentile": score.percentile,
        "warnings": list(score.warnings),
        "error": None,
    }
    if predict and result.features is not None:
        prediction = model.predict(features=result.features[None], confidence=confidence)
        for name in PREDICTED:
            row[name] = float(getattr(prediction, name)[0])
    return row


def _path_column(table: pd.DataFrame, column: str | None) -> Any:
    if column is not None:
        if column not in table.columns:
            raise UsageError(f"the table has no column {column!r}; it has {', '.join(map(str, table.columns))}")
        return column
    for name in table.columns:
        if str(name).strip().lower() in _PATH_COLUMNS:
            return name
    raise UsageError(f"no column is named {', '.join(_PATH_COLUMNS)}; say which holds the images with column=")


def _each(images: Any) -> Iterable[str | os.PathLike[str]]:
    return [images] if isinstance(images, (str, os.PathLike)) else images
