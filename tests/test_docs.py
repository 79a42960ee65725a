"""The documentation site: its pages say what is so, and what they show runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs
from documented import PYTHON, REPOSITORY, SHELL, Block, blocks, run_python, run_shell, shell_lines
from PIL import Image, ImageFilter

DOCS = REPOSITORY / "docs"
PAGES = ("index", "start", "scoring", "number", "choosing", "fitting")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory, photos) -> Path:
    """What the pages take for granted: photos/ with the four example photographs and others, and labels.csv."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").mkdir()
    rows = ["path,mos"]
    for name in ("osprey", "otter_shaken", "lake_dark_noisy", "spices_compressed"):
        source = next(photo for photo in photos if photo.stem == name)
        with Image.open(source) as picture:
            small = picture.convert("RGB").resize((144, 108))
        for blur in (0, 1, 3):
            file = f"photos/{name}.jpg" if not blur else f"photos/{name}_{blur}.jpg"
            (small if not blur else small.filter(ImageFilter.GaussianBlur(blur))).save(folder / file)
            rows.append(f"{file},{5 - blur - 0.1 * len(name)}")
    (folder / "labels.csv").write_text("\n".join(rows[:1] + rows[1::2]) + "\n")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page, scratch, monkeypatch, tmp_path):
    folder = tmp_path / "reader"
    shutil.copytree(scratch, folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names: dict[str, object] = {}
    ran = 0
    for block in blocks(DOCS / f"{page}.md"):
        if block.not_run is not None:
            continue
        if block.language in SHELL:
            run_shell(block, folder)
        elif block.language in PYTHON:
            run_python(block, folder, names)
        else:
            assert block.language in {"text", "yaml"}, f"{page}.md, line {block.line}: what is a {block.language!r}?"
            continue
        ran += 1
    assert ran or page == "number"


def test_the_executor_notices_what_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\ntrue\n```\n\n<!-- not run: because -->\n```sh\nfalse\n```\n\n```console\n$ exit 3\noutput\n```\n\n"
        "```python\nraise KeyError\n```\n\n```{include} other.md\n```\n"
    )
    true, aside, exits, raises = blocks(page)
    assert (true.text, aside.not_run, exits.line, raises.language) == ("true", "because", 11, "python")
    assert shell_lines(exits) == ["exit 3"]
    assert run_shell(true, tmp_path) == ""
    assert run_shell(Block("sh", "echo a \\\n  b  # c", 1, None), tmp_path) == "a b\n"
    with pytest.raises(AssertionError, match="exit 3"):
        run_shell(exits, tmp_path)
    with pytest.raises(KeyError):
        run_python(raises, tmp_path, {})


def test_the_pictures_have_the_percentiles_that_the_page_states(compact):
    record = json.loads((DOCS / "pictures" / "percentiles.json").read_text())
    again = "make them again: python studies/percentiles.py (its docstring says how)"
    assert record["encoder_hash"] == compact.encoder_hash, f"they were scored by other weights; {again}"
    page = (DOCS / "pictures" / "percentiles.md").read_text()
    scores = compact.score([DOCS / "pictures" / picture["file"] for picture in record["pictures"]])
    for picture, score in zip(record["pictures"], scores, strict=True):
        assert abs(score.percentile - picture["percentile"]) < 0.2, picture
        assert abs(score.percentile - picture["target"]) < 3, picture
        assert f"**{picture['percentile']:.0f}** (score {picture['score']:.3f})" in page


def test_the_site_builds_without_a_warning(tmp_path):
    needs("sphinx")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", DOCS, tmp_path / "site"]
    done = subprocess.run([*command, "-d", tmp_path / "trees"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "commands.html").read_text()
    for shown in ("grepq weights import-official", "--max-pixels", "python -m grepq_iqa.training low-level"):
        assert shown in commands
    assert "errors" in (tmp_path / "site" / "api.html").read_text()
    for page in (tmp_path / "site").glob("*.html"):
        assert 'src="http' not in page.read_text(), f"{page.name} fetches something from elsewhere"
