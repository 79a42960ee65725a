"""Runs what the documentation shows: the blocks of a page, in order, in one folder, as a reader would type them.

Shell blocks are fenced as ``sh`` (also ``bash``, ``console`` with ``$ ``), Python as ``python``; fences of other kinds
are output. A block stands aside where the line before it is ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SHELL, PYTHON = {"sh", "bash", "console"}, {"python", "py"}
_FOR_THE_SHELL = set("|<>&;$`*?~()")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^(`{3,}|:{3,})\s*\{?([\w-]*)\}?\s*(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the number of its first line, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    not_run: str | None


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown page, in order; those of directives such as ``{include}`` are passed over."""
    lines = path.read_text(encoding="utf-8").splitlines()
    i, reason = 0, None
    while i < len(lines):
        if aside := _NOT_RUN.fullmatch(lines[i].strip()):
            reason = aside[1]
        elif fence := _FENCE.match(lines[i]):
            end = next(
                j for j in range(i + 1, len(lines)) if lines[j].startswith(fence[1]) and not lines[j].strip("`:")
            )
            if "{" not in lines[i] or "code-block" in lines[i]:
                language = fence[3].strip() if "code-block" in lines[i] else fence[2]
                yield Block(language, "\n".join(lines[i + 1 : end]), i + 2, reason)
            i, reason = end, None
        elif lines[i].strip():
            reason = None
        i += 1


def run_python(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Run a block in ``folder``, with the names that earlier blocks of the page left behind."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile("\n" * (block.line - 1) + block.text, f"line {block.line} of the page", "exec"), names)
    finally:
        os.chdir(here)


def shell_lines(block: Block) -> list[str]:
    """Commands, one a line: continued lines joined, prompts taken off, output under a prompt left out."""
    text = block.text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return lines


def run_shell(block: Block, folder: Path, *, may_fail: bool = False) -> str:
    """Run a block in ``folder``, stopping at the first command that fails; returns what went to stdout.

    Lines that call ``grepq`` and nothing else run in this process, where torch is loaded already.

    Raises:
        AssertionError: a command failed; the message has it and its stderr.
    """
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, arguments in (("grepq", "-m grepq_iqa"), ("python", "")):
        program = bin_folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "GREPQ_CACHE": str(folder / ".cache"),
        "XDG_CACHE_HOME": str(folder / ".cache"),
    }
    output = ""
    for line in shell_lines(block):
        words = shlex.split(line, comments=True)
        if words[0] == "grepq" and not set(line) & _FOR_THE_SHELL:
            status, out, err = _run_here(words, folder)
        else:
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
            status, out, err = done.returncode, done.stdout, done.stderr
        output += out
        assert may_fail or status == 0, f"line {block.line}: {line}\n{out}{err}"
    return output


def _run_here(words: list[str], folder: Path) -> tuple[int, str, str]:
    """The program in this process, where torch is loaded already: ``(exit status, stdout, stderr)``."""
    from grepq_iqa.cli import run

    here, argv = Path.cwd(), sys.argv
    out, err, status = io.StringIO(), io.StringIO(), 0
    os.chdir(folder)
    sys.argv = words
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.argv = argv
        os.chdir(here)
    return status, out.getvalue(), err.getvalue()
