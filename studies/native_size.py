"""What `explain` says of large photographs, and what it costs: their own pixels are judged, too.

For every photograph of at least 12 megapixels: the reasons named as it is, then after a Gaussian blur of 4 pixels at
its own size, which a screen does not show, then with noise of 20 levels, then saved as a JPEG of quality 15. Seconds
are those of `explain` beyond those of `score`, on one thread.

Run: python studies/native_size.py DIR... [--photographs 12] [--most-megapixels 24]
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections import Counter

import numpy as np
from PIL import Image, ImageFilter

from grepq_iqa import GRepQ
from grepq_iqa.cli.options import set_threads
from grepq_iqa.data.image_paths import iter_image_paths

LEAST = 12e6
BLUR, NOISE, QUALITY = 4, 20, 15


def main() -> None:
    """Print one JSON line a treatment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--photographs", type=int, default=12)
    parser.add_argument("--most-megapixels", type=float, default=24)
    options = parser.parse_args()
    set_threads(1)
    model = GRepQ.from_pretrained(device="cpu")
    found: dict[str, list[tuple[str, ...]]] = {}
    extra = []
    seen = 0
    for path in iter_image_paths(options.paths):
        with Image.open(path) as opened:
            if opened.width * opened.height < LEAST or seen == options.photographs:
                continue
            image = opened.convert("RGB")
        seen += 1
        shrink = (options.most_megapixels * 1e6 / (image.width * image.height)) ** 0.5
        if shrink < 1:
            image = image.resize((int(image.width * shrink), int(image.height * shrink)), Image.Resampling.LANCZOS)
        for name, treated in treatments(image).items():
            with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
                file.write(treated)
                file.flush()
                started = time.perf_counter()
                model.score(file.name)
                scored = time.perf_counter()
                explanation = model.explain(file.name)
                extra.append(time.perf_counter() - scored - (scored - started))
            names = tuple(
                reason.name + (" at 100 %" if "at 100 %" in reason.sentence else "") for reason in explanation.reasons
            )
            found.setdefault(name, []).append(names)
    for name, rows in found.items():
        counts = Counter(reason for names in rows for reason in names)
        line = {"treatment": name, "photographs": len(rows), "nothing_named": sum(not names for names in rows)}
        print(json.dumps(line | {"named": dict(counts.most_common())}))
    print(json.dumps({"extra_seconds_median": round(float(np.median(extra)), 2), "most": round(max(extra), 2)}))


def treatments(image: Image.Image) -> dict[str, bytes]:
    """Files by what was done to the picture at its own size."""
    values = np.asarray(image, dtype=np.float32)
    noisy = values + NOISE * np.random.default_rng(0).standard_normal(values.shape, dtype=np.float32)
    done = {
        "as it is": (image, 92),
        "blurred": (image.filter(ImageFilter.GaussianBlur(BLUR)), 92),
        "noisy": (Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8)), 95),
        "compressed": (image, QUALITY),
    }
    files = {}
    for name, (picture, quality) in done.items():
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        files[name] = buffer.getvalue()
    return files


if __name__ == "__main__":
    main()
