"""What a test needs of the machine: without it skipped here, and a failure in CI, never silently passed over."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import REPOSITORY, needs

EXAMPLE = """
import pytest
from conftest import needs

@pytest.mark.needs({name!r})
def test_marked():
    pass

def test_inside():
    needs({name!r})
"""


@pytest.mark.parametrize("name", ["no-such-program", "pytest>=999", "sh"])
@pytest.mark.parametrize("ci", ["", "1"])
def test_a_missing_need_is_skipped_here_and_fails_in_ci(tmp_path, name, ci):
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    (tmp_path / "test_example.py").write_text(EXAMPLE.format(name=name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "GREPQ_CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
    )
    wanted = "2 passed" if name == "sh" else "failed" if ci else "2 skipped"
    assert wanted in done.stdout, done.stdout + done.stderr


def test_what_is_there_is_given():
    assert needs("pytest") is pytest
    assert needs("pytest>=7") is pytest
    assert needs("sh").endswith("sh")
