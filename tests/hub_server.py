"""A server on loopback that speaks as much of the Hugging Face Hub's protocol as its client needs, and can misbehave.

    with HubServer() as hub:
        hub.add("owner/repo", {"config.json": b"{}", "model.safetensors": b"..."})
        hub.fail("GET /cdn/", status=503, times=2)
        ...  # the real client, with HF_ENDPOINT=hub.url
        assert hub.count("GET /cdn/") == 3

Large files (``*.safetensors``) are served as the Hub serves LFS files: the HEAD answers with a redirect to another host
name (here "localhost" instead of "127.0.0.1") where ``/cdn/<sha256>`` holds the bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

_CHUNK = 1 << 16


@dataclass
class Repo:
    """Commits (newest last) and what branches and tags point to."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Fault:
    """What to do instead of answering properly, for requests whose "METHOD /path" contains ``match``.

    ``status`` answers with it; otherwise the real answer is spoilt: ``delay`` seconds late, ended after ``cut`` bytes,
    ``reset`` there, or with ``corrupt`` bytes.
    """

    match: str
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    reset: bool = False
    corrupt: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]


class HubServer:
    """Threaded server; ``url`` is the endpoint. ``tokens`` are those that may read private repositories and write."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens = {"hf_good"}
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Commit ``files`` (the whole tree) to a branch; returns the commit."""
        repo = self.repos.setdefault(repo_id, Repo(private=private, gated=gated))
        tree = dict(files)
        seed = json.dumps([repo_id, branch, len(repo.commits), sorted(_sha256(v) for v in tree.values())])
        commit = hashlib.sha1(seed.encode()).hexdigest()
        repo.commits[commit], repo.refs[branch] = tree, commit
        self.blobs.update({_sha256(content): content for content in tree.values()})
        return commit

    def fail(self, match: str, *, times: int = 1, **fault) -> None:
        """Spoil the next ``times`` requests whose "METHOD /path" contains ``match``."""
        self._faults.append(Fault(match, times, **fault))

    def heal(self) -> None:
        """Forget faults and the log of requests."""
        self._faults.clear()
        self.requests.clear()

    def count(self, match: str) -> int:
        """Requests so far whose "METHOD /path" contains ``match``."""
        return sum(match in f"{request.method} {request.path}" for request in self.requests)

    def take_fault(self, line: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.match in line and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)  # not time.sleep, which tests of retries replace


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    _fault: Fault | None

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._dispatch()

    def do_GET(self) -> None:
        self._dispatch()

    def do_POST(self) -> None:
        self._dispatch()

    def do_PUT(self) -> None:
        self._dispatch()

    # --- routing --------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        parts = urlsplit(self.path)
        path, line = unquote(parts.path), f"{self.command} {unquote(self.path)}"
        self.query = parse_qs(parts.query)
        self.hub.requests.append(Request(self.command, path, dict(self.headers)))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._fault = self.hub.take_fault(line)
        if self._fault and self._fault.delay:
            _pause(self._fault.delay)
        if self._fault and self._fault.status is not None:
            self._answer(self._fault.status, b"{}", self._fault.headers)
            return
        for pattern, method in _ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                getattr(self, method)(*match.groups())
                return
        self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self._fault
        if fault and fault.corrupt:
            body = bytes(byte ^ 0xFF for byte in body[:64]) + body[64:]
        cut = fault.cut if fault and fault.cut is not None else len(body)
        try:
            for start in range(0, cut, _CHUNK):
                self.wfile.write(body[start : min(start + _CHUNK, cut)])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return
        if cut < len(body):
            self.close_connection = True
            if fault and fault.reset:
                _pause(0.2)  # let the client read what was sent
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close() if fault and fault.reset else self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, content: object, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()

    def _may_write(self) -> bool:
        if self._token() in self.hub.tokens:
            return True
        self._refuse(401, "", "Invalid username or password.")
        return False

    def _readable(self, repo_id: str) -> Repo | None:
        repo = self.hub.repos.get(repo_id)
        known = self._token() in self.hub.tokens
        if repo is None or (repo.private and not known):
            self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and not known:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
            return None
        return repo

    # --- reading --------------------------------------------------------------------------------------------------

    def model_info(self, repo_id: str, revision: str | None) -> None:
        repo = self._readable(repo_id)
        if repo is None:
            return
        found = repo.files(revision or "main")
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        siblings = []
        for path, content in files.items():
            sibling: dict = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"size": len(content), "blobId": git_sha1(content)}
                if is_large(path):
                    sibling["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        self._json({"id": repo_id, "sha": commit, "siblings": siblings, "private": repo.private, "tags": []})

    def resolve_file(self, repo_id: str, revision: str, path: str) -> None:
        repo = self._readable(repo_id)
        if repo is None:
            return
        found = repo.files(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        if path not in files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content = files[path]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if is_large(path):
            oid = _sha256(content)
            headers |= {
                "X-Linked-Etag": f'"{oid}"',
                "X-Linked-Size": str(len(content)),
                "ETag": f'"{git_sha1(content)}"',
                "Location": f"http://localhost:{self.hub.port}/cdn/{oid}",
            }
            self._answer(302, b"", headers)
            return
        self._content(content, {**headers, "ETag": f'"{git_sha1(content)}"'})

    def cdn(self, oid: str) -> None:
        if "Authorization" in self.headers:
            self._refuse(400, "", "a token was sent to the CDN")
            return
        self._content(self.hub.blobs[oid], {"ETag": f'"{oid}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted is None:
            self._answer(200, content, headers)
            return
        start = int(wanted[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206, content[start:], headers)

    # --- writing --------------------------------------------------------------------------------------------------

    def create_repo(self) -> None:
        if not self._may_write():
            return
        asked = json.loads(self.body)
        repo_id = f"{asked['organization'] or 'me'}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repos:
            self._json({"error": "You already created this model repo", **url}, 409)
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[repo_id] = Repo(private=private)
        self.hub.add(repo_id, {})
        self._json(url)

    def validate_yaml(self) -> None:
        content = json.loads(self.body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            matter = yaml.safe_load(match[1]) if match else None
            errors = [] if isinstance(matter, dict) else [{"message": "no front matter"}]
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def create_branch(self, repo_id: str, branch: str) -> None:
        if not self._may_write():
            return
        repo = self.hub.repos[repo_id]
        if branch in repo.refs:
            self._refuse(409, "", "branch exists")
            return
        repo.refs[branch] = repo.refs["main"]
        self._json({})

    def preupload(self, repo_id: str, revision: str) -> None:
        if not self._may_write():
            return
        if repo_id not in self.hub.repos or revision not in self.hub.repos[repo_id].refs:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if is_large(f["path"]) else "regular", "shouldIgnore": False}
            for f in json.loads(self.body)["files"]
        ]
        self._json({"files": modes})

    def lfs_batch(self, repo_id: str) -> None:
        if not self._may_write():
            return
        objects = []
        for item in json.loads(self.body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.blobs:
                upload = {"href": f"{self.hub.url}/lfs/{item['oid']}"}
                entry["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            self._refuse(400, "", "hash mismatch")
            return
        self.hub.blobs[oid] = self.body
        self._answer(200)

    def lfs_verify(self) -> None:
        self._answer(200 if json.loads(self.body)["oid"] in self.hub.blobs else 404)

    def commit(self, repo_id: str, revision: str) -> None:
        if not self._may_write():
            return
        repo = self.hub.repos[repo_id]
        _, files = repo.files(revision) or ("", {})
        tree = dict(files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                tree[value["path"]] = self.hub.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del tree[value["path"]]
        oid = self.hub.add(repo_id, tree, branch=revision)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}"})


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (rf"GET /api/models/{_REPO}(?:/revision/(.+))?", "model_info"),
    (rf"(?:GET|HEAD) /{_REPO}/resolve/([^/]+)/(.+)", "resolve_file"),
    (r"(?:GET|HEAD) /cdn/([0-9a-f]{64})", "cdn"),
    (r"POST /api/repos/create", "create_repo"),
    (r"POST /api/validate-yaml", "validate_yaml"),
    (rf"POST /api/models/{_REPO}/branch/(.+)", "create_branch"),
    (rf"POST /api/models/{_REPO}/preupload/(.+)", "preupload"),
    (rf"POST /api/models/{_REPO}/commit/(.+)", "commit"),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /lfs/([0-9a-f]{64})", "lfs_put"),
    (r"POST /lfs/verify", "lfs_verify"),
]
