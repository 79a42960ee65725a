"""What a picture costs by its size, 0.1 to 100 megapixels: seconds and peak memory, each size in a process of its own.

Run: python benchmarks/pixels.py PHOTO [--max-side 0]
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
    parser.add_argument("--max-side", default="default", help="0 never shrinks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        original = Image.open(options.photo).convert("RGB")
        small = Path(folder) / "small.jpg"
        original.resize((320, 240)).save(small)
        for megapixels in MEGAPIXELS:
            ratio = (megapixels * 1e6 / (original.width * original.height)) ** 0.5
            size = (round(original.width * ratio), round(original.height * ratio))
            path = Path(folder) / "photo.jpg"
            original.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
            command = [sys.executable, "-c", ONE, str(path), options.max_side, str(small)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(json.dumps({"megapixels": megapixels} | json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
