"""From a run to a release: publishing writes weights.json, and a wheel without encoders takes them from the Hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from grepq_iqa import weights
from grepq_iqa.errors import WeightsError
from grepq_iqa.files import sha256_of
from grepq_iqa.training.__main__ import app
from grepq_iqa.weights import manifest as manifests

ROOT = Path(__file__).parent.parent
COMPACT = manifests.PACKAGE / "models" / "compact"


@pytest.fixture
def hub(empty_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    return empty_hub


@pytest.fixture
def listed(tmp_path) -> Path:
    return Path(shutil.copy(manifests.manifest_path(), tmp_path / "weights.json"))


def publish(*arguments: object) -> None:
    result = CliRunner().invoke(app, ["publish", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def test_publishing_pins_commit_hashes_and_sizes(hub, tmp_path, listed):
    folder = shutil.copytree(COMPACT, tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text()) | {"name": "mine"}
    (folder / "config.json").write_text(json.dumps(config))
    publish("--model", folder, "--repo-id", "owner/mine", "--manifest", listed)
    entry = json.loads(listed.read_text())["models"]["mine"]
    assert entry["source"] == "hub" and entry["license"] == "MIT"
    [commit] = {values["revision"] for values in entry["files"].values()}
    assert len(commit) == 40 and int(commit, 16)
    for name, values in entry["files"].items():
        path = folder / name
        assert values == {
            "repo": "owner/mine", "revision": commit, "file": name, "sha256": sha256_of(path),
            "size": path.stat().st_size,
        }  # fmt: skip
    assert "README.md" not in entry["files"]


def test_publishing_under_the_name_of_an_unpublished_model_makes_it_one_of_the_hub(hub, tmp_path, listed, monkeypatch):
    folder = shutil.copytree(COMPACT, tmp_path / "rn50")
    config = json.loads((folder / "config.json").read_text()) | {"name": "rn50"}
    (folder / "config.json").write_text(json.dumps(config))
    publish("--model", folder, "--repo-id", "owner/rn50", "--manifest", listed)
    monkeypatch.setattr(manifests, "manifest_path", lambda: listed)
    model = weights.resolve("rn50", cache_dir=tmp_path / "cache")
    assert model.source == "hub:owner/rn50"
    assert {name: path.read_bytes() for name, path in model.files.items()} == {
        name: (folder / name).read_bytes() for name in model.files
    }


def test_other_files_under_a_bundled_name_are_refused_before_the_upload(hub, tmp_path, listed):
    folder = shutil.copytree(COMPACT, tmp_path / "compact")
    (folder / "features.safetensors").write_bytes(b"others")
    before = listed.read_bytes()
    with pytest.raises(WeightsError, match=r"bundles another features\.safetensors as part of compact"):
        publish("--model", folder, "--repo-id", "owner/compact", "--manifest", listed)
    assert listed.read_bytes() == before and not hub.count("POST")
    listed.write_text("[]")
    with pytest.raises(WeightsError, match="cannot be read"):
        publish("--model", COMPACT, "--repo-id", "owner/compact", "--manifest", listed)


def test_update_manifest_keeps_where_the_same_file_was_published(hub, tmp_path, listed):
    publish("--model", COMPACT, "--repo-id", "owner/compact", "--manifest", listed)
    published = json.loads(listed.read_text())["models"]["compact"]["files"]
    assert all(values["bundled"] and values["repo"] == "owner/compact" for values in published.values())
    package = tmp_path / "package"
    shutil.copytree(COMPACT, package / "models" / "compact")
    (package / "models" / "compact" / "ratings.safetensors").write_bytes(b"new")
    weights.update_manifest(listed, package)
    files = json.loads(listed.read_text())["models"]["compact"]["files"]
    assert files["low_level.safetensors"] == published["low_level.safetensors"]
    assert set(files["ratings.safetensors"]) == {"bundled", "sha256", "size"}


def test_a_slim_wheel_takes_the_encoders_from_the_hub_once(hub, tmp_path, photos):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "grepq_iqa", source / "grepq_iqa")
    for name in ("pyproject.toml", "hatch_build.py", "weights.json", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    slim = os.environ | {"GREPQ_SLIM": "1"}
    refused = subprocess.run(build, cwd=source, env=slim, capture_output=True, text=True)
    assert refused.returncode and "publish first" in refused.stderr + refused.stdout

    publish("--model", COMPACT, "--repo-id", "owner/compact", "--manifest", source / "weights.json")
    subprocess.run(build, cwd=source, env=slim, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    assert wheel.stat().st_size < 4_000_000
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(installed)
    assert "grepq_iqa/models/compact/features.safetensors" in names
    assert not any(name.endswith(("low_level.safetensors", "high_level.safetensors")) for name in names)

    script = "import sys, grepq_iqa as g; print(g.__file__); print(float(g.GRepQ.from_pretrained().score(sys.argv[1])))"
    found = []
    for more in ({"HF_ENDPOINT": hub.url}, {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}):
        environment = os.environ | {"PYTHONPATH": str(installed), "HF_HOME": str(tmp_path / "home")} | more
        done = subprocess.run(
            [sys.executable, "-c", script, str(photos[0])],
            env=environment,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith(str(installed))
        found.append(done.stdout.splitlines()[1])
    assert found[0] == found[1]
