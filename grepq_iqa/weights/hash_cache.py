"""What this machine remembers about files: hashes already computed, revisions already resolved.

One JSON file, ``records.json``, in huggingface_hub's folder for assets (``$HF_ASSETS_CACHE/grepq-iqa``), or in
``grepq-iqa`` inside an explicit ``cache_dir``. Losing it costs a re-hash, never a wrong answer, except that a hash
recorded at a first download is recorded anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from grepq_iqa.files import sha256_of, write_atomically

_EMPTY: dict[str, Any] = {"format": 1, "digests": {}, "revisions": {}, "files": {}}
_LOCK_SECONDS = 10


def hash_cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where records and derived files live for this cache."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser() / "grepq-iqa"
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "grepq-iqa"


class HashCache:
    """``records.json`` of one folder. Reading never fails; a folder that cannot be written is simply not remembered."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "records.json"

    def sha256(self, path: Path, *, recompute: bool = False) -> str:
        """SHA-256 of ``path``, from memory when its size and modification time are those remembered."""
        stat = path.stat()
        key, mark = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._read()["digests"].get(key)
        if isinstance(known, list) and known[:2] == mark and not recompute:
            result: str = known[2]
            return result
        digest = sha256_of(path)
        if known != [*mark, digest]:
            self._update(lambda data: data["digests"].update({key: [*mark, digest]}))
        return digest

    def commit(self, repo: str, revision: str) -> str | None:
        """The commit that a branch or tag was resolved to, or None."""
        result: str | None = self._read()["revisions"].get(f"{repo}@{revision}")
        return result

    def files(self, key: str) -> dict[str, str | None]:
        """File name -> sha256 recorded under ``key``: "owner/repo@commit", or the name of a model of the manifest."""
        return dict(self._read()["files"].get(key, {}))

    def remember(self, *, revisions: dict[str, str], files: dict[str, dict[str, str | None]]) -> None:
        """Add resolved revisions ("owner/repo@branch" -> commit) and file hashes."""
        known = self._read()
        if any(known["revisions"].get(k) != v for k, v in revisions.items()) or any(
            known["files"].get(k) != v for k, v in files.items()
        ):
            self._update(lambda data: (data["revisions"].update(revisions), data["files"].update(files)))

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            data = None
        if not isinstance(data, dict) or data.get("format") != 1:
            data = {}
        return {key: data[key] if isinstance(data.get(key), type(empty)) else empty for key, empty in _fresh().items()}

    def _update(self, change: Callable[[dict[str, Any]], object]) -> None:
        # A cache on a read-only or full disk must not stop anyone from scoring.
        with contextlib.suppress(OSError, NotImplementedError), self._locked():
            data = self._read()
            change(data)
            data["digests"] = {path: value for path, value in data["digests"].items() if Path(path).exists()}
            write_atomically(self.path, json.dumps(data, indent=1).encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # filelock's Timeout is an OSError.
        with filelock.FileLock(str(self.path) + ".lock", timeout=_LOCK_SECONDS):
            yield


def _fresh() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(json.dumps(_EMPTY))
    return result
