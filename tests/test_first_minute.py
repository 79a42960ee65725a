"""What a new user meets first: `make`, the labeled examples, completion, and a package that declares what it needs."""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from grepq_iqa.data.labels import read_labels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples" / "photos"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# --- make -----------------------------------------------------------------------------------------------------------


def make_venv(folder: Path, *extras: str, python: str = sys.executable, **environment: str):
    return subprocess.run(
        [python, REPOSITORY / "scripts" / "make_venv.py", folder, *extras],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def recorded(folder: Path) -> Path:
    """An environment of ours whose Python writes down what pip was asked for, and has no torch."""
    (folder / "bin").mkdir(parents=True)
    (folder / ".made-by-make").touch()
    script(folder / "bin" / "python", f'echo "$@" >> {folder}/asked\ncase "$*" in *import*) exit 1;; esac')
    return folder


@pytest.mark.parametrize(
    ("chosen", "options"), [("", ""), ("https://example.org/cpu", "--index-url https://example.org/cpu ")]
)
def test_torch_comes_first_from_the_index_that_is_named(tmp_path, chosen, options):
    folder = recorded(tmp_path / "env")
    done = make_venv(folder, "dev", TORCH_INDEX=chosen)
    assert done.returncode == 0, done.stderr
    quiet = "-m pip install --quiet --disable-pip-version-check"
    asked = (folder / "asked").read_text().splitlines()
    assert asked[-2:] == [f"{quiet} {options}torch torchvision", f"{quiet} -e {REPOSITORY}[dev]"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere PyPI's torch is the small one")
def test_without_the_cpu_index_pip_s_own_is_used_and_that_is_said(tmp_path):
    folder = recorded(tmp_path / "env")
    done = make_venv(folder, https_proxy="http://127.0.0.1:9")
    assert done.returncode == 0
    assert "cannot be reached" in done.stderr and "TORCH_INDEX" in done.stderr
    assert (folder / "asked").read_text().splitlines()[-2].endswith("version-check torch torchvision")


def test_an_environment_of_somebody_else_is_left_alone(tmp_path):
    mine = tmp_path / ".venv" / "bin" / "treasure"
    mine.parent.mkdir(parents=True)
    mine.touch()
    done = make_venv(tmp_path / ".venv")
    assert done.returncode == 1 and "VENV=" in done.stderr and "Traceback" not in done.stderr
    assert mine.exists()


def test_a_python_without_venv_is_told_what_to_install(tmp_path):
    """As Debian's is without python3-venv."""
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    done = make_venv(tmp_path / "env", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "apt install python3-venv" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "env").exists()


def test_an_old_python_looks_for_a_newer_one(tmp_path):
    """The file itself must be understood by old ones, so only what it says is tried here."""
    source = (REPOSITORY / "scripts" / "make_venv.py").read_text().replace("OLDEST = (3, 10)", "OLDEST = (9, 0)")
    ast.parse(source, feature_version=(3, 6))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "make_venv.py").write_text(source)
    command = [sys.executable, tmp_path / "scripts" / "make_venv.py", tmp_path / "env"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and "too old" in done.stderr
    script(tmp_path / "python3.10", "exit 1")
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert f"Making {tmp_path / 'env'} with {tmp_path / 'python3.10'}" in done.stderr


def test_ci_runs_the_readme_s_test_command():
    commands = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    assert "make test" in commands and "make demo" in commands


# --- labeled examples -----------------------------------------------------------------------------------------------


def test_labeled_examples_are_what_their_page_says():
    with (EXAMPLES / "labels.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 40
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for row in rows:
        line = f"| `{row['path']}` | {row['distortion']} | {row['severity']} | {row['mos']} | "
        assert page.count(line) == 1
        with Image.open(EXAMPLES / row["path"]) as photo:
            assert photo.format == "JPEG" and max(photo.size) <= 448
        assert (EXAMPLES / row["path"]).stat().st_size < 60_000
        assert float(row["mos"]) == pytest.approx(max(1, 1 + 4 * (float(row["fsim"]) - 0.65) / 0.35), abs=0.011)
    clean = [float(row["mos"]) for row in rows if row["severity"] == "0"]
    damaged = [float(row["mos"]) for row in rows if row["severity"] != "0"]
    assert len(clean) == 8 and min(clean) > max(damaged)


def test_labels_are_read_and_rise_with_the_zero_shot_score(compact):
    labels = read_labels(EXAMPLES / "labels.csv")
    scores = [float(score) for score in compact.score(labels.paths[::2])]
    assert spearmanr(scores, labels.mos[::2]).statistic > 0.5


def test_the_script_that_made_them_makes_the_same_again(monkeypatch):
    """For the undamaged pictures themselves the packages are needed; the steps after them are not."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples")
    import make_photos

    with Image.open(EXAMPLES / "osprey.jpg") as photo:
        scene = photo.resize((224, 144))
    picture = make_photos.distorted(scene, "jpeg", 3, seed=0)
    assert picture.tobytes() == make_photos.distorted(scene, "jpeg", 3, seed=1).tobytes()
    file, quality = make_photos.encoded(picture)
    assert len(file) < make_photos.MOST_BYTES and quality in make_photos.JPEG_QUALITIES
    clean = io.BytesIO()
    scene.save(clean, "PNG")
    assert make_photos.label(make_photos.fsim(scene, clean.getvalue())) == pytest.approx(5, abs=1e-4)
    assert make_photos.label(make_photos.fsim(scene, file)) < 4.5
    noise = np.random.default_rng(0).integers(0, 256, (*make_photos.BOX[::-1], 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="60 kB"):
        make_photos.encoded(Image.fromarray(noise))


# --- the package ----------------------------------------------------------------------------------------------------

PROVIDED_BY = {"PIL": "pillow", "sklearn": "scikit-learn", "open_clip": "open_clip_torch", "brisque": "brisque"}


def declared(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}


def imported(folder: Path) -> dict[str, Path]:
    """Every package that some module imports, and one such module."""
    found = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.partition(".")[0], path)
    return found


def test_what_is_imported_is_declared():
    optional = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    known = declared(PROJECT["dependencies"] + optional)
    for name, path in imported(REPOSITORY / "grepq_iqa").items():
        if name in sys.stdlib_module_names or name == "grepq_iqa":
            continue
        package = PROVIDED_BY.get(name, name).lower().replace("_", "-")
        assert package in known, f"{path.name} imports {name}, which pyproject.toml does not declare"


def test_every_dependency_has_a_lowest_version():
    assert all(re.fullmatch(r"[\w.-]+>=[\d.]+", line) for line in PROJECT["dependencies"])


# --- shell completion -----------------------------------------------------------------------------------------------


def complete(line: str) -> tuple[list[str], set[str]]:
    """What bash is offered for a line, and which modules that took."""
    program = (
        "import sys, atexit\n"
        "from grepq_iqa.cli import run\n"
        "sys.argv = ['grepq']\n"
        "atexit.register(lambda: print(*sorted(sys.modules), sep='\\n', file=sys.stderr))\n"
        "run()\n"
    )
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_GREPQ_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, cwd=REPOSITORY
    )
    return done.stdout.split(), set(done.stderr.split())


def test_completion_knows_commands_and_their_options():
    words, modules = complete("grepq s")
    assert {"score", "select"} <= set(words) and all(word.startswith("s") for word in words)
    assert not {"torch", "numpy"} & modules
    words, modules = complete("grepq score --over")
    assert words == ["--overwrite"]
    assert "torch" not in modules
