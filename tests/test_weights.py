"""Names to verified files: the manifest, directories, and the real Hub client against a server on loopback."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import jsonschema
import pytest
from hub_server import HubServer
from huggingface_hub import constants
from typer.testing import CliRunner

from grepq_iqa import weights
from grepq_iqa.cli.weights import app as weights_cli
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.weights import hash_cache, resolve
from grepq_iqa.weights import manifest as manifests

ROOT = Path(__file__).resolve().parent.parent
REPO = "owner/model"
LOW = os.urandom(300_000)
FILES = {"config.json": b'{"format": 1}', "low_level.safetensors": LOW, "high_level.safetensors": b"high" * 1000}
HEX40, HEX64 = "^[0-9a-f]{40}$", "^[0-9a-f]{64}$"


def exactly(**properties) -> dict:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


TEXT, NULL, HASH = {"type": "string"}, {"type": "null"}, {"type": "string", "pattern": HEX64}
BYTES = {"type": "integer", "minimum": 1}
REPO_ID = {"type": "string", "pattern": "^[^/]+/[^/]+$"}
BUNDLED = exactly(bundled={"type": "string", "pattern": "^models/"}, sha256=HASH, size=BYTES)
PINNED = exactly(repo=REPO_ID, revision={"type": "string", "pattern": HEX40}, file=TEXT, sha256=HASH, size=BYTES)
# A branch may stand in for a commit only where the hash is learnt on first use.
LEARNT = exactly(repo=REPO_ID, revision={"const": "main"}, file=TEXT, sha256=NULL, size=NULL)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema_version", "default", "models"],
    "properties": {
        "schema_version": {"const": 1},
        "default": {"type": "string"},
        "models": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9][a-z0-9-]*(@[0-9]+[.][0-9]+)?$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["summary", "source", "license", "citation", "files"],
                "properties": {
                    "summary": {"type": "string", "minLength": 10},
                    "source": {"enum": ["bundled", "hub", "unpublished"]},
                    "license": {"type": "string", "minLength": 3},
                    "citation": {"type": "string", "minLength": 10},
                    "directory": {"type": "string"},
                    "how_to_get": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "prompts": exactly(model=TEXT, good=TEXT, bad=TEXT),
                    "files": {
                        "type": "object",
                        "propertyNames": {"enum": list(manifests.MODEL_FILES)},
                        "additionalProperties": {"oneOf": [BUNDLED, PINNED, LEARNT]},
                    },
                },
                "allOf": [
                    {
                        "if": {"properties": {"source": {"const": "unpublished"}}},
                        "then": {"required": ["how_to_get"], "properties": {"files": {"maxProperties": 0}}},
                    }
                ],
            },
        },
    },
}


@pytest.fixture
def hub(empty_hub, monkeypatch):
    """The server with one model."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    empty_hub.commit = empty_hub.add(REPO, FILES)
    return empty_hub


@pytest.fixture
def naps(monkeypatch):
    """Seconds that anyone in this process asked to sleep; nobody does."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


def contents(model) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in model.files.items()}


def blob(model, name: str) -> Path:
    return model.files[name].resolve()


def check_sentence(error: WeightsError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 400
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"


# --- weights.json ----------------------------------------------------------------------------------------------------


def test_manifest_obeys_its_schema():
    data = json.loads(manifests.manifest_path().read_text())
    jsonschema.validate(data, SCHEMA)
    assert data["default"] in data["models"]
    assert set(data["models"]) == {"compact", "compact@0.1", "clip-rn50", "rn50"}


@pytest.mark.parametrize("change", ["commit without hash", "branch with hash", "short hash", "no license"])
def test_schema_refuses(change):
    data = json.loads(manifests.manifest_path().read_text())
    file = data["models"]["clip-rn50"]["files"]["high_level.safetensors"]
    if change == "commit without hash":
        file["revision"] = "a" * 40
    elif change == "branch with hash":
        file["sha256"] = "a" * 64
    elif change == "short hash":
        file.update(revision="a" * 40, sha256="a" * 63)
    else:
        del data["models"]["compact"]["license"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)


def test_bundled_hashes_are_those_of_the_files():
    for model in weights.load_manifest().models.values():
        for name, entry in model.files.items():
            if entry.bundled is not None:
                path = manifests.PACKAGE / entry.bundled
                assert manifests.sha256_of(path) == entry.sha256, f"{name} changed: run {manifests.UPDATE_COMMAND}"
                assert path.stat().st_size == entry.size


def test_clip_rn50_uses_the_low_level_settings_of_compact():
    settings = [
        json.loads((manifests.PACKAGE / "models" / name / "config.json").read_text())["low_level"]
        for name in ("compact", "clip-rn50")
    ]
    assert settings[0] == settings[1]


def test_update_manifest_writes_hashes(tmp_path):
    package = tmp_path / "package"
    write_directory(package / "models/compact")
    write_directory(package / "models/clip-rn50", {"config.json": b"{}"})
    target = tmp_path / "weights.json"
    shutil.copy(manifests.manifest_path(), target)
    weights.update_manifest(target, package)
    data = json.loads(target.read_text())
    jsonschema.validate(data, SCHEMA)
    files = data["models"]["compact"]["files"]
    assert list(files) == list(FILES)
    assert files["low_level.safetensors"]["size"] == len(LOW)
    assert data["models"]["clip-rn50"]["files"]["low_level.safetensors"] == files["low_level.safetensors"]
    assert weights.hash_files(package / "models/compact") == {
        name: {"sha256": values["sha256"], "size": values["size"]} for name, values in files.items()
    }


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}', '{"schema_version": 1, "default": "x"}'])
def test_broken_manifest_is_reported(tmp_path, text):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_manifest(path)


# --- names and directories -------------------------------------------------------------------------------------------


def write_directory(folder: Path, files=FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_directory(tmp_path):
    folder = write_directory(tmp_path / "mine", {**FILES, "calibration.safetensors": b"c", "notes.txt": b"n"})
    model = resolve(folder)
    assert (model.source, model.revision, model.name) == ("directory", None, str(folder))
    assert contents(model) == {**FILES, "calibration.safetensors": b"c"}


def test_incomplete_directory(tmp_path):
    folder = write_directory(tmp_path, {"config.json": b"{}"})
    with pytest.raises(WeightsError) as caught:
        resolve(folder)
    check_sentence(caught.value, "low_level.safetensors", "high_level.safetensors")


def test_file_instead_of_directory(tmp_path):
    write_directory(tmp_path)
    with pytest.raises(WeightsError, match="a model is a directory"):
        resolve(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["compakt", "./no/such/folder", "a/b/c", "owner/repo@", "@x"])
def test_unknown_name(name):
    with pytest.raises(WeightsError) as caught:
        resolve(name)
    check_sentence(caught.value, name, "compact", "clip-rn50")


def test_rn50_says_how_to_get_it():
    with pytest.raises(WeightsError) as caught:
        resolve("rn50")
    for words in ("no published files", "import-official", "grepq_iqa.training", "clip-rn50"):
        assert words in str(caught.value)


def test_two_revisions():
    with pytest.raises(UsageError, match="two revisions"):
        resolve("owner/model@v1", revision="v2")


def test_a_revision_of_what_has_none_is_refused(package):
    write_directory(package.parent / "mine")
    for name in ("compact", package.parent / "mine"):
        with pytest.raises(UsageError, match="no revision 'v2'"):
            resolve(name, revision="v2")


@pytest.fixture
def package(tmp_path, monkeypatch, hub):
    """A package with a bundled model and a manifest that names it, instead of the real ones."""
    folder = tmp_path / "package"
    write_directory(folder / "models/compact")
    write_directory(folder / "models/clip-rn50", {"config.json": b'{"format": 1, "name": "clip-rn50"}'})
    shutil.copy(ROOT / "weights.json", folder / "weights.json")
    weights.update_manifest(folder / "weights.json", folder)
    monkeypatch.setattr(manifests, "PACKAGE", folder)
    return folder


def test_bundled_model_needs_no_network(package, hub):
    model = resolve()
    assert (model.name, model.source, model.revision) == ("compact", "bundled", None)
    assert contents(model) == FILES
    assert hub.requests == []


def test_bundled_model_that_was_changed(package):
    (package / "models/compact/low_level.safetensors").write_bytes(LOW[:-1])
    with pytest.raises(WeightsError) as caught:
        resolve("compact")
    check_sentence(caught.value, "low_level.safetensors", "reinstall")


def test_bundled_model_that_is_missing(package):
    (package / "models/compact/low_level.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        resolve("compact")


def test_hash_is_computed_once_and_verify_computes_it_again(package):
    path = package / "models/compact/low_level.safetensors"
    resolve()
    stat = path.stat()
    path.write_bytes(bytes(len(LOW)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    resolve()  # same size and time: not read again
    assert [check.file for check in weights.verify() if not check.ok] == ["low_level.safetensors"]
    with pytest.raises(WeightsError):
        resolve()  # verify has corrected the memory


def test_records_that_cannot_be_written_or_read(package, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "file"))
    assert contents(resolve()) == FILES
    folder = tmp_path / "assets" / "grepq-iqa"
    folder.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    for text in ("{", "[]", '{"format": 1, "digests": []}', '{"format": 9}'):
        (folder / "records.json").write_text(text)
        assert contents(resolve()) == FILES
    assert json.loads((folder / "records.json").read_text())["digests"]


# --- the Hub, when all goes well -------------------------------------------------------------------------------------


def test_fetch_then_no_request_at_all(hub):
    model = resolve(REPO)
    assert contents(model) == FILES
    assert (model.name, model.source, model.revision) == (REPO, f"hub:{REPO}", hub.commit)
    hub.requests.clear()
    assert resolve(REPO) == model
    assert resolve(f"{REPO}@main") == model
    assert resolve(REPO, revision=hub.commit) == model
    assert resolve(REPO, local_files_only=True) == model
    assert hub.requests == []


def test_optional_files_come_along(hub):
    hub.add("owner/fitted", {**FILES, "calibration.safetensors": b"c", "README.md": b"r", "junk.bin": b"j"})
    assert contents(resolve("owner/fitted")) == {**FILES, "calibration.safetensors": b"c"}
    assert hub.count("junk.bin") == hub.count("README.md") == 0


@pytest.mark.parametrize("how", ["name", "argument", "commit"])
def test_revisions(hub, how):
    old = hub.add(REPO, {**FILES, "config.json": b"old"}, branch="v1")
    model = {
        "name": lambda: resolve(f"{REPO}@v1"),
        "argument": lambda: resolve(REPO, revision="v1"),
        "commit": lambda: resolve(f"{REPO}@{old}"),
    }[how]()
    assert model.revision == old
    assert model.files["config.json"].read_bytes() == b"old"


def test_branch_stays_where_it_was_until_refreshed(hub):
    resolve(REPO)
    new = hub.add(REPO, {**FILES, "config.json": b"new"})
    assert resolve(REPO).revision == hub.commit
    assert resolve(REPO, refresh=True).revision == new
    assert resolve(REPO).files["config.json"].read_bytes() == b"new"


def test_explicit_cache_folder(hub, tmp_path):
    model = resolve(REPO, cache_dir=tmp_path / "elsewhere")
    assert all(tmp_path / "elsewhere" in path.parents for path in model.files.values())
    assert not (tmp_path / "home").exists()
    hub.requests.clear()
    assert resolve(REPO, cache_dir=tmp_path / "elsewhere") == model
    assert hub.requests == []


def test_interrupted_between_files(hub):
    hub.fail("GET /cdn/", status=500, times=99)
    with pytest.raises(WeightsError):
        resolve(REPO)
    hub.heal()
    assert contents(resolve(REPO)) == FILES
    assert hub.count("config.json") == 0  # was there already


def test_files_fetched_by_another_tool_are_found_offline(hub):
    from huggingface_hub import hf_hub_download

    for file in FILES:
        hf_hub_download(REPO, file)
    hub.requests.clear()
    assert contents(resolve(REPO, local_files_only=True)) == FILES
    assert hub.requests == []


def test_a_stopped_download_is_not_taken_for_the_whole(hub):
    whole = {**FILES, "calibration.safetensors": b"c"}
    commit = hub.add("owner/fitted", whole)
    hub.fail("/calibration.safetensors", status=500, times=99)
    with pytest.raises(WeightsError):
        resolve("owner/fitted")
    hub.heal()
    with pytest.raises(WeightsError, match="not in the cache"):
        resolve("owner/fitted", local_files_only=True)
    with pytest.raises(WeightsError, match=r"calibration\.safetensors of owner/fitted is not in the cache"):
        resolve(f"owner/fitted@{commit}", local_files_only=True)
    assert contents(resolve("owner/fitted")) == whole
    assert contents(resolve("owner/fitted", local_files_only=True)) == whole


@pytest.mark.parametrize("pinned", [False, True])
def test_what_another_tool_fetched_in_part_is_completed(hub, pinned):
    from huggingface_hub import hf_hub_download

    whole = {**FILES, "calibration.safetensors": b"c"}
    commit = hub.add("owner/fitted", whole)
    for file in FILES:
        hf_hub_download("owner/fitted", file)
    name = f"owner/fitted@{commit}" if pinned else "owner/fitted"
    assert contents(resolve(name, local_files_only=True)) == FILES  # nobody knows of more
    assert contents(resolve(name)) == whole


def test_a_refresh_asks_again_also_for_a_commit(hub):
    whole = {**FILES, "calibration.safetensors": b"c"}
    commit = hub.add("owner/fitted", whole)
    assert contents(resolve(f"owner/fitted@{commit}")) == whole
    records = hash_cache.HashCache(hash_cache.hash_cache_folder(None))
    records.remember(revisions={}, files={f"owner/fitted@{commit}": dict.fromkeys(FILES)})  # as versions before did
    assert contents(resolve(f"owner/fitted@{commit}")) == FILES
    assert contents(resolve(f"owner/fitted@{commit}", refresh=True)) == whole


def test_private_repository_needs_a_token(hub):
    hub.add("owner/secret", FILES, private=True)
    with pytest.raises(WeightsError) as caught:
        resolve("owner/secret")
    check_sentence(caught.value, "owner/secret", "401", "HF_TOKEN")
    with pytest.raises(WeightsError):
        resolve("owner/secret", token="hf_bad")
    # The server refuses a token sent to its other host name, so this also shows that none was.
    assert contents(resolve("owner/secret", token="hf_good")) == FILES


def test_token_of_the_environment(hub, monkeypatch):
    hub.add("owner/secret", FILES, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert contents(resolve("owner/secret")) == FILES


# --- the Hub, when it does not ---------------------------------------------------------------------------------------


def test_repository_that_does_not_exist(hub):
    with pytest.raises(WeightsError) as caught:
        resolve("owner/nothing", token="hf_good")
    check_sentence(caught.value, "owner/nothing", "does not exist", "404")


def test_gated_repository(hub):
    hub.add("owner/gated", FILES, gated=True)
    with pytest.raises(WeightsError) as caught:
        resolve("owner/gated")
    check_sentence(caught.value, "owner/gated", "terms", "HF_TOKEN")


def test_revision_that_does_not_exist(hub):
    with pytest.raises(WeightsError) as caught:
        resolve(f"{REPO}@v9")
    check_sentence(caught.value, REPO, "v9", "revision=")


def test_repository_of_another_kind(hub):
    hub.add("owner/other", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(WeightsError) as caught:
        resolve("owner/other")
    check_sentence(caught.value, "owner/other", "not a grepq-iqa model", "low_level.safetensors")
    assert hub.count("/resolve/") == 0


@pytest.mark.parametrize("where", ["GET /api/models", "HEAD /owner", "GET /cdn/"])
def test_too_many_requests_waits_as_told(hub, naps, where):
    # The client asks a second time at once after a HEAD that failed, then as told.
    hub.fail(where, status=429, headers={"Retry-After": "7"}, times=2)
    assert contents(resolve(REPO)) == FILES
    assert any(7 <= nap <= 8 for nap in naps)


def test_too_many_requests_with_a_long_wait(hub, naps):
    hub.fail("/api/models", status=429, headers={"Retry-After": "3600"}, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, REPO, "too many requests", "3600 seconds", "HF_TOKEN")
    assert naps == []


def test_the_hubs_own_rate_limit_header(hub, naps):
    hub.fail("/api/models", status=429, headers={"RateLimit": '"api";r=0;t=300'}, times=99)
    with pytest.raises(WeightsError, match="300 seconds"):
        resolve(REPO)


def test_server_trouble_that_passes(hub, naps):
    hub.fail("/api/models", status=503)
    hub.fail("/api/models", status=500)
    assert contents(resolve(REPO)) == FILES


def test_server_trouble_that_stays(hub, naps):
    hub.fail("/api/models", status=502, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, REPO, "502", "HF_ENDPOINT")


def test_no_answer_in_time(hub, naps, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fail("/api/models", delay=1, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, REPO, "in time", "HF_HUB_ETAG_TIMEOUT")


def test_download_that_stalls(hub, naps, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.fail("GET /cdn/", delay=0.6, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, "low_level.safetensors", REPO, "HF_HUB_DOWNLOAD_TIMEOUT")


def test_no_network(hub, naps, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, REPO, "http://127.0.0.1:9", "HF_ENDPOINT", "network")


def test_broken_connection_is_resumed(hub, naps, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 15)  # what is kept of an answer: whole chunks
    hub.fail("GET /cdn/", cut=100_000)
    assert contents(resolve(REPO)) == FILES
    resumed = [int(r.headers["Range"][6:-1]) for r in hub.requests if "Range" in r.headers]
    assert resumed == [3 << 15]


def test_reset_connection_is_tried_again(hub, naps):
    hub.fail("GET /cdn/", cut=100_000, reset=True)
    assert contents(resolve(REPO)) == FILES


def test_connection_that_always_breaks(hub, naps):
    hub.fail("GET /cdn/", cut=0, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, "low_level.safetensors", REPO, "cut off")


def test_damage_on_the_way_is_repaired_once(hub):
    hub.fail("GET /cdn/", corrupt=True)
    assert contents(resolve(REPO)) == FILES


def test_damage_on_the_way_that_stays(hub):
    hub.fail("GET /cdn/", corrupt=True, times=99)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, "low_level.safetensors", REPO, "sha256", "HF_ENDPOINT")
    assert hub.count("GET /cdn/") == 2


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "empty"])
@pytest.mark.parametrize("file", ["low_level.safetensors", "config.json"])
def test_damaged_cache_is_fetched_again_once(hub, damage, file):
    path = blob(resolve(REPO), file)
    content = path.read_bytes()
    damaged = {"truncated": content[: len(content) // 2], "corrupt": content[::-1], "empty": b""}[damage]
    path.write_bytes(damaged)
    hub.requests.clear()
    assert contents(resolve(REPO)) == FILES
    assert hub.count("HEAD ") == 1
    hub.requests.clear()
    resolve(REPO)
    assert hub.requests == []


def test_damaged_cache_is_known_even_without_records(hub, tmp_path):
    blob(resolve(REPO), "low_level.safetensors").write_bytes(LOW[:1000])
    shutil.rmtree(tmp_path / "home/assets")
    assert contents(resolve(REPO)) == FILES


def test_damaged_cache_offline(hub):
    blob(resolve(REPO), "low_level.safetensors").write_bytes(LOW[:1000])
    with pytest.raises(WeightsError) as caught:
        resolve(REPO, local_files_only=True)
    check_sentence(caught.value, "low_level.safetensors", REPO, "damaged", "HF_HUB_OFFLINE")


def test_nothing_cached_offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError) as caught:
        resolve(REPO)
    check_sentence(caught.value, REPO, "not in the cache", "HF_HUB_OFFLINE", "grepq weights download")
    assert hub.requests == []


def test_something_that_is_no_hub(hub, monkeypatch, naps):
    hub.fail("/api/models", status=200, headers={"Content-Type": "text/html"}, times=99)
    with pytest.raises(WeightsError):
        resolve(REPO)


# --- settings that the client reads when it starts, and other processes ----------------------------------------------

SCRIPT = """
    import sys
    from grepq_iqa.weights import resolve
    from grepq_iqa.errors import WeightsError
    {before}
    try:
        model = resolve("owner/model")
    except WeightsError as error:
        sys.exit("WEIGHTS: " + str(error))
    print("|".join(str(path) for path in model.files.values()))
"""


def start(tmp_path: Path, before: str = "", stderr=subprocess.PIPE, prefix=(), **env: str) -> subprocess.Popen:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    settings = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]), **env}
    code = textwrap.dedent(SCRIPT).format(before=before)
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code], env=clean | settings, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.strip(), err or ""


def test_environment(tmp_path):
    with HubServer() as server:
        server.add(REPO, FILES, private=True)
        code, out, err = finish(start(tmp_path, HF_ENDPOINT=server.url, HF_TOKEN="hf_good"))
        assert code == 0, err
        assert str(tmp_path / "home/hub") in out
        assert "%|" not in err  # no progress bar where nobody watches
        assert Path(out.split("|")[1]).read_bytes() == LOW
    # The server is gone.
    code, again, err = finish(start(tmp_path, HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1"))
    assert (code, again) == (0, out), err
    code, again, _ = finish(start(tmp_path, HF_ENDPOINT=server.url))
    assert (code, again) == (0, out)
    code, _, err = finish(start(tmp_path / "other", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1"))
    assert code == 1
    assert "HF_HUB_OFFLINE" in err


def test_two_processes_at_once(hub, tmp_path):
    hub.fail("GET /cdn/", delay=0.5, times=2)
    processes = [start(tmp_path, HF_ENDPOINT=hub.url) for _ in range(2)]
    results = [finish(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results
    assert results[0][1] == results[1][1]
    assert [Path(path).read_bytes() for path in results[0][1].split("|")] == list(FILES.values())
    assert not list((tmp_path / "home").rglob("*.incomplete"))


def test_progress_bar_on_a_terminal(hub, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = start(tmp_path, stderr=theirs, HF_ENDPOINT=hub.url)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert finish(process)[0] == 0
    assert b"%|" in shown


def test_disk_full_by_limit(hub, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    code, _, err = finish(start(tmp_path, before=limit, HF_ENDPOINT=hub.url))
    assert code == 1
    sentence = err.strip().splitlines()[-1]
    for words in ("WEIGHTS: low_level.safetensors of owner/model does not fit", "HF_HOME", "space"):
        assert words in sentence
    assert not list((tmp_path / "home").rglob("*.incomplete"))


def test_disk_full(hub, tmp_path):
    mounted = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=160k none {tmp_path} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount")
    code, _, err = finish(start(tmp_path, prefix=mounted, HF_ENDPOINT=hub.url))
    assert code == 1
    assert "does not fit on the disk" in err.strip().splitlines()[-1]


def test_importing_and_resolving_a_bundled_model_leaves_torch_alone(tmp_path):
    write_directory(tmp_path / "model")
    code = (
        "import sys, grepq_iqa.weights, grepq_iqa.cli.weights\n"
        f"grepq_iqa.weights.resolve({str(tmp_path / 'model')!r})\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


# --- clip-rn50 -------------------------------------------------------------------------------------------------------

CLIP_REPO = "timm/resnet50_clip.openai"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(state dict, bytes) of a checkpoint with random weights; 200 MB, so made once."""
    from random_clip import write_random_clip

    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    return write_random_clip(path), path.read_bytes()


def test_clip_rn50(package, hub, clip):
    import torch
    from random_clip import text_reference
    from safetensors import safe_open
    from safetensors.torch import load_file

    state, content = clip
    commit = hub.add(CLIP_REPO, {"open_clip_model.safetensors": content, "config.json": b"{}"})
    assert not weights.is_available("clip-rn50")
    model = resolve("clip-rn50")
    assert (model.source, model.revision) == (f"hub:{CLIP_REPO}", commit)
    assert model.files["low_level.safetensors"].read_bytes() == LOW
    assert weights.is_available("clip-rn50")

    tensors = load_file(model.files["high_level.safetensors"])
    prompts = {name: tensors.pop(name) for name in ("prompts.good", "prompts.bad")}
    visual = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith("visual.") and not name.endswith("positional_embedding")
    }
    assert {f"encoder.{name}" for name in visual} == set(tensors)
    assert all(torch.equal(tensors[f"encoder.{name}"], tensor) for name, tensor in visual.items())

    expected = text_reference(state, ["A good photo.", "A bad photo."])
    assert torch.allclose(prompts["prompts.good"], expected[0], atol=1e-6)
    assert torch.allclose(prompts["prompts.bad"], expected[1], atol=1e-6)

    from grepq_iqa.encoders.high_level import HighLevelEncoder

    config = json.loads((ROOT / "grepq_iqa/models/clip-rn50/config.json").read_text())
    encoder = HighLevelEncoder(config["high_level"])
    encoder.tower.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in tensors.items()})

    # The vectors also lie alone in a small file, and neither they nor the tower are made a second time.
    (small,) = model.files["high_level.safetensors"].parent.glob("prompts-*.safetensors")
    assert small.stat().st_size < 10_000
    with safe_open(small, "pt") as stream:
        assert stream.metadata()["good"] == "A good photo."
    made = {path: path.stat().st_mtime_ns for path in (small, model.files["high_level.safetensors"])}
    hub.requests.clear()
    assert resolve("clip-rn50", local_files_only=True) == model
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert hub.requests == []

    # A damaged derived file is made again.
    model.files["high_level.safetensors"].write_bytes(b"")
    assert set(load_file(resolve("clip-rn50").files["high_level.safetensors"])) == {*tensors, *prompts}

    # The hash was recorded: another file under the same branch is refused, even when fetched on purpose.
    hub.add(CLIP_REPO, {"open_clip_model.safetensors": b"something else"})
    with pytest.raises(WeightsError) as caught:
        resolve("clip-rn50", refresh=True)
    check_sentence(caught.value, "open_clip_model.safetensors", CLIP_REPO, "records.json")
    assert resolve("clip-rn50") == model


def test_clip_rn50_with_a_checkpoint_of_another_model(package, hub):
    import torch
    from safetensors.torch import save

    hub.add(CLIP_REPO, {"open_clip_model.safetensors": save({"visual.x": torch.zeros(1), "odd": torch.zeros(1)})})
    with pytest.raises(WeightsError) as caught:
        resolve("clip-rn50")
    assert "unexpected odd" in str(caught.value)
    assert "missing token_embedding.weight" in str(caught.value)


def test_clip_rn50_offline(package, hub):
    with pytest.raises(WeightsError) as caught:
        resolve("clip-rn50", local_files_only=True)
    check_sentence(caught.value, CLIP_REPO, "grepq weights download clip-rn50")


# --- command line ----------------------------------------------------------------------------------------------------


def run(*arguments: str):
    return CliRunner().invoke(weights_cli, list(arguments))


def test_cli_list(package):
    rows = [json.loads(line) for line in run("list", "--format", "jsonl").stdout.splitlines()]
    assert [row["name"] for row in rows] == ["compact", "compact@0.1", "clip-rn50", "rn50"]
    assert [row["here"] for row in rows] == [True, False, False, False]
    assert rows[0]["size"] == sum(map(len, FILES.values()))
    table = run("list", "--format", "table").stdout
    assert re.search(r"compact \(default\)\s+bundled\s+yes\s+0 MB\s+MIT", table)
    assert run("list").stdout.splitlines()[0] == "name,source,here,size,license,summary"


def test_cli_download_and_path(hub):
    missing = run("path", REPO)
    assert isinstance(missing.exception, WeightsError)
    done = run("download", REPO)
    assert done.exit_code == 0
    lines = dict(line.split("\t") for line in done.stdout.splitlines())
    assert {name: Path(path).read_bytes() for name, path in lines.items()} == FILES
    hub.requests.clear()
    assert run("path", REPO).stdout == done.stdout
    assert hub.requests == []
    new = hub.add(REPO, {**FILES, "config.json": b"new"})
    assert new in run("download", REPO).stdout


def test_cli_verify(package, hub):
    resolve(REPO)
    good = run("verify", "compact", REPO)
    assert good.exit_code == 0
    assert good.stdout.count("\tok\n") == 6
    assert run("verify").stdout.count("\n") == 3  # compact alone is here
    blob(resolve(REPO), "low_level.safetensors").write_bytes(b"damage")
    blob(resolve("compact"), "config.json").unlink()
    bad = run("verify", "compact", REPO)
    assert bad.exit_code == 1
    assert f"{REPO}\tlow_level.safetensors\tdamaged" in bad.stdout
    assert "compact\tconfig.json\tmissing" in bad.stdout


@pytest.mark.parametrize("command", ["list", "download", "path", "verify", "import-official"])
def test_cli_help_ends_with_examples(command):
    text = run(command, "--help").stdout
    assert text.count(f"grepq weights {command}") >= 1
    assert "Examples:" in text
