"""What the README shows runs as written, offline, and prints what it shows; its figures are of the shipped weights."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
NOT_RUN = ("make test", "pip ", "uv ", "pipx ")
"""This test is part of `make test`, and installing is tried by `make release-check`."""


def shell_lines() -> list[str]:
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(NOT_RUN)]


def shown_after(kind: str, first_word: str) -> str:
    """The block of output that follows the block of a kind in which a word stands."""
    for (this, text), (following, output) in itertools.pairwise(BLOCKS):
        if this == kind and first_word in text and following == "text":
            return output
    raise AssertionError(f"no output is shown after {first_word}")


def shape(line: str) -> str:
    """A line with every number, file and folder of an example made alike, and blanks not counted."""
    line = re.sub(r"\S*bin/grepq|\S*python\S* -m grepq_iqa", "grepq", line)
    line = re.sub(r"\S*Pictures\b|PHOTO_OR_FOLDER", "PLACE", line)
    line = re.sub(r"\b\w+\.jpg", "JPG", line)
    return " ".join(re.sub(r"[-+]?\d+(\.\d+)?", "#", line).split())


def agrees(shown: str, printed: str) -> None:
    """Every line shown was printed, of the same shape and in the same order; `...` stands for any lines."""
    parts = [[shape(line) for line in part.splitlines() if line.strip()] for part in shown.split("\n...\n")]
    got = [shape(line) for line in printed.splitlines() if line.strip()]
    assert got[: len(parts[0])] == parts[0]
    if len(parts) == 1:
        assert len(got) == len(parts[0])
    else:
        assert got[-len(parts[-1]) :] == parts[-1]
        assert len(got) >= sum(map(len, parts))


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone, so that what is written lands elsewhere."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "examples", "docs", "grepq_iqa", "pyproject.toml", "scripts"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """No network, this Python, and `grepq` as an installed program is."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "grepq"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grepq_iqa "$@"\n')
    program.chmod(0o755)
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    changed = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(REPOSITORY),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HOME": str(folder / "hub"),
    }
    outer_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # by which an inner one would say which folder it enters
    kept = {name: value for name, value in os.environ.items() if name not in outer_make}
    return {**kept, **nowhere, **changed}


def test_every_command_runs_as_written(clone, environment):
    printed = {}
    for line in shell_lines():
        done = subprocess.run(["bash", "-c", line], cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        printed[" ".join(shlex.split(line, comments=True)[:2])] = done.stdout
    agrees(shown_after("bash", "make demo"), printed["make demo"])
    assert (clone / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert len((clone / "scores.csv").read_text().splitlines()) == 1 + 44
    assert len((clone / "to-label.csv").read_text().splitlines()) == 1 + 20


def test_every_python_block_runs_as_written(clone, monkeypatch):
    monkeypatch.chdir(clone)
    namespace: dict[str, object] = {}
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert blocks
    for text in blocks:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(text, "README.md", "exec"), namespace)
        agrees(shown_after("python", text.splitlines()[0]), output.getvalue())
    assert (clone / "my-scale" / "config.json").is_file()


def test_the_comparison_of_output_can_fail():
    shown = "photo score\na.jpg 1.2 30\n...\nz.jpg 0.1 0\n"
    agrees(shown, "photo score\nb.jpg 0.9 3\nc.jpg 0.5 2\nd.jpg 0.4 1\n")
    for printed in (
        "photo\nb.jpg 0.9 3\nd.jpg 0.4 1\n",
        "photo score\nb.jpg 0.9 3\n",
        "photo score\nb.jpg 1\nd.jpg 1\n",
    ):
        with pytest.raises(AssertionError):
            agrees(shown, printed)


def test_no_block_is_left_out():
    """Code that is only indented would not be run."""
    outside = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    assert not re.findall(r"^ {4,}\S.*$", outside, re.M)
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "text"}


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_figures_of_public_sets_name_the_weights_that_they_are_of(page):
    """New weights: measure again on such sets, or say which weights the table is of, and not in the README."""
    models = json.loads((REPOSITORY / "weights.json").read_text())["models"]
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    stated = re.findall(r"`(low_level|high_level)(?:\.safetensors)?` ([0-9a-f]{8})", text)
    assert stated or "chose nothing" not in text
    for file, start in stated:
        of = [name for name, model in models.items() if _hash(model, file).startswith(start)]
        assert of and (of == ["compact"] or (page != "README.md" and f"`{of[0]}`" in text)), (file, start)


def _hash(model, file):
    return model["files"].get(f"{file}.safetensors", {}).get("sha256") or ""
