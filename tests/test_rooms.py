"""The house: imports run one way, from a room only to rooms above it (DESIGN's list, with the rooms that joined)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import grepq_iqa

PACKAGE = Path(grepq_iqa.__file__).parent
ROOMS = (
    {"_version", "devices", "errors", "files", "metrics", "results", "rows", "text"},
    {"data"},
    {"encoders"},
    {"zero_shot"},
    {"calibration"},
    {"explain"},
    {"weights"},
    {"model", "feature_cache", "batch", "frames"},  # the facade, and what goes through many files by it
    {"pages"},
    {"labeling"},
    {"report"},
    {"benchmark"},
    {"integrations"},
    {"server"},
    {"cli"},
    {"training"},
)
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names}
ENTRANCES = {"__init__", "__main__"}


def imports_of(text: str) -> set[str]:
    """Rooms that a module imports, be it later or at once; what only a type checker reads does not count."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "grepq_iqa":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "grepq_iqa" and len(parts) > 1}
    return found & FLOOR.keys()


def modules() -> list[Path]:
    return [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]


def test_every_module_has_a_room():
    rooms = {path.parts[0].removesuffix(".py") for path in modules()}
    assert rooms - ENTRANCES - {"models"} == FLOOR.keys()


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_room_imports_from_rooms_above_it(path):
    room = path.parts[0].removesuffix(".py")
    if room in ENTRANCES:
        return
    above = imports_of((PACKAGE / path).read_text(encoding="utf-8"))
    assert not {name for name in above if FLOOR[name] > FLOOR[room]}


def test_the_reading_of_imports():
    later = "def f():\n    import grepq_iqa.training.loop\n"
    text = f"from grepq_iqa.cli import app\n{later}from grepq_iqa import GRepQ, text\n"
    assert imports_of(text) == {"cli", "training", "text"}
    assert imports_of("if TYPE_CHECKING:\n    from grepq_iqa.cli import app\n") == set()
