"""How fast the bundled model scores, as ratios measured in one run.

1. against a straight transcription of docs/method.md with the same weights: float32, every 96-pixel patch encoded by
   itself and all at once, pristine statistics computed again from 2,000 patches at the start;
2. against BRISQUE and NIQE, each on one picture after the other, where they are installed
   (`pip install ".[baselines]"`);
3. against the two towers alone, fed from memory (what decoding, statistics and bookkeeping cost);
4. arithmetic achieved over the measured peak of a matrix product in the same number format;
5. the engines against each other and CLIP-IQA's tower, with the program's start and memory (`studies/engine_speed.py`).

Run: python studies/speed.py FOLDER [--images 200] [--dtype auto] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from engine_speed import measure

from grepq_iqa import GRepQ
from grepq_iqa.batch import score_paths
from grepq_iqa.benchmark.baselines import load_baseline
from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import load_image
from grepq_iqa.data.patches import iter_patches
from grepq_iqa.devices import autocast
from grepq_iqa.errors import GrepqError
from grepq_iqa.weights import resolve
from grepq_iqa.weights.loading import ModelComponents, load_components

BASELINES = ("brisque", "niqe")
FEW = 20
"""Pictures that time the slow ones, whose mean is steady long before 200."""


def transcription(parts: ModelComponents, image: torch.Tensor) -> float:
    """Q as docs/method.md section 2 reads, with nothing shared between its two parts."""
    patches = torch.cat(list(iter_patches(image, 96, 48, 1 << 30)))
    f = parts.low_level(patches).double().numpy()
    parts.low_level(image[None])  # the whole image, for the features
    delta = parts.pristine_mean - f.mean(0)
    pooled = (parts.pristine_covariance + np.cov(f.T)) / 2 + 0.001 * np.eye(128)
    q_low = 1 - 1 / (1 + np.exp(-np.sqrt(delta @ np.linalg.inv(pooled) @ delta) / 100))
    embedding = parts.high_level(image[None]).embedding[0].double().numpy()
    cosines = [embedding @ parts.prompts[k] / np.linalg.norm(embedding) for k in ("good", "bad")]
    return q_low + 1 / (1 + np.exp(-10 * (cosines[0] - cosines[1])))


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def matmul_peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large product, best of five."""
    a = torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5))


def count_flops(parts: ModelComponents, image: torch.Tensor) -> int:
    """Floating-point operations of both towers on one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        parts.low_level.trunk(image[None])
        parts.high_level(image[None])
    return counter.get_total_flops()


def time_baselines(images: list[torch.Tensor]) -> dict[str, float | str]:
    """Seconds a picture of each older method, or what to install for it."""
    found: dict[str, float | str] = {}
    pixels = [(image * 255).round().byte().permute(1, 2, 0).contiguous().numpy() for image in images]
    for name in BASELINES:
        try:
            method = load_baseline(name)
        except GrepqError as error:
            found[name] = str(error)
            continue
        method(pixels[0])  # warm
        found[name] = round(seconds(lambda m=method: [m(p) for p in pixels]) / len(pixels), 4)
    return found


@torch.no_grad()
def main() -> None:
    """Print the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the engines' part")
    options = parser.parse_args()
    paths = list(iter_image_paths([options.folder]))[: options.images]
    loading = time.perf_counter()
    model = GRepQ.from_pretrained(device="cpu", dtype=options.dtype)
    loading = time.perf_counter() - loading
    list(score_paths(model, paths[:2]))  # warm

    ours = seconds(lambda: list(score_paths(model, paths))) / len(paths)
    images = [load_image(path, max_side=model.max_side) for path in paths]
    layout = [image[None].contiguous(memory_format=torch.channels_last) for image in images]
    parts = model._components

    def feed_towers() -> None:
        for x in layout:
            with autocast(model.device, model.dtype):
                parts.low_level.trunk(x)
                parts.high_level(x)

    towers = seconds(feed_towers) / len(paths)
    bundled = resolve(None)
    plain = load_components(bundled.name, bundled.files)  # as it was trained: nothing folded, float32
    few = images[:FEW]
    transcription(plain, few[0])  # warm
    straight = seconds(lambda: [transcription(plain, image) for image in few]) / len(few)
    start = seconds(lambda: [plain.low_level(torch.rand(100, 3, 96, 96)) for _ in range(20)])
    straight += start / len(paths)
    peak = matmul_peak(model.dtype)
    flops = count_flops(plain, images[0])
    report = {
        "images": len(paths),
        "size": list(images[0].shape[1:]),
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "load_seconds": round(loading, 3),
        "seconds_a_picture": round(ours, 4),
        "transcription_seconds_a_picture": round(straight, 4),
        "times_faster_than_transcription": round(straight / ours, 2),
        "baselines_seconds_a_picture": time_baselines(few),
        "towers_alone_seconds_a_picture": round(towers, 4),
        "share_of_towers_alone": round(towers / ours, 3),
        "gflop_a_picture": round(flops / 1e9, 2),
        "matmul_peak_gflops": round(peak / 1e9, 1),
        "share_of_matmul_peak_in_towers": round(flops / towers / peak, 3),
    }
    report["engines"] = measure(paths, options.threads, [1, 4, 16, 50, 100])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
