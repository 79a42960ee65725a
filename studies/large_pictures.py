"""Does damage at a large picture's own pixels cost score, though a screen hides it, and what does looking there cost?

Every photograph of at least --least megapixels is saved as it is (JPEG, quality 97), after a Gaussian blur of 2 pixels,
with noise of 10 levels, and at quality 30, all at its own size. Printed: the share whose Q falls, and by how much in
the median; then seconds of CPU a file on one thread, of this model and of --against on the same files.

Run: python studies/large_pictures.py DIR... [--least 6] [--model NAME] [--against compact@0.1] [--engine torch]
"""

from __future__ import annotations

import argparse
import io
import json
import time

import numpy as np
from PIL import Image, ImageFilter

from grepq_iqa import GRepQ
from grepq_iqa.cli.options import set_threads
from grepq_iqa.data.image_paths import iter_image_paths

BLUR, NOISE, QUALITY, CLEAN_QUALITY = 2, 10, 30, 97


def main() -> None:
    """Print one JSON line a treatment, then one of time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--least", type=float, default=6, help="megapixels")
    parser.add_argument("--model")
    parser.add_argument("--against", default="compact@0.1")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnx"))
    options = parser.parse_args()
    set_threads(1)
    models = [
        GRepQ.from_pretrained(name, engine=engine, device="cpu")
        for name, engine in ((options.model, options.engine), (options.against, "torch"))
    ]
    rows: list[list[list[float]]] = []
    seconds: list[list[float]] = []
    for path in iter_image_paths(options.paths):
        with Image.open(path) as opened:
            if opened.width * opened.height < options.least * 1e6:
                continue
            image = opened.convert("RGB")
        files = treated(image)
        rows.append([])
        seconds.append([])
        for model in models:
            started = time.process_time()
            rows[-1].append([model.score(data).score for data in files.values()])
            seconds[-1].append((time.process_time() - started) / len(files))
    scores = np.array(rows)
    for index, name in enumerate(list(files)[1:], start=1):
        fall = scores[:, :, 0] - scores[:, :, index]
        line = {"treatment": name, "photographs": len(rows), "falls": (fall > 0).mean(0).round(3).tolist()}
        print(json.dumps(line | {"median_fall": np.median(fall, axis=0).round(3).tolist()}))
    cost = np.median(np.array(seconds), axis=0)
    print(json.dumps({"seconds": cost.round(3).tolist(), "ratio": round(float(cost[0] / cost[1]), 2)}))


def treated(image: Image.Image) -> dict[str, bytes]:
    """Files by what was done to the picture."""
    values = np.asarray(image, dtype=np.float32)
    noisy = values + NOISE * np.random.default_rng(0).standard_normal(values.shape, dtype=np.float32)
    done = {
        "as it is": (image, CLEAN_QUALITY),
        f"blur {BLUR}": (image.filter(ImageFilter.GaussianBlur(BLUR)), CLEAN_QUALITY),
        f"noise {NOISE}": (Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8)), CLEAN_QUALITY),
        f"quality {QUALITY}": (image, QUALITY),
    }
    files = {}
    for name, (picture, quality) in done.items():
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        files[name] = stream.getvalue()
    return files


if __name__ == "__main__":
    main()
