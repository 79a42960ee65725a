"""Features of files already seen, kept on disk by content: a second fit, or one after a crash, costs nothing.

An entry is one .npz (never a pickle), ``<directory>/<model>/<first two digits>/<SHA-256 of the file>.npz``. It is
written beside its place and then moved there, so processes that share a cache see whole entries only; damaged ones
count as absent and are written again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from grepq_iqa.batch import Result
    from grepq_iqa.model import GRepQ


class Entry(NamedTuple):
    """What the cache knows of one file: features ``(d,)`` float32, and the fields of its `Score` if stored."""

    features: NDArray[np.float32]
    score: dict[str, Any] | None


class FeatureCache:
    """Features by the content of a file and the model that computed them.

    Args:
        directory: where entries go; made when the first is written.
        model_hash: changes with everything that features depend on: see `model_key`.
    """

    def __init__(self, directory: str | os.PathLike[str], model_hash: str) -> None:
        self.directory = Path(directory).expanduser()
        self.model_hash = model_hash
        self._warned = False

    def get(self, path: str | os.PathLike[str]) -> NDArray[np.float32] | None:
        """Features ``(d,)`` of the file at ``path``; None where they are not known."""
        entry = self.read(self.digest(path))
        return None if entry is None else entry.features

    def get_score(self, path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """The score fields stored for the file at ``path``; None where there are none."""
        entry = self.read(self.digest(path))
        return None if entry is None else entry.score

    def put(self, path: str | os.PathLike[str], features: ArrayLike, score: Mapping[str, Any] | None = None) -> None:
        """Keep the features ``(d,)`` of the file at ``path``, and a JSON-ready mapping of its score's fields."""
        self.write(self.digest(path), features, score)

    def digest(self, path: str | os.PathLike[str]) -> str | None:
        """SHA-256 of a file's content; None where it cannot be read, which whoever decodes it will explain."""
        try:
            with Path(path).open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
                return digest.hexdigest()
        except (OSError, ValueError):
            return None

    def read(self, digest: str | None) -> Entry | None:
        """The whole entry of a content digest, or None."""
        if digest is None:
            return None
        try:
            with np.load(self._place(digest), allow_pickle=False) as stored:
                features = np.asarray(stored["features"], dtype=np.float32)
                score = json.loads(stored["score"].tobytes().decode()) if "score" in stored else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            return None
        if features.ndim != 1 or not np.isfinite(features).all() or not isinstance(score, dict | None):
            return None
        return Entry(features, score)

    def write(self, digest: str | None, features: ArrayLike, score: Mapping[str, Any] | None = None) -> None:
        """Keep an entry by its content digest. A cache that cannot be written to warns once and stops nothing."""
        if digest is None:
            return
        arrays = {"features": np.asarray(features, dtype=np.float32)}
        if score is not None:
            arrays["score"] = np.frombuffer(json.dumps(dict(score)).encode(), dtype=np.uint8)
        place = self._place(digest)
        unfinished = None
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".part")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            Path(unfinished).replace(place)
        except OSError as error:
            if unfinished is not None:
                Path(unfinished).unlink(missing_ok=True)
            if not self._warned:
                self._warned = True
                warnings.warn(f"feature cache {self.directory} cannot be written: {error}", stacklevel=2)

    def _place(self, digest: str) -> Path:
        return self.directory / self.model_hash[:16] / digest[:2] / f"{digest}.npz"


def model_key(model: GRepQ) -> str:
    """64 hex digits for everything that a model's features depend on: encoders, image size limit, precision."""
    return hashlib.sha256(f"{model.encoder_hash} {model.max_side} {model.dtype}".encode()).hexdigest()


def default_directory() -> Path:
    """``grepq-iqa/features`` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(root) if root else Path.home() / ".cache") / "grepq-iqa" / "features"


def stream_cached(
    model: GRepQ, paths: Iterable[str | os.PathLike[str]], cache: FeatureCache | None
) -> Iterator[Result]:
    """`batch.stream` with features, through a cache; the same order, the same results.

    A score from the cache has no percentile: that comes from a table which may be renewed without the encoders.
    """
    from grepq_iqa.batch import Result, stream
    from grepq_iqa.results import Score

    if cache is None:
        yield from stream(model, paths, features=True)
        return
    # In order of ``paths``: a finished result from the cache, or the digest of a file that is on its way.
    order: deque[Result | str | None] = deque()

    def unknown() -> Iterator[str]:
        for given in paths:
            path = os.fspath(given)
            digest = cache.digest(path)
            entry = cache.read(digest)
            score = _score(Score, entry.score) if entry else None
            if entry is None or score is None or len(entry.features) != model.feature_dim:
                order.append(digest)
                yield path
            else:
                order.append(Result(path, score, entry.features))

    for result in stream(model, unknown(), features=True):
        while isinstance(order[0], Result):
            yield order.popleft()  # type: ignore[misc]
        digest = order.popleft()
        if result.features is not None and result.score is not None:
            fields = dataclasses.asdict(result.score) | {"percentile": None}
            cache.write(digest, result.features, fields)  # type: ignore[arg-type]
        yield result
    yield from order  # type: ignore[misc]


def _score(kind: Any, fields: dict[str, Any] | None) -> Any:
    """A `Score` of stored fields; None where they are not those of this version."""
    try:
        return None if fields is None else kind(**fields | {"warnings": tuple(fields["warnings"])})
    except (TypeError, KeyError):
        return None
