"""Build what would be published, install it as users would, and score a photograph offline with each.

Run: make release-check, or python scripts/release_check.py [sdist] [wheel] [lowest]

- sdist, wheel: the file, into a fresh environment;
- lowest: the wheel, with every dependency at the lowest version that pyproject.toml allows.

Environments are made below a temporary folder and removed. torch comes from where `make demo` takes it.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import make_venv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTO = REPOSITORY / "examples" / "photos" / "osprey.jpg"
WAYS = ("sdist", "wheel", "lowest")
TOLERANCE = 0.02  # of Q between versions of the libraries, bfloat16 included


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must end well."""
    print("+", *command, file=sys.stderr)
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"release_check: exit status {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def lowest_versions() -> list[str]:
    """``name==version`` for every ``name>=version`` of the dependencies.

    Raises:
        ValueError: a dependency states no lowest version.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = []
    for dependency in project["dependencies"]:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", dependency)
        if not match:
            raise ValueError(f"{dependency}: expected name>=version")
        pins.append(f"{match[1]}=={match[2]}")
    return pins


def install(folder: Path, package: Path, pins: list[str]) -> Path:
    """A fresh environment with one file installed; its Python."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    run(*pip, *make_venv.torch_index(), "torch", "torchvision")
    run(*pip, package)
    run(python, "-m", "pip", "check")
    return python


def score(python: Path, folder: Path) -> float:
    """Q of the example photograph, away from the clone and from any network."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_ENDPOINT")}
    environment |= {"HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    program = python.parent / "grepq"
    run(program, "--help", cwd=folder, env=environment)
    run(program, "weights", "verify", "compact", cwd=folder, env=environment)
    (row,) = csv.DictReader(run(program, "score", PHOTO, cwd=folder, env=environment).splitlines())
    return float(row["score"])


def main() -> None:
    """All ways, or those named on the command line; the scores must agree."""
    ways = sys.argv[1:] or WAYS
    if not set(ways) <= set(WAYS):
        sys.exit(f"release_check: expected some of {', '.join(WAYS)}")
    scores = {}
    with tempfile.TemporaryDirectory(prefix="grepq-release-") as name:
        temporary = Path(name)
        run(sys.executable, "-m", "build", "--outdir", temporary / "dist", REPOSITORY)
        (sdist,), (wheel,) = temporary.glob("dist/*.tar.gz"), temporary.glob("dist/*.whl")
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; {sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB")
        for way in ways:
            started = time.monotonic()
            pins = lowest_versions() if way == "lowest" else []
            python = install(temporary / way, sdist if way == "sdist" else wheel, pins)
            scores[way] = score(python, temporary)
            print(f"{way}: installed and scored in {time.monotonic() - started:.0f} s; Q {scores[way]:.4f}")
    if max(scores.values()) - min(scores.values()) > TOLERANCE:
        sys.exit(f"release_check: scores differ: {scores}")
    print("release_check: all is well")


if __name__ == "__main__":
    main()
