"""weights.json: which models exist, where their files are, and the hash of each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grepq_iqa.errors import WeightsError
from grepq_iqa.files import sha256_of, write_atomically

PACKAGE = Path(__file__).resolve().parent.parent

# Every name that a model directory may hold. The first three are needed to score.
MODEL_FILES = (
    "config.json",
    "low_level.safetensors",
    "high_level.safetensors",
    "features.safetensors",
    "fine_detail.safetensors",
    "predicted_fsim.safetensors",
    "pristine.safetensors",
    "ratings.safetensors",
    "encoders.int8.onnx",
    "encoders.onnx",
    "calibration.safetensors",
)
REQUIRED_FILES = MODEL_FILES[:3]

UPDATE_COMMAND = 'python -c "from grepq_iqa import weights; weights.update_manifest()"'


@dataclass(frozen=True)
class FileEntry:
    """One file of a model: ``bundled`` (a path inside the package), or ``repo``, ``revision`` and ``file``, or both.

    A file that is both is taken from the package where it is there; a slim wheel leaves it to the Hub. ``sha256`` is 64
    lower-case hex digits, or None where the publisher gives none: it is then recorded at the first download. ``size``
    is in bytes, or None.
    """

    bundled: str | None = None
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class ModelEntry:
    """One model of the manifest. ``source`` is "bundled", "hub" or "unpublished"."""

    name: str
    summary: str
    source: str
    license: str
    citation: str
    files: Mapping[str, FileEntry]
    directory: str | None = None
    prompts: Mapping[str, str] | None = None
    how_to_get: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes of all files together, or None when one of them is unknown."""
        sizes = [entry.size for entry in self.files.values()]
        return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


@dataclass(frozen=True)
class Manifest:
    """The whole of weights.json."""

    default: str
    models: Mapping[str, ModelEntry] = field(default_factory=dict)


def manifest_path() -> Path:
    """weights.json inside an installed package, or at the top of a source checkout."""
    packaged = PACKAGE / "weights.json"
    return packaged if packaged.is_file() else PACKAGE.parent / "weights.json"


def load_manifest(path: str | os.PathLike[str] | None = None) -> Manifest:
    """Read weights.json (``path``, or the one shipped with the package).

    Raises:
        WeightsError: it is missing or is not a manifest that this version understands.
    """
    source = Path(path) if path is not None else manifest_path()
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
        if data["schema_version"] != 1:
            raise ValueError(f"schema version {data['schema_version']} is not 1")
        models = {name: _model(name, entry) for name, entry in data["models"].items()}
        return Manifest(default=data["default"], models=models)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"the list of models {source} cannot be read: {error}", "weights.json", hint="reinstall grepq-iqa"
        ) from error


def _model(name: str, entry: dict[str, Any]) -> ModelEntry:
    fields = dict(entry)
    files = {file: FileEntry(**values) for file, values in fields.pop("files").items()}
    how_to_get = tuple(fields.pop("how_to_get", ()))
    return ModelEntry(name=name, files=files, how_to_get=how_to_get, **fields)


def hash_files(directory: str | os.PathLike[str]) -> dict[str, dict[str, str | int]]:
    """Hash the model files of a directory: ``{name: {"sha256": hex digits, "size": bytes}}``, in MODEL_FILES' order."""
    root = Path(directory)
    paths = [root / name for name in MODEL_FILES if (root / name).is_file()]
    return {path.name: {"sha256": sha256_of(path), "size": path.stat().st_size} for path in paths}


def _published(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Where a file was published, as long as it is the same file."""
    same = before.get("sha256") == now["sha256"]
    return {key: before[key] for key in ("repo", "revision", "file") if key in before} if same else {}


def update_manifest(path: str | os.PathLike[str] | None = None, package: Path = PACKAGE) -> Path:
    """Write the hashes and sizes of every bundled file into weights.json; run it after a bundled model has changed.

    Args:
        path: the manifest to rewrite; the shipped one by default.
        package: the folder that bundled paths are relative to.

    Returns:
        The path written.
    """
    target = Path(path) if path is not None else manifest_path()
    data = json.loads(target.read_text(encoding="utf-8"))
    for model in data["models"].values():
        if directory := model.get("directory"):
            before = model["files"]
            model["files"] = {
                name: {"bundled": f"{directory}/{name}", **_published(before.get(name, {}), values), **values}
                for name, values in hash_files(package / directory).items()
            }
        for entry in model["files"].values():
            if "bundled" in entry and (package / entry["bundled"]).is_file():
                bundled = package / entry["bundled"]
                entry.update(sha256=sha256_of(bundled), size=bundled.stat().st_size)
    write_atomically(target, json.dumps(data, indent=2) + "\n")
    return target
