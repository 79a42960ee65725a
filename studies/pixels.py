"""What a picture costs by its size, 0.1 to 100 megapixels: seconds and peak memory, each size in a process of its own.

Run: python studies/pixels.py PHOTO [--max-side 0] [--most 100] [--plot cost.png]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

MEGAPIXELS = (0.1, 0.3, 1, 3, 12, 24, 50, 100)

ONE = """
import json, resource, sys, time
from grepq_iqa import GRepQ
model = GRepQ.from_pretrained(device="cpu", max_side=int(sys.argv[2]) if sys.argv[2] != "default" else None)
model.score(sys.argv[3])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.perf_counter()
score = model.score(sys.argv[1])
print(json.dumps({"seconds": round(time.perf_counter() - started, 2), "extra_mib": round(peak() - before),
                  "score": round(float(score), 4)}))
"""


def main() -> None:
    """Print one JSON line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--max-side", nargs="+", default=["default"], help="0 never shrinks; several are compared")
    parser.add_argument("--most", type=float, default=100, help="megapixels")
    parser.add_argument("--plot", type=Path, help="draw seconds and memory against megapixels")
    options = parser.parse_args()
    curves = {side: measure(options.photo, side, options.most) for side in options.max_side}
    if options.plot:
        plot(curves, options.plot)


def measure(photo: Path, max_side: str, most: float) -> list[dict[str, float]]:
    """One row a size; printed as they come."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        original = Image.open(photo).convert("RGB")
        small = Path(folder) / "small.jpg"
        original.resize((320, 240)).save(small)
        for megapixels in (size for size in MEGAPIXELS if size <= most):
            ratio = (megapixels * 1e6 / (original.width * original.height)) ** 0.5
            size = (round(original.width * ratio), round(original.height * ratio))
            path = Path(folder) / "photo.jpg"
            original.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
            command = [sys.executable, "-c", ONE, str(path), max_side, str(small)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"megapixels": megapixels} | json.loads(done.stdout))
            print(json.dumps({"max_side": max_side} | rows[-1]), flush=True)
    return rows


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Both costs against the number of pixels, on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, key, label in zip(panels, ("seconds", "extra_mib"), ("seconds", "MiB above the model"), strict=True):
        for side, rows in curves.items():
            name = {"default": "shrunk to 1,024 a side (default)", "0": "never shrunk"}.get(side, f"shrunk to {side}")
            panel.loglog([row["megapixels"] for row in rows], [max(row[key], 1e-2) for row in rows], "o-", label=name)
        panel.set(xlabel="megapixels", ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
