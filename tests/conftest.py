"""Shared fixtures: example photographs, the bundled model loaded once, what a test needs of the machine."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]

OTHER_NAMES = {
    "chromium": ("chromium-browser", "google-chrome", "chrome"),
    "exiftool": ("exiftool.exe",),
    "gs": ("gswin64c",),
    "magick": ("convert",),
}


def needs(name: str):
    """A Python module, else the path of a program; without it the test is skipped, and under ``GREPQ_CI=1`` fails.

    ``@pytest.mark.needs("chromium", "playwright")`` above a test or as ``pytestmark`` does the same for each name. A
    module may name its oldest version: ``"pillow_heif>=1.7"``.
    """
    requirement = Requirement(name)
    try:
        module = importlib.import_module(requirement.name)
        found = version(requirement.name) if requirement.specifier else ""
        if not found or found in requirement.specifier:
            return module
        reason = f"needs {name}, and {found} is installed"
    except ImportError:
        for program in (name, *OTHER_NAMES.get(name, ())):
            if path := shutil.which(program):
                return path
        reason = f"needs {name}"
    if os.environ.get("GREPQ_CI"):
        pytest.fail(reason + "; nothing may be skipped for want of it in CI", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*names): programs or modules without which a test cannot run")
    config.addinivalue_line("markers", "slow: takes more than ten seconds; leave out with -m 'not slow'")


def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            needs(name)


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The four example photographs that stored numbers are of, sorted by name; the forty labeled ones are others."""
    names = ("lake_dark_noisy.jpg", "osprey.jpg", "otter_shaken.jpg", "spices_compressed.jpg")
    return [REPOSITORY / "examples" / "photos" / name for name in names]


@pytest.fixture(scope="session")
def compact():
    """The bundled model, on the CPU in float32 so that figures can be compared."""
    from grepq_iqa import GRepQ

    return GRepQ.from_pretrained(device="cpu", dtype="float32")


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    """A loopback Hub, with the client in this process pointed at it and at an empty cache."""
    from hub_server import HubServer
    from huggingface_hub import constants

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


HIGH_LEVEL = {
    "architecture": "efficientnet",
    "model": "tf_efficientnet_lite0",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "layers": [0, 1],
    "dim": 8,
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model directory with small random encoders: fast, and as good as any for what is not about quality."""
    import torch
    from safetensors.torch import save_file

    from grepq_iqa.encoders.high_level import HighLevelEncoder
    from grepq_iqa.encoders.low_level import LowLevelEncoder

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    low, high = LowLevelEncoder(), HighLevelEncoder(HIGH_LEVEL)
    with torch.no_grad():
        pristine = {"pristine.mean": torch.zeros(128), "pristine.cov": torch.eye(128)}
        good = torch.nn.functional.normalize(torch.randn(8), dim=0)
        save_file(low.state_dict(prefix="encoder.") | pristine, folder / "low_level.safetensors")
        save_file(
            high.tower.state_dict(prefix="encoder.") | {"prompts.good": good, "prompts.bad": -good},
            folder / "high_level.safetensors",
        )
    config = {
        "format": 2,
        "family": "grepq",
        "name": "tiny",
        "low_level": {"architecture": "resnet18", "patch": 96, "stride": 48, "evaluation": "dense"},
        "high_level": HIGH_LEVEL,
        "max_side": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def grepq(monkeypatch, capfd):
    """Run the program in this process: ``(exit status, stdout, stderr)``."""

    from grepq_iqa.cli import run

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grepq", *map(str, arguments)])
        try:
            run()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call
