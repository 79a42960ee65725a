"""What was published, written into weights.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from grepq_iqa.errors import WeightsError
from grepq_iqa.files import write_atomically
from grepq_iqa.weights.config import read_config
from grepq_iqa.weights.manifest import UPDATE_COMMAND, hash_files, load_manifest

CITATION = (
    "Srinath et al., Learning Generalizable Perceptual Representations for Data-Efficient No-Reference Image Quality "
    "Assessment, WACV 2024"
)


def require_publishable(manifest: str | os.PathLike[str], name: str, directory: Path) -> None:
    """Refuse what `record_published` could not write down.

    Args:
        manifest: path of a weights.json.
        name: of the model in it.
        directory: of the model.

    Raises:
        WeightsError: the manifest cannot be read or written, or bundles other files under this name.
    """
    path = Path(manifest)
    known = load_manifest(path).models.get(name)
    if not os.access(path, os.W_OK):
        raise WeightsError(f"{path} cannot be written to", name, path.name, "check its permissions")
    found = hash_files(directory)
    bundled = {file: entry.sha256 for file, entry in (known.files if known else {}).items() if entry.bundled}
    differ = [file for file, sha256 in bundled.items() if found.get(file, {}).get("sha256") != sha256]
    if differ:
        raise WeightsError(
            f"{path} bundles another {differ[0]} as part of {name}",
            name,
            differ[0],
            f"copy the model into the package and run {UPDATE_COMMAND}, or export it under another --name",
        )


def record_published(manifest: str | os.PathLike[str], name: str, directory: Path, repo: str, commit: str) -> None:
    """Write where a model's files are into weights.json: repository, commit, SHA-256 and size of each.

    Files that the package bundles stay so, and can be had from the Hub, too.

    Args:
        manifest: path of the weights.json.
        name: of the model in it; an entry is made where there is none.
        directory: of the model that was uploaded.
        repo: "owner/name" on the Hub.
        commit: 40 hex digits.

    Raises:
        OSError: the manifest cannot be read or written.
    """
    path = Path(manifest)
    data = json.loads(path.read_text(encoding="utf-8"))
    config = read_config(os.fspath(directory), directory / "config.json")
    entry: dict[str, Any] = data["models"].setdefault(
        name,
        {
            "summary": f"{name}, published as {repo}",
            "source": "hub",
            "license": config.get("provenance", {}).get("license", "not stated"),
            "citation": CITATION,
        },
    )
    bundled = {file: values["bundled"] for file, values in entry.get("files", {}).items() if "bundled" in values}
    if not bundled:
        entry["source"] = "hub"
        entry.pop("how_to_get", None)
    entry["files"] = {
        file: ({"bundled": bundled[file]} if file in bundled else {})
        | {"repo": repo, "revision": commit, "file": file, **values}
        for file, values in hash_files(directory).items()
    }
    write_atomically(path, json.dumps(data, indent=2) + "\n")
