"""A model directory -> a repository on the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grepq_iqa._version import __version__
from grepq_iqa.errors import WeightsError
from grepq_iqa.weights.config import read_config
from grepq_iqa.weights.hub import Hub, is_commit
from grepq_iqa.weights.manifest import MODEL_FILES, REQUIRED_FILES
from grepq_iqa.weights.model_card import model_card
from grepq_iqa.weights.published import record_published, require_publishable


def push_to_hub(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> str:
    """Upload a model directory in one commit and return its address.

    The repository and the branch are made when they do not exist.

    Only the files of a model are sent, and README.md: the directory's own where someone wrote one, else a
    model card.

    Args:
        directory: as ``save_pretrained`` writes it.
        repo_id: "owner/repo".
        private: whether a repository made now is private; an existing one stays as it is.
        token: with write access; by default HF_TOKEN or the one that ``hf auth login`` stored.
        revision: branch to commit to; "main" by default.
        commit_message: first line of the commit.

    Raises:
        WeightsError: the directory is not a complete model, or the Hub refuses.
    """
    return _upload(Path(directory), repo_id, private, token, revision, commit_message).address


def publish(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
) -> str:
    """Upload a model directory and write what was uploaded into weights.json; returns the address of the commit.

    The entry pins the commit and the SHA-256 and size of every file, so that whoever asks for the model by its name
    gets these very bytes.

    Args:
        directory, repo_id, private, token: as for `push_to_hub`.
        manifest: the weights.json to write into; None writes into none.

    Raises:
        WeightsError: as `push_to_hub`; or the manifest cannot be read or written, which is found out before the upload,
            or it bundles other files under this name.
    """
    folder = Path(directory)
    if manifest is None:
        return push_to_hub(folder, repo_id, private=private, token=token)
    name = str(read_config(os.fspath(directory), folder / "config.json").get("name") or folder.name)
    require_publishable(manifest, name, folder)
    done = _upload(folder, repo_id, private, token, None, "Upload model")
    record_published(manifest, name, folder, repo_id, done.commit)
    return done.address


@dataclass(frozen=True)
class _Uploaded:
    address: str
    commit: str


def _upload(
    folder: Path, repo_id: str, private: bool, token: str | None, revision: str | None, commit_message: str
) -> _Uploaded:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    files = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder} is not a model directory: {', '.join(missing)} missing", repo_id, missing[0])
    if revision is not None and is_commit(revision):
        raise WeightsError(f"{revision} is a commit; pass a branch to push to", repo_id)
    operations: list[Any] = [CommitOperationAdd(path.name, str(path)) for path in files]
    operations.append(CommitOperationAdd("README.md", _card(folder, repo_id).encode()))
    api = HfApi(token=token, library_name="grepq-iqa", library_version=__version__)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=str(revision), exist_ok=True)
        there = {one.rfilename for one in api.model_info(repo_id, revision=revision).siblings or ()}
        # Of a model that was there before: a fit that this one lacks would be taken for its own.
        gone = there.intersection(MODEL_FILES) - {path.name for path in files}
        operations += [CommitOperationDelete(name) for name in sorted(gone)]
        commit = api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)
    except Exception as error:
        raise _explained(error, repo_id, revision or "main") from error
    return _Uploaded(str(commit.commit_url), str(commit.oid))


def _card(folder: Path, repo_id: str) -> str:
    own = folder / "README.md"
    written = own.read_text(encoding="utf-8") if own.is_file() else None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"config.json of {folder} is not JSON: {error}", repo_id, "config.json") from error
    fitted = (folder / "calibration.safetensors").is_file()
    if written is not None and written != model_card(config, fitted=fitted):
        return written
    return model_card(config, repo_id=repo_id, fitted=fitted)  # with the repository's name in its example


def _explained(error: Exception, repo_id: str, revision: str) -> WeightsError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return WeightsError(
            f"the Hub does not let this token write to {repo_id} (it answered {status})",
            repo_id,
            hint="set HF_TOKEN or pass token= with write access; make one at https://huggingface.co/settings/tokens",
        )
    explained = Hub().explain(error, repo_id, None, revision)
    sentence = str(explained).removesuffix(f" ({explained.hint})").replace("be downloaded", "be uploaded")
    return WeightsError(sentence, repo_id, hint=explained.hint)
