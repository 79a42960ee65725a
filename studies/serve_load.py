"""Does a server keep up with the command line? The same files through both in one run, and memory watched.

Files are made from photographs: JPEGs from 96 pixels to 24 megapixels. Requests carry one picture each, so many at
once; every answer must be 200 with a score. Then `grepq score` reads the same list of files.

Run: python studies/serve_load.py PHOTO... [--requests 2000] [--at-once 32] [--large 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

SIZES = ((96, 96), (128, 128), (160, 120), (224, 224), (320, 240), (400, 300), (512, 384), (640, 480))
MEDIUM, LARGE = (1600, 1200), (6000, 4000)
WARM_UP = 64  # requests before the first reading of memory, and behind them one of every size
SERVER = [sys.executable, "-m", "grepq_iqa", "serve", "--port", "0"]


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--medium", type=int, default=60, help="requests with a picture of 2 megapixels")
    parser.add_argument("--large", type=int, default=20, help="requests with a picture of 24 megapixels")
    parser.add_argument("--batch-requests", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(options.photos, Path(folder), options)
        more = ["--batch-requests"] if options.batch_requests else []
        result = asyncio.run(through_server(files, options.at_once, [*SERVER, *more], folder))
        seconds = by_command_line(files, Path(folder))
    print(
        json.dumps(
            {
                "requests": len(files),
                "at_once": options.at_once,
                "large": options.large,
                "medium": options.medium,
                **result,
                "command_line_seconds": round(seconds["scoring"], 1),
                "command_line_total_seconds": round(seconds["total"], 1),
                "command_line_cpu_seconds": round(seconds["cpu"], 1),
                "cpu_ratio": round(seconds["cpu"] / result["server_cpu_seconds"], 3),
                "throughput_ratio": round(seconds["scoring"] / result["server_seconds"], 3),
            },
            indent=1,
        )
    )


def make_files(photos: list[Path], folder: Path, options: argparse.Namespace) -> list[Path]:
    """As many names as requests, in a random order; those of one size and photograph share a file."""
    rng = random.Random(0)
    sizes = [MEDIUM] * options.medium + [LARGE] * options.large
    sizes += [rng.choice(SIZES) for _ in range(options.requests - len(sizes))]
    rng.shuffle(sizes)
    files = []
    for i, size in enumerate(sizes):
        source = photos[i % len(photos)]
        original = folder / f"source-{source.stem}-{size[0]}.jpg"
        if not original.exists():
            Image.open(source).convert("RGB").resize(size, Image.Resampling.LANCZOS).save(original, quality=88)
        files.append(folder / f"{i:05d}.jpg")
        files[-1].hardlink_to(original)
    return files


async def through_server(files: list[Path], at_once: int, command: list[str], folder: str) -> dict[str, object]:
    """Seconds, latencies in milliseconds, resident MiB after the warm-up and at the end."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    port = next(int(found[1]) for line in process.stderr if (found := re.search(r"open http://[^:]+:(\d+)/", line)))
    try:
        every_size = {file.stat().st_ino: file for file in files}
        await send_all([*files[:WARM_UP], *every_size.values()], at_once, port)
        before, spent = resident_mib(process.pid), cpu_seconds(process.pid)
        started = time.perf_counter()
        latencies = sorted(await send_all(files, at_once, port))
        seconds = time.perf_counter() - started
        after, spent = resident_mib(process.pid), cpu_seconds(process.pid) - spent
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    return {
        "errors": 0,
        "server_seconds": round(seconds, 1),
        "server_cpu_seconds": round(spent, 1),
        "p50_ms": round(1000 * latencies[len(latencies) // 2]),
        "p95_ms": round(1000 * latencies[int(0.95 * len(latencies))]),
        "resident_mib_after_warm_up": before,
        "resident_mib_at_the_end": after,
        "exit": status,
    }


async def send_all(files: list[Path], at_once: int, port: int) -> list[float]:
    """Seconds of each request."""
    remaining, latencies = iter(files), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for file in remaining:
            body = file.read_bytes()
            started = time.perf_counter()
            writer.write(
                f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(re.search(r"content-length: (\d+)", head)[1])
            answer = json.loads(await reader.readexactly(length))
            assert head.startswith("HTTP/1.1 200") and answer["rows"][0]["error"] is None, (file, head, answer)
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*[client() for _ in range(at_once)])
    return latencies


def by_command_line(files: list[Path], folder: Path) -> dict[str, float]:
    """Seconds of `grepq score` on the list: in all, and from its first row to its last, without the start."""
    command = [sys.executable, "-m", "grepq_iqa", "score", "-", "--format", "jsonl", "--no-cache"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        process.stdin.write("\n".join(map(os.fspath, files)))
        process.stdin.close()
        first = spent = scoring = 0.0
        rows = 0
        for _ in process.stdout:
            rows += 1
            if rows == 1:
                first, spent = time.perf_counter(), cpu_seconds(process.pid)
            elif rows == len(files):
                scoring, spent = time.perf_counter() - first, cpu_seconds(process.pid) - spent
    assert rows == len(files)
    return {"total": time.perf_counter() - started, "scoring": scoring, "cpu": spent}


def cpu_seconds(pid: int) -> float:
    """Spent by a process so far, in all its threads: does not care who else uses the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> int:
    """Resident memory of a process on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
