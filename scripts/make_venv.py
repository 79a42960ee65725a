"""Make or refresh the virtual environment that `make demo` and `make test` run in; nothing but Python is needed.

Run: python3 scripts/make_venv.py .venv [EXTRA ...]

torch comes first, as its build for CPUs: PyPI's wheel for Linux brings 3 GB of CUDA. On Linux it is taken from
download.pytorch.org where that can be reached, else from whatever index pip is configured with. The variable
TORCH_INDEX names another index; set and empty (`make demo TORCH_INDEX=`) it takes pip's own, that is CUDA's on PyPI.

This file keeps to what Python 3.6 understands, so that an old one can say what is missing.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

OLDEST = (3, 10)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MARK = ".made-by-make"  # only what has this file in it is ever made anew
PATIENCE = 5  # seconds for that index to answer
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


class Refused(Exception):
    """What is missing, and what to do."""


def main():
    """Make the environment, say what is done, end with 1 and a sentence where it cannot be made."""
    folder = pathlib.Path(sys.argv[1])
    try:
        make(folder, sys.argv[2:])
    except Refused as why:
        print(f"make_venv: {why}", file=sys.stderr)
        return 1
    return 0


def make(folder, extras):
    """The environment in ``folder``, with torch and this package, editable, with its ``extras``."""
    python = folder / "bin" / "python"
    if not works(python):
        create(folder)
    if subprocess.call([str(python), "-c", "import torch, torchvision"], stderr=subprocess.DEVNULL):
        install(python, ["torch", "torchvision"], torch_index())
    package = str(REPOSITORY) + ("[{}]".format(",".join(extras)) if extras else "")
    install(python, ["-e", package], [])


def works(python):
    """Whether an environment made earlier can still be used: its Python may have been upgraded away."""
    return python.exists() and not subprocess.call(
        [str(python), "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def create(folder):
    """A virtual environment by a Python that is new enough."""
    if folder.exists() and not (folder / MARK).exists():
        raise Refused(f"{folder} is not of our making and has no pip. Remove it, or name another: make demo VENV=...")
    base = new_enough()
    print(f"Making {folder} with {base}", file=sys.stderr)
    if subprocess.call([base, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL):
        raise Refused(
            "this Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv; then run "
            "make again."
        )
    if subprocess.call([base, "-m", "venv", "--clear", str(folder)]):
        raise Refused(f"{folder} could not be made by {base} -m venv; what it said stands above.")
    (folder / MARK).touch()


def new_enough():
    """The Python that runs this, or the newest of the others on PATH that will do."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for name in NEWER:
        found = shutil.which(name)
        if found:
            return found
    raise Refused(
        "Python {}.{} is too old and no newer one is on PATH: Python 3.10 or newer is needed.".format(
            *sys.version_info[:2]
        )
    )


def torch_index():
    """Options for pip that say where torch comes from."""
    chosen = os.environ.get("TORCH_INDEX")
    if chosen is not None:
        return ["--index-url", chosen] if chosen else []
    if not sys.platform.startswith("linux"):
        return []  # elsewhere PyPI's build is the small one
    try:
        request = urllib.request.Request(CPU_INDEX + "/torch/", method="HEAD")
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except (OSError, ValueError) as why:
        print(
            f"{CPU_INDEX} cannot be reached ({why}): torch comes from the index that pip is configured with, and may "
            "be the CUDA build. TORCH_INDEX=URL names another.",
            file=sys.stderr,
        )
        return []
    return ["--index-url", CPU_INDEX]


def install(python, what, options):
    """Pip install, quietly; its errors are shown."""
    print("Installing {} ...".format(" ".join(w for w in what if w != "-e")), file=sys.stderr)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call(command + options + what):
        raise Refused(
            "pip could not install {}; its reason stands above. A proxy or a mirror is set in pip's own "
            "configuration, and torch's index by TORCH_INDEX.".format(" ".join(what))
        )


if __name__ == "__main__":
    sys.exit(main())
