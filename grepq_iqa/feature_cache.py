"""Features of files already seen, kept on disk by content: a second fit, or one after a crash, costs nothing.

An entry is one .npz (never a pickle), ``<directory>/<model>/<first two digits>/<SHA-256 of the file>.npz``. It takes
its place whole, so processes that share a cache see whole entries only; damaged ones count as absent and are written
again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa._version import __version__
from grepq_iqa.files import replacing, sha256_of
from grepq_iqa.results import Score

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ


class Entry(NamedTuple):
    """What the cache knows of one file.

    Attributes:
        features: ``(d,)`` float32.
        score: without its percentile, which comes from a table that may be renewed without the encoders; or None.
        seconds: how long the computation took, decoding included; or None.
    """

    features: NDArray[np.float32]
    score: Score | None
    seconds: float | None = None


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

    def digest(self, path: str | os.PathLike[str]) -> str | None:
        """SHA-256 of a file's content; None where it cannot be read, which whoever decodes it will explain."""
        try:
            return sha256_of(path)
        except (OSError, ValueError):
            return None

    def read(self, digest: str | None) -> Entry | None:
        """The whole entry of a content digest, or None."""
        if digest is None:
            return None
        try:
            with np.load(self._place(digest), allow_pickle=False) as stored:
                features = np.asarray(stored["features"], dtype=np.float32)
                fields = json.loads(stored["score"].tobytes().decode()) if "score" in stored else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            return None
        if features.ndim != 1 or not np.isfinite(features).all() or not isinstance(fields, dict | None):
            return None
        seconds = fields.pop("seconds", None) if fields else None
        return Entry(features, _score(fields), seconds if isinstance(seconds, float) else None)

    def write(
        self, digest: str | None, features: ArrayLike, score: Score | None = None, seconds: float | None = None
    ) -> None:
        """Keep an entry by its content digest. A cache that cannot be written to warns once and stops nothing."""
        if digest is None:
            return
        arrays: dict[str, NDArray[np.generic]] = {"features": np.asarray(features, dtype=np.float32)}
        if score is not None:
            fields = dataclasses.asdict(score) | {"percentile": None, "seconds": seconds}
            arrays["score"] = np.frombuffer(json.dumps(fields).encode(), dtype=np.uint8)
        try:
            with replacing(self._place(digest)) as beside:
                np.savez(beside, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"feature cache {self.directory} cannot be written: {error}", stacklevel=2)

    def _place(self, digest: str) -> Path:
        return self.directory / self.model_hash[:16] / digest[:2] / f"{digest}.npz"


def model_key(model: GRepQ) -> str:
    """64 hex digits for everything that a model's features depend on: encoders, engine, decoding, precision.

    Decoders and warnings change with versions; a JPEG beyond ``max_pixels`` is decoded reduced.
    """
    settings = (model.features_hash, model.max_side, model.max_pixels, model.dtype, __version__)
    return hashlib.sha256(" ".join(map(str, settings)).encode()).hexdigest()


def default_directory() -> Path:
    """``grepq-iqa/features`` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(root) if root else Path.home() / ".cache") / "grepq-iqa" / "features"


def _score(fields: dict[str, object] | None) -> Score | None:
    """A `Score` of stored fields; None where they are not those of a version that is known."""
    if fields is None:
        return None
    if "value" in fields:  # its name up to version 0.1
        fields["score"] = fields.pop("value")
    try:
        return Score(**fields | {"warnings": tuple(fields["warnings"])})  # type: ignore[arg-type]
    except (TypeError, KeyError):
        return None
