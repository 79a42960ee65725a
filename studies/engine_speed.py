"""Time and memory of the engines, each measured in a process of its own; `studies/speed.py` prints them with the rest.

Run: python studies/engine_speed.py FOLDER [--images 60] [--threads 1 2] [--megapixels 1 4 16 50 100]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ENGINES = {
    "torch bfloat16": ("torch", "bfloat16"),
    "torch float32": ("torch", "float32"),
    "onnx int8": ("onnx", "int8"),
}
STARTS = 3
"""Runs of the program on one picture; the median is reported."""

MANY = """
import json, resource, sys, time
from grepq_iqa import devices
engine, dtype, threads, *paths = sys.argv[1:]
devices.set_threads(int(threads))
from grepq_iqa.batch import score_paths
from grepq_iqa.model import GRepQ
model = GRepQ.from_pretrained(engine=engine, dtype=dtype, device="cpu")
list(score_paths(model, paths[:2]))
wall, cpu = time.perf_counter(), time.process_time()
list(score_paths(model, paths))
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({
    "pictures_a_second": round(len(paths) / wall, 2),
    "cpu_ms_a_picture": round(1000 * cpu / len(paths), 1),
    "max_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
"""

CLIP = """
import json, resource, sys, time
import open_clip, torch
torch.set_num_threads(int(sys.argv[1]))
tower = open_clip.create_model("RN50", pretrained=None).visual.eval()
from grepq_iqa.encoders.clip_resnet import MeanTokenAttentionPool
pool = tower.attnpool
plain = MeanTokenAttentionPool(pool.k_proj.in_features, pool.num_heads, pool.c_proj.out_features)
tower.attnpool = plain  # without positional embedding, for any size, as CLIP-IQA has it
image = torch.rand(1, 3, 512, 512)
with torch.inference_mode():
    tower(image)
    wall = time.perf_counter()
    for _ in range(5):
        tower(image)
    wall = (time.perf_counter() - wall) / 5
print(json.dumps({
    "pictures_a_second": round(1 / wall, 2),
    "max_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
"""


def in_process(code: str, *arguments: object) -> dict[str, float]:
    """What a program prints as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def one_picture(path: Path, *options: str) -> dict[str, float]:
    """Median wall time of the whole program on one picture, from start to exit, and the most memory of a run."""
    walls, memory = [], []
    for _ in range(STARTS):
        started = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "grepq_iqa", "score", str(path), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        walls.append(time.perf_counter() - started)
        memory.append(usage.ru_maxrss / 1024)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, child.args
    return {"seconds": round(statistics.median(walls), 2), "max_rss_mb": round(max(memory))}


def import_seconds(module: str) -> float:
    """Median wall time of a process that imports one module, less that of one which imports nothing."""

    def run(code: str) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    return round(run(f"import {module}") - run("pass"), 2)


def curve(megapixels: list[float]) -> list[dict[str, float]]:
    """One picture of many pixels by the program, at the model's own limit of 1024 a side."""
    from PIL import Image

    found = []
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels:
            width = round((size * 1e6 * 3 / 2) ** 0.5)
            coarse = Image.fromarray(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8))
            path = Path(folder) / f"{size:g}.jpg"
            coarse.resize((width, width * 2 // 3)).save(path, quality=90)
            found.append({"megapixels": size, **one_picture(path, "--engine", "onnx")})
    return found


def measure(paths: list[Path], threads: list[int], megapixels: list[float]) -> dict[str, object]:
    """Everything, as one JSON-ready object."""
    import importlib.metadata as metadata

    return {
        "versions": {name: metadata.version(name) for name in ("torch", "onnxruntime")},
        "import_seconds": {name: import_seconds(name) for name in ("numpy", "onnxruntime", "torch")},
        "one_picture": {
            name: one_picture(paths[0], "--engine", engine, "--dtype", dtype)
            for name, (engine, dtype) in ENGINES.items()
        },
        "many_pictures": {
            f"{name}, {count} threads": in_process(MANY, engine, dtype, count, *paths)
            for count in threads
            for name, (engine, dtype) in ENGINES.items()
        },
        "clip_rn50_of_open_clip": {f"{count} threads": in_process(CLIP, count) for count in threads},
        "curve": curve(megapixels),
    }


def main() -> None:
    """Print the measurements as JSON."""
    from grepq_iqa.data.image_paths import iter_image_paths

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--megapixels", type=float, nargs="*", default=[1, 4, 16, 50, 100])
    options = parser.parse_args()
    paths = list(iter_image_paths([options.folder]))[: options.images]
    print(json.dumps(measure(paths, options.threads, options.megapixels), indent=2))


if __name__ == "__main__":
    main()
