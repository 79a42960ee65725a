"""The Hugging Face Hub, through huggingface_hub's own client: its cache, its settings, its tokens.

What is added here: one sentence for every way that a download can fail, and bounds on how long a failing one is tried.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from grepq_iqa._version import __version__
from grepq_iqa.errors import WeightsError
from grepq_iqa.text import first_line

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# A person waits a minute without asking why; the client itself would sleep for as long as the server says.
_LONGEST_WAIT = 60.0
_ATTEMPTS = 3

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
# By name, because the client's HTTP library has been requests, httpx and httpx2 in turn.
_TIMEOUTS = {"TimeoutException", "Timeout"}
_UNREACHABLE = {"ConnectError", "ConnectionError", "ProxyError", "UnsupportedProtocol"}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BAD_ADDRESS = {"InvalidURL", "InvalidProxyURL", "LocationParseError", "InvalidSchema", "MissingSchema"}
_INTERRUPTED = {"RemoteProtocolError", "ReadError", "WriteError", "ProtocolError", "ChunkedEncodingError"}


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash, which can never move."""
    return _COMMIT.fullmatch(revision) is not None


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids requests."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


class Hub:
    """Files of Hub repositories, in one cache, with one token."""

    def __init__(self, cache_dir: str | os.PathLike[str] | None = None, token: str | bool | None = None) -> None:
        self.cache_dir = str(Path(cache_dir).expanduser()) if cache_dir is not None else None
        self.token = token

    def cached(self, repo: str, file: str, revision: str) -> Path | None:
        """The cached file at a branch, tag or commit, or None; makes no request."""
        _require_address()
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(repo, file, cache_dir=self.cache_dir, revision=revision)
        return Path(path) if isinstance(path, str) else None

    def cached_commit(self, repo: str, file: str, revision: str) -> str | None:
        """The commit that the cache holds for a branch or tag, judged by one file of it, or None."""
        path = self.cached(repo, file, revision)
        commit = path.parts[-1 - len(Path(file).parts)] if path else None
        return commit if commit and is_commit(commit) else None

    def listing(self, repo: str, revision: str) -> tuple[str, dict[str, str | None]]:
        """Ask the Hub for the commit of ``revision`` and the files in it.

        Returns:
            The 40-digit commit, and file name -> sha256 (None for small files, of which the Hub gives no sha256).

        Raises:
            WeightsError: the repository or revision cannot be read; the message says which setting to change.
        """
        _require_address()
        from huggingface_hub import HfApi, constants

        api = HfApi(token=self.token, library_name="grepq-iqa", library_version=__version__)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                info = api.model_info(
                    repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
                )
                break
            except Exception as error:
                wait = _wait_before_retry(error, attempt)
                if wait is None:
                    raise self.explain(error, repo, None, revision) from error
                time.sleep(wait)
        files = {item.rfilename: item.lfs.sha256 if item.lfs else None for item in info.siblings or ()}
        return str(info.sha), files

    def download(self, repo: str, file: str, commit: str, *, force: bool = False) -> Path:
        """Fetch one file of a commit into the cache; ``force`` replaces the cached copy.

        The client resumes a connection that breaks; one that is reset is tried again from the start.

        Raises:
            WeightsError: it cannot be had; the message says which setting to change.
        """
        from huggingface_hub import hf_hub_download

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                path = hf_hub_download(
                    repo,
                    file,
                    revision=commit,
                    cache_dir=self.cache_dir,
                    token=self.token,
                    force_download=force,
                    library_name="grepq-iqa",
                    library_version=__version__,
                )
                return Path(path)
            except Exception as error:
                if attempt == _ATTEMPTS or not _was_interrupted(error):
                    raise self.explain(error, repo, file, commit) from error
        raise AssertionError("unreachable")

    def explain(self, error: BaseException, repo: str, file: str | None, revision: str) -> WeightsError:
        """One sentence naming the repository, the file and the setting to change, for whatever the client raised."""
        from huggingface_hub import constants

        what = f"{file} of {repo}" if file else repo
        where = self.cache_dir or constants.HF_HUB_CACHE
        names = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
        response = next((r for link in _chain(error) if (r := getattr(link, "response", None)) is not None), None)
        status = getattr(response, "status_code", None)
        number = next((n for link in _chain(error) if (n := getattr(link, "errno", None)) is not None), None)

        reason, hint = f"cannot be downloaded: {first_line(error)}", "try again later"
        if "OfflineModeIsEnabled" in names:
            reason, hint = "is not in the cache and may not be downloaded", "unset HF_HUB_OFFLINE"
        elif "HFValidationError" in names:
            reason, hint = "is not a repository name", 'names look like "owner/repo"'
        elif "GatedRepoError" in names:
            reason = "is gated"
            hint = f"accept its terms at {constants.ENDPOINT}/{repo}, then set HF_TOKEN or pass token="
        elif "RevisionNotFoundError" in names:
            reason, hint = f"has no revision {revision!r}", "check the part after @, or pass revision="
        elif {"RemoteEntryNotFoundError", "EntryNotFoundError"} & names and status == 404:
            reason, hint = f"does not exist at revision {revision[:12]}", "check the repository, or pass revision="
        elif status in (401, 403) or "RepositoryNotFoundError" in names:
            reason = f"does not exist or needs a token (the Hub answered {status})"
            hint = "check the name; for a private repository set HF_TOKEN or pass token="
        elif status == 404:
            reason, hint = "was not found (404)", "check HF_ENDPOINT"
        elif status == 429:
            seconds = retry_after(error)
            reason = "is refused for now: too many requests to the Hub"
            when = f"in {seconds:.0f} seconds" if seconds else "later"
            hint = f"try again {when}, or set HF_TOKEN for a higher limit"
        elif status is not None:
            reason = f"cannot be downloaded: the Hub answered {status}"
            hint = "try again later, or set HF_ENDPOINT to a mirror"
        elif trouble := _setting_at_fault(error, names):
            reason, hint = f"cannot be downloaded: {trouble[0]}", trouble[1]
        elif number in _FULL_DISK:
            reason, hint = f"does not fit on the disk of {where}", "free some space, or set HF_HOME or cache_dir="
        elif number in _NOT_WRITABLE:
            reason, hint = f"cannot be written to {where}", "make it writable, or set HF_HOME or cache_dir="
        elif _TIMEOUTS & names:
            reason = f"cannot be downloaded: {constants.ENDPOINT} did not answer in time"
            hint = "set HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT to more seconds"
        elif _was_interrupted(error):
            reason, hint = "was cut off while downloading, again and again", "run the same command again"
        elif _UNREACHABLE & names:
            reason = f"cannot be downloaded: {constants.ENDPOINT} cannot be reached"
            hint = "check the network, HTTPS_PROXY and HF_ENDPOINT"
        elif "FileMetadataError" in names:
            reason, hint = f"cannot be downloaded: {constants.ENDPOINT} does not answer as a Hub", "check HF_ENDPOINT"
        return WeightsError(f"{what} {reason}", repo, file, hint)


def _setting_at_fault(error: BaseException, names: set[str]) -> tuple[str, str] | None:
    """What is wrong and what to change, where it is the user's proxy, certificates or address."""
    said = " ".join(str(link) for link in _chain(error)).lower()
    if "socks" in said:
        return "its SOCKS proxy needs a package that is missing", "pip install 'httpx[socks]', or use an HTTP proxy"
    missing = isinstance(error, FileNotFoundError) and any(os.environ.get(name) for name in _CERTIFICATES)
    if missing or "[ssl" in said or "certificate_verify" in said or any("SSL" in name for name in names):
        return (
            f"the certificate of {_endpoint()} is not trusted, or the file of trusted ones cannot be read",
            "set SSL_CERT_FILE (or REQUESTS_CA_BUNDLE) to your organization's certificates, or unset a wrong one",
        )
    if _BAD_ADDRESS & names or ("port" in said and ("invalid" in said or "range" in said)):
        return "an address is not one", "check HF_ENDPOINT, HTTPS_PROXY and HTTP_PROXY, the port included"
    return None


def _require_address() -> None:
    """Refuse an HF_ENDPOINT that is no address: huggingface_hub itself cannot be imported with one."""
    endpoint = os.environ.get("HF_ENDPOINT", "")
    try:
        urlsplit(endpoint).port  # noqa: B018 - reading it is the check
    except ValueError as error:
        raise WeightsError(
            f"HF_ENDPOINT is no address: {error}", endpoint, hint="unset it, or correct its port"
        ) from error


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def content_sha256(path: Path) -> str | None:
    """The sha256 that the cache promises for a file, or None: large files are stored under their own hash."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else None


def retry_after(error: BaseException) -> float | None:
    """Seconds that a 429 or 503 asks to wait, or None."""
    for link in _chain(error):
        headers = getattr(getattr(link, "response", None), "headers", None)
        if headers is None:
            continue
        # The Hub's own header looks like: "api";r=0;t=55
        limit = re.search(r"\bt\s*=\s*(\d+)", headers.get("ratelimit") or "")
        value = headers.get("retry-after") or (limit.group(1) if limit else "")
        if value.strip().isdigit():
            return float(value)
    return None


def _wait_before_retry(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait before asking again, or None when it is no use."""
    if attempt == _ATTEMPTS:
        return None
    status = next((s for link in _chain(error) if (s := _status(link)) is not None), None)
    names = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
    if status in (429, 503):
        wait = retry_after(error)
        wait = float(2**attempt) if wait is None else wait
        return wait if wait <= _LONGEST_WAIT else None
    if status in (408, 500, 502, 504) or (status is None and names & (_TIMEOUTS | _INTERRUPTED)):
        return float(attempt)
    return None


def _was_interrupted(error: BaseException) -> bool:
    names = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
    short = "Consistency check failed" in str(error)  # the client's plain OSError for a body of the wrong length
    return short or bool(names & _INTERRUPTED and not names & _TIMEOUTS)


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
