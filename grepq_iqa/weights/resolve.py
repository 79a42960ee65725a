"""A model's name -> local files that are the ones meant.

A name is an entry of weights.json, a directory, or ``owner/repo[@revision]`` on the Hugging Face Hub. What is in the
cache is used without any request; a branch is followed to its commit once and stays there until it is downloaded
again on purpose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.weights import manifest as manifests
from grepq_iqa.weights.hash_cache import HashCache, hash_cache_folder
from grepq_iqa.weights.hub import Hub, content_sha256, is_commit, offline
from grepq_iqa.weights.manifest import MODEL_FILES, REQUIRED_FILES, ModelEntry, load_manifest

_REPO = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[^@\s]+))?")
HIGH_LEVEL = "high_level.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """Local, verified files of one model.

    Attributes:
        name: as asked for: "compact", "owner/repo", or the directory.
        files: name in a model directory -> path, whatever the file is called; optional files that the model lacks are
            absent.
        source: "bundled", "directory", or "hub:owner/repo".
        revision: the 40-digit commit on the Hub, or None.
    """

    name: str
    files: dict[str, Path]
    source: str
    revision: str | None


@dataclass(frozen=True)
class FileCheck:
    """Result of hashing one file again. ``expected`` is None where no hash is known; ``path`` None when not present."""

    model: str
    file: str
    path: Path | None
    sha256: str | None
    expected: str | None

    @property
    def ok(self) -> bool:
        """Whether the file is here and nothing contradicts its hash."""
        return self.sha256 is not None and self.expected in (None, self.sha256)


@dataclass(frozen=True)
class _Part:
    """One file to be had: at ``path`` already, or ``file`` of ``repo`` at ``commit``."""

    name: str
    sha256: str | None
    path: Path | None = None
    repo: str = ""
    file: str = ""
    commit: str = ""


@dataclass(frozen=True)
class _Plan:
    name: str
    source: str
    revision: str | None
    parts: tuple[_Part, ...]
    entry: ModelEntry | None = None
    record: str | None = None
    branch: str | None = None


def resolve(
    name: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    refresh: bool = False,
) -> ModelFiles:
    """Find a model's files, downloading what is missing, and check every known hash (once per file, remembered).

    Args:
        name: a name in weights.json (None: its default), a directory, or "owner/repo[@revision]". A `Path` is a
            directory, whatever it is called.
        revision: branch, tag or commit on the Hub; the same as the part after @.
        cache_dir: instead of the Hub's cache (HF_HOME, HF_HUB_CACHE).
        local_files_only: make no request; HF_HUB_OFFLINE=1 does the same.
        token: for private repositories; by default HF_TOKEN or the one that `hf auth login` stored.
        refresh: ask the Hub where a branch points now, even when a commit of it is in the cache.

    Raises:
        WeightsError: a file cannot be found, fetched or verified; the message says which setting to change.
        UsageError: two different revisions were given, or one of a model that is not on the Hub.
    """
    local_only = local_files_only or offline()
    hub, records = Hub(cache_dir, token), HashCache(hash_cache_folder(cache_dir))
    plan = _plan(name, revision, hub, records, local_only, refresh)
    paths = _obtain(plan, hub, records, local_only)
    if plan.entry is not None and plan.entry.prompts:
        paths[HIGH_LEVEL] = _converted(paths[HIGH_LEVEL], plan.entry.prompts, records)
    return ModelFiles(plan.name, paths, plan.source, plan.revision)


def fetch_checkpoint(name: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The high-level file of a model as the Hub has it: for "clip-rn50" the whole CLIP checkpoint, text tower and all.

    Raises:
        WeightsError: as `resolve`.
    """
    hub, records = Hub(cache_dir), HashCache(hash_cache_folder(cache_dir))
    plan = _plan(name, None, hub, records, offline(), False)
    return _obtain(plan, hub, records, offline())[HIGH_LEVEL]


def verify(
    name: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> list[FileCheck]:
    """Hash every local file of a model again, whatever is remembered; makes no request and repairs nothing.

    Raises:
        WeightsError: the model is unknown, or nothing of it is on this machine.
    """
    hub, records = Hub(cache_dir), HashCache(hash_cache_folder(cache_dir))
    plan = _plan(name, revision, hub, records, local_only=True, refresh=False)
    checks = []
    for part in plan.parts:
        path = part.path or hub.cached(part.repo, part.file, part.commit)
        present = path is not None and path.is_file()
        expected = part.sha256 or (content_sha256(path) if path is not None and part.repo else None)
        digest = records.sha256(path, recompute=True) if path is not None and present else None
        checks.append(FileCheck(plan.name, part.name, path if present else None, digest, expected))
    return checks


def is_available(name: str, *, cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """Whether every file of a model is on this machine; checks presence, not hashes."""
    hub, records = Hub(cache_dir), HashCache(hash_cache_folder(cache_dir))
    try:
        plan = _plan(name, None, hub, records, local_only=True, refresh=False)
    except WeightsError:
        return False
    return all(
        part.path.is_file() if part.path else hub.cached(part.repo, part.file, part.commit) is not None
        for part in plan.parts
    )


def _plan(
    name: str | os.PathLike[str] | None,
    revision: str | None,
    hub: Hub,
    records: HashCache,
    local_only: bool,
    refresh: bool,
) -> _Plan:
    manifest = load_manifest()
    text = os.fspath(name) if name is not None else manifest.default
    if text in manifest.models and not isinstance(name, os.PathLike):
        return _manifest_plan(manifest.models[text], revision, hub, records, local_only, refresh)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"{text} is a directory, which has no revision {revision!r}: leave revision= out")
        return _directory_plan(text, folder)
    match = None if isinstance(name, os.PathLike) else _REPO.fullmatch(text)
    if match and not folder.exists():
        repo, written = match["repo"], match["revision"]
        if written and revision and written != revision:
            raise UsageError(f"two revisions of {repo}: {written!r} in the name and revision={revision!r}")
        return _repo_plan(repo, written or revision or "main", hub, records, local_only, refresh)
    if folder.exists():
        raise WeightsError(f"{text} is a file; a model is a directory", text, hint=f"pass {folder.parent}")
    known = ", ".join(manifest.models)
    raise WeightsError(
        f"there is no model or directory {text!r}", text, hint=f'known names: {known}; on the Hub: "owner/repo"'
    )


def _directory_plan(name: str, folder: Path) -> _Plan:
    missing = [file for file in REQUIRED_FILES if not (folder / file).is_file()]
    if missing:
        raise WeightsError(
            f"{name} is not a model directory: {', '.join(missing)} missing",
            name,
            missing[0],
            "`grepq fit` and `save_pretrained` write complete ones",
        )
    parts = tuple(_Part(file, None, folder / file) for file in MODEL_FILES if (folder / file).is_file())
    return _Plan(name, "directory", None, parts)


def _manifest_plan(
    entry: ModelEntry, revision: str | None, hub: Hub, records: HashCache, local_only: bool, refresh: bool
) -> _Plan:
    if entry.source == "unpublished":
        ways = "; ".join(entry.how_to_get)
        raise WeightsError(f"{entry.name} has no published files", entry.name, hint=ways)
    if not entry.files:
        raise WeightsError(
            f"weights.json lists no files for {entry.name}", entry.name, hint=f"run {manifests.UPDATE_COMMAND}"
        )
    if revision is not None and all(file.repo is None for file in entry.files.values()):
        raise UsageError(f"{entry.name} comes with the package, and has no revision {revision!r}: leave revision= out")
    source, commit, record, branch = "bundled", None, None, None
    parts = []
    for name, file in entry.files.items():
        if file.bundled is not None and (file.repo is None or (manifests.PACKAGE / file.bundled).is_file()):
            parts.append(_Part(name, file.sha256, manifests.PACKAGE / file.bundled))
            continue
        repo, remote = file.repo or "", file.file or name
        wanted = revision or file.revision or "main"
        # The hash of an unpinned file is kept per requested revision: should the branch move to other bytes, we refuse.
        record = f"{entry.name}@{wanted}"
        commit = _known_commit(repo, remote, wanted, hub, records, refresh and not local_only)
        if commit is None:
            if local_only:
                raise _not_cached(entry.name, repo, remote)
            commit, _ = hub.listing(repo, wanted)
        sha256 = (file.sha256 if revision is None else None) or records.files(record).get(name)
        parts.append(_Part(name, sha256, None, repo, remote, commit))
        source, branch = f"hub:{repo}", None if is_commit(wanted) else f"{repo}@{wanted}"
    return _Plan(entry.name, source, commit, tuple(parts), entry, record, branch)


def _repo_plan(repo: str, wanted: str, hub: Hub, records: HashCache, local_only: bool, refresh: bool) -> _Plan:
    refresh = refresh and not local_only
    commit = _known_commit(repo, "config.json", wanted, hub, records, refresh)
    listing = records.files(f"{repo}@{commit}") if commit and not refresh else {}
    guessed = not listing and local_only
    if guessed:
        if commit is None:
            raise _not_cached(repo, repo, "config.json")
        # Fetched by another tool, so nobody knows which optional files the repository has: take what is there.
        listing = {file: None for file in MODEL_FILES if hub.cached(repo, file, commit)}
    elif not listing:
        commit, found = hub.listing(repo, commit or wanted)
        listing = {file: found[file] for file in MODEL_FILES if file in found}
        # Before any file: a download that is stopped leaves word of what is still missing.
        records.remember(revisions={}, files={f"{repo}@{commit}": listing})
    missing = [file for file in REQUIRED_FILES if file not in listing]
    if missing:
        where = "the cached copy of " if local_only else ""
        raise WeightsError(
            f"{where}{repo} at {wanted} is not a grepq-iqa model: {', '.join(missing)} missing", repo, missing[0]
        )
    parts = tuple(_Part(file, listing[file], None, repo, file, commit or "") for file in MODEL_FILES if file in listing)
    branch = None if is_commit(wanted) else f"{repo}@{wanted}"
    # What is guessed is not remembered: asked online, the Hub tells.
    return _Plan(repo, f"hub:{repo}", commit, parts, None, None if guessed else f"{repo}@{commit}", branch)


def _known_commit(repo: str, file: str, wanted: str, hub: Hub, records: HashCache, refresh: bool) -> str | None:
    if is_commit(wanted):
        return wanted
    if refresh:
        return None
    return records.commit(repo, wanted) or hub.cached_commit(repo, file, wanted)


def _obtain(plan: _Plan, hub: Hub, records: HashCache, local_only: bool) -> dict[str, Path]:
    """Verified local paths of a plan's files, downloading what is missing."""
    paths: dict[str, Path] = {}
    digests: dict[str, str | None] = {}
    for part in plan.parts:
        if part.path is not None:
            paths[part.name] = _check_local(plan.name, part, records)
        else:
            paths[part.name], digests[part.name] = _fetch(part, hub, records, local_only)
    if plan.record:
        revisions = {plan.branch: plan.revision} if plan.branch and plan.revision else {}
        records.remember(revisions=revisions, files={plan.record: digests})
    return paths


def _check_local(model: str, part: _Part, records: HashCache) -> Path:
    path = part.path
    if path is None or not path.is_file():
        raise WeightsError(f"{part.name} of {model} is missing at {path}", model, part.name, "reinstall grepq-iqa")
    if part.sha256 and records.sha256(path) != part.sha256:
        raise WeightsError(
            f"{path} is not the file that weights.json names",
            model,
            part.name,
            f"reinstall grepq-iqa; after retraining run {manifests.UPDATE_COMMAND}",
        )
    return path


def _fetch(part: _Part, hub: Hub, records: HashCache, local_only: bool) -> tuple[Path, str]:
    path = hub.cached(part.repo, part.file, part.commit)
    if path is None:
        if local_only:
            raise _not_cached(part.repo, part.repo, part.file)
        path = hub.download(part.repo, part.file, part.commit)
    if digest := _matching(path, part, records):
        return path, digest
    if local_only:
        raise WeightsError(
            f"the cached {part.file} of {part.repo} is damaged (its sha256 is not the expected one)",
            part.repo,
            part.file,
            "unset HF_HUB_OFFLINE and local_files_only to fetch it again",
        )
    path = hub.download(part.repo, part.file, part.commit, force=True)
    if digest := _matching(path, part, records):
        return path, digest
    raise WeightsError(
        f"{part.file} of {part.repo}, downloaded twice, is not the expected file: its sha256 begins with "
        f"{records.sha256(path)[:12]}, not {(part.sha256 or content_sha256(path) or '')[:12]}",
        part.repo,
        part.file,
        f"check HF_ENDPOINT and proxies; to accept a file changed on purpose, delete its entry in {records.path}",
    )


def _converted(checkpoint: Path, prompts: Mapping[str, str], records: HashCache) -> Path:
    """An open_clip checkpoint as high_level.safetensors: made once, so that later runs read the image tower alone."""
    from grepq_iqa.weights.clip_prompts import cached_prompts
    from grepq_iqa.weights.tensors import assemble_high_level

    vectors = cached_prompts(checkpoint, records.sha256(checkpoint), prompts, records.path.parent)
    target = vectors.with_name(vectors.name.replace("prompts-", "high_level-", 1))
    recorded = records.files(target.name).get(HIGH_LEVEL)
    if recorded is None or not target.is_file() or records.sha256(target) != recorded:
        assemble_high_level(checkpoint, vectors, target)
        records.remember(revisions={}, files={target.name: {HIGH_LEVEL: records.sha256(target)}})
    return target


def _matching(path: Path, part: _Part, records: HashCache) -> str | None:
    """The file's sha256 if nothing contradicts it, else None."""
    digest = records.sha256(path)
    expected = {part.sha256, content_sha256(path)} - {None}
    return digest if expected <= {digest} else None


def _not_cached(name: str, repo: str, file: str) -> WeightsError:
    return WeightsError(
        f"{file} of {repo} is not in the cache and may not be downloaded",
        name,
        file,
        f"unset HF_HUB_OFFLINE and local_files_only, or run `grepq weights download {name}` where there is a network",
    )
