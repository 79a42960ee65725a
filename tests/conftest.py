"""Shared fixtures: example photographs, the bundled model loaded once, quiet threads."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The example photographs, sorted by name."""
    return sorted((REPOSITORY / "examples" / "photos").glob("*.jpg"))


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
