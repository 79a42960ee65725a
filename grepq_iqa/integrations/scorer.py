"""One callable for every framework that maps a function over batches of a table.

Ray Data's ``map_batches``, Hugging Face's ``Dataset.map(batched=True)``, Spark's ``mapInPandas`` (by way of
:mod:`grepq_iqa.integrations.spark`) and a plain loop take it as it is. It needs none of them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.devices import set_threads
from grepq_iqa.errors import ImageError, NotFittedError, UsageError
from grepq_iqa.text import first_line

if TYPE_CHECKING:
    from grepq_iqa.batch import NamedSource, Result
    from grepq_iqa.model import GRepQ

COLUMNS = ("bytes", "image", "path")
"""Where pictures are looked for in a batch, in this order, unless a column is named."""

SCORES = ("score", "low_level", "high_level", "percentile")
PREDICTIONS = ("mos", "low", "high")


class _Settings(NamedTuple):
    """What decides which model a process needs; hashable."""

    model: str | None
    engine: str
    device: str
    dtype: str
    max_side: int | None
    threads: int | None


class Scorer:
    """Batches of pictures in, batches of scores out; a row that cannot be scored is a row with its error.

    The object holds its settings only: it is light, can be pickled, and is sent to workers as it is. A worker process
    loads the model when the first batch comes, once for all scorers of the same settings.

    Example:
        >>> scorer = Scorer()
        >>> rows = scorer({"path": ["a.jpg", "b.jpg"]})  # doctest: +SKIP
        >>> rows["score"], rows["error"]  # doctest: +SKIP
        (array([0.93, nan]), array([None, 'does not exist'], dtype=object))

    Args:
        model: as for :meth:`grepq_iqa.GRepQ.from_pretrained`; it must be reachable from every worker.
        engine: "auto", "torch" or "onnx". Workers of unlike machines may choose differently: name one where their rows
            are to be compared.
        features: whether rows carry ``features``, ``(d,)`` float32 each.
        predict: whether rows carry ``mos``, ``low`` and ``high``, the prediction and its interval.
        threads: processor threads of the encoders and of decoding, set for the whole process; one is right where a
            framework starts a worker for every core. None leaves what is set.
        max_side: shrink longer pictures; None: the model's own.
        column: which column holds the pictures; None: the first of ``bytes``, ``image`` and ``path``.
        confidence: of the intervals, in [0.5, 1).
        max_pixels: refuse larger pictures; None: the model's own limit.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: as for ``from_pretrained``.

    Raises:
        UsageError: a setting is impossible.
    """

    def __init__(
        self,
        model: str | None = None,
        engine: str = "auto",
        features: bool = False,
        predict: bool = False,
        threads: int | None = 1,
        max_side: int | None = None,
        *,
        column: str | None = None,
        confidence: float = 0.9,
        max_pixels: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        if engine not in ("auto", "torch", "onnx"):
            raise UsageError(f"unknown engine {engine!r}: use auto, torch or onnx")
        self.model, self.engine, self.features, self.predict = model, engine, features, predict
        self.threads, self.max_side, self.column = threads, max_side, column
        self.confidence, self.max_pixels, self.device, self.dtype = confidence, max_pixels, device, dtype

    def __repr__(self) -> str:
        return f"Scorer({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the rows that `table` gives, in order."""
        optional = (*(PREDICTIONS if self.predict else ()), *(("features",) if self.features else ()))
        return ("path", *SCORES, *optional, "warnings", "error")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Rows of a batch, in its order.

        Args:
            batch: columns of one length n, arrays or lists. Pictures may be encoded bytes, paths, URLs that fsspec
                opens, arrays, PIL images, or a dictionary of ``bytes`` and ``path``, as in Hugging Face's tables.

        Returns:
            Columns ``(n,)``: ``score``, ``low_level``, ``high_level``, ``percentile``, float64 with nan where there is
            none; ``warnings``, joined by "; "; ``error``, None where all went well; ``features`` and ``mos``, ``low``,
            ``high`` where asked for; and those of the batch, but for the pictures themselves.

        Raises:
            UsageError: the batch has no column of pictures, or columns of the names that rows get.
            WeightsError: the model cannot be loaded.
            NotFittedError: predictions are wanted of a model that has none.
        """
        column = self._column(batch)
        if taken := [name for name in self.columns if name in batch and name not in (column, "path")]:
            raise UsageError(f"the batch has columns {', '.join(taken)} already: drop or rename them")
        pictures = list(batch[column])
        paths = list(batch["path"]) if "path" in batch else [None] * len(pictures)
        pairs = zip(paths, pictures, strict=True)
        named = [(_name(path, i), _source(picture)) for i, (path, picture) in enumerate(pairs)]
        table = self.table(self._results(named))
        kept = {name: _as_array(values) for name, values in batch.items() if name != column or name == "path"}
        return kept | {name: values for name, values in table.items() if name != "path"}

    def stream(self, sources: Iterable[NamedSource], *, readers: int | None = None) -> Iterator[Result]:
        """Results of named pictures as they come, in order and in bounded memory; they carry features.

        Args:
            sources: as for :func:`grepq_iqa.batch.score_sources`.
            readers: threads that fetch and decode ahead; None: ``threads``.

        Raises:
            WeightsError: the model cannot be loaded.
        """
        from grepq_iqa.batch import score_sources

        return score_sources(self.load(), sources, threads=readers or self.threads)

    def table(self, results: Sequence[Result]) -> dict[str, NDArray[Any]]:
        """Columns of results that carry features, ``path`` the first.

        Raises:
            NotFittedError: predictions are wanted of a model that has none.
        """
        model = self.load()
        n = len(results)
        columns: dict[str, NDArray[Any]] = {"path": _objects(result.path for result in results)}
        for name in SCORES:
            values = (None if result.score is None else getattr(result.score, name) for result in results)
            columns[name] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        good = [i for i, result in enumerate(results) if result.features is not None]
        if self.predict:
            for name in PREDICTIONS:
                columns[name] = np.full(n, np.nan)
            if good:
                rows = np.stack([results[i].features for i in good])  # type: ignore[misc]  # none is None here
                predicted = model.predict(features=rows, confidence=self.confidence)
                for name in PREDICTIONS:
                    columns[name][good] = getattr(predicted, name)
        if self.features:
            columns["features"] = _objects(result.features for result in results)
        columns["warnings"] = _objects("; ".join(result.score.warnings if result.score else ()) for result in results)
        columns["error"] = _objects(result.error for result in results)
        return columns

    def load(self) -> GRepQ:
        """The model, loaded in this process when it is first needed.

        Raises:
            WeightsError: it cannot be loaded.
            NotFittedError: predictions are wanted and the model has none.
            UsageError: an engine that this version does not have.
        """
        settings = _Settings(self.model, self.engine, self.device, self.dtype, self.max_side, self.threads)
        with _lock:
            if settings not in _models:
                while len(_models) >= _KEPT:
                    del _models[next(iter(_models))]
                _models[settings] = _load(settings)
            model = _models[settings] = _models.pop(settings)  # the last one used is the last to go
        if self.predict and not hasattr(model, "regressor_") and model.ratings is None:
            raise NotFittedError(f"model {model.name!r} has seen no labels and predicts nothing; use predict=False")
        if self.max_pixels is not None:
            model = copy.copy(model)  # the limit is this scorer's, and the model everybody's
            model.max_pixels = self.max_pixels
        return model

    def _column(self, batch: Mapping[str, Any]) -> str:
        if self.column is not None:
            if self.column not in batch:
                raise UsageError(f"no column {self.column!r} in the batch: it has {', '.join(batch) or 'none'}")
            return self.column
        found = next((name for name in COLUMNS if name in batch), None)
        if found is None:
            raise UsageError(
                f"no column of pictures in the batch, which has {', '.join(batch) or 'none'}: name one of "
                f"{', '.join(COLUMNS)}, or give column="
            )
        return found

    def _results(self, named: list[NamedSource]) -> list[Result]:
        from grepq_iqa.batch import Result

        self.load()  # what is wrong with the model is no fault of a row's
        try:
            return list(self.stream(named))
        except Exception:  # a fault that nobody foresaw: find the rows that have it, and keep the others
            results: list[Result] = []
            for one in named:
                try:
                    results.extend(self.stream([one]))
                except Exception as error:
                    results.append(Result(one[0], error=f"{type(error).__name__}: {first_line(error)}"))
            return results


_KEPT = 2  # models that a process holds: each takes some hundred megabytes, and two may be compared
_models: dict[_Settings, GRepQ] = {}
_lock = threading.Lock()


def _load(settings: _Settings) -> GRepQ:
    from grepq_iqa.model import GRepQ

    if settings.threads is not None:
        set_threads(settings.threads)
    return GRepQ.from_pretrained(
        settings.model,
        engine=settings.engine,
        device=settings.device,
        dtype=settings.dtype,
        max_side=settings.max_side,
    )


def _name(path: object, index: int) -> str:
    return path if isinstance(path, str) else f"row {index}"


def _source(picture: Any) -> Any:
    """What `decode_image` takes, of what tables hold; a missing picture raises when it is fetched."""
    if isinstance(picture, Mapping):  # Hugging Face's Image(decode=False), and its Parquet files
        picture = picture.get("bytes") if picture.get("bytes") is not None else picture.get("path")
    if picture is None or (isinstance(picture, float) and np.isnan(picture)):
        return _missing
    if isinstance(picture, np.generic):
        picture = picture.item()
    if isinstance(picture, str) and "://" in picture:
        from grepq_iqa.integrations.cluster.reading import fetch

        return partial(fetch, picture)
    return picture if not callable(picture) else _missing


def _missing() -> bytes:
    raise ImageError("row", "there is no picture in this row")


def _objects(values: Iterable[object]) -> NDArray[Any]:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    for i, value in enumerate(listed):
        array[i] = value
    return array


def _as_array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    return _objects(values)
