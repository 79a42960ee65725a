"""Does memory stay flat over thousands of files? `grepq score FOLDER`, watched from outside.

Small pictures, so that ten thousand take minutes; every tenth is broken, every third of another size.

Run: python studies/many.py PHOTO [--files 10000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

REPORTS = 10


def main() -> None:
    """Print rows written, seconds and resident MiB, one JSON line a tenth of the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photographs, rows = Path(folder) / "photographs", Path(folder) / "scores.jsonl"
        make_files(options.photo, photographs, options.files)
        command = [sys.executable, "-m", "grepq_iqa", "score", str(photographs), "--output", str(rows), "--no-cache"]
        started, next_report = time.perf_counter(), 1
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                time.sleep(0.2)
                written = count_lines(rows)
                if written >= next_report * options.files // REPORTS:
                    report(written, started, resident_mib(process.pid))
                    next_report = written * REPORTS // options.files + 1
        written = count_lines(rows)
        print(json.dumps({"rows": written, "exit": process.returncode}))
        assert written == options.files and process.returncode == 1, "every file gets a row; broken ones make it exit 1"


def make_files(photo: Path, folder: Path, count: int) -> None:
    """Hard links to three small files in turn, one of them no image."""
    folder.mkdir()
    original = Image.open(photo).convert("RGB")
    sources = [folder / name for name in ("source-a.png", "source-b.png", "source-c.png")]
    original.resize((128, 128)).save(sources[0])
    original.resize((160, 120)).save(sources[1])
    sources[2].write_bytes(sources[0].read_bytes()[:500])
    for index in range(count):
        source = sources[2] if index % 10 == 9 else sources[index % 3 == 2]
        (folder / f"{index:06d}.png").hardlink_to(source)
    for source in sources:
        source.unlink()


def count_lines(path: Path) -> int:
    """Rows so far; 0 before the first."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def resident_mib(pid: int) -> int | None:
    """Resident memory of a process on Linux, None where it cannot be told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), None)


def report(written: int, started: float, memory: int | None) -> None:
    """One line of the table."""
    print(
        json.dumps({"rows": written, "seconds": round(time.perf_counter() - started), "resident_mib": memory}),
        flush=True,
    )


if __name__ == "__main__":
    main()
