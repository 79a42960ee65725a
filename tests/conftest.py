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
