"""Does Q fall at every step when a clean photograph is distorted more and more?

Each photograph (its central square) is blurred, made noisy, compressed and darkened at the severities of
`grepq_iqa.training.data.distortions`. Printed for every family: the share of photographs whose score falls at every
step, for Q and its two parts, and for every step the share of photographs whose Q falls at it.

With --mild, levels are those that a person hardly sees at first: JPEG quality 90, 85, 70, 50, 30, noise of sigma 2, 4,
8, 16, 32 levels, a Gaussian of .4, .8, 1.5, 3, 5 pixels; and photographs are shrunk to 60 % before, because they are
JPEG files of quality 95 themselves.

Run: python studies/severity_series.py PATHS... [--photographs 40] [--side 512] [--severities 1 2 3 4 5 | --mild]
[--held-out studies/reasons_held_out.txt] [--engine onnx]
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from held_out import photographs_of
from PIL import Image
from scipy import ndimage

from grepq_iqa import GRepQ
from grepq_iqa.data.images import load_image
from grepq_iqa.training.data.distortions import SEVERITIES, Picture, distort
from grepq_iqa.training.data.pictures import clean_start

FAMILIES = ("gaussian_blur", "white_noise", "jpeg", "underexposure")
MILD = {"jpeg": (90, 85, 70, 50, 30), "noise": (2, 4, 8, 16, 32), "blur": (0.4, 0.8, 1.5, 3, 5)}
SHRINK = 0.6


def main() -> None:
    """Print one JSON line a family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--photographs", type=int, default=40, help="evenly taken from all")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--severities", type=float, nargs="+", default=SEVERITIES, help="rising, at most 5")
    parser.add_argument("--mild", action="store_true", help="mild levels, see above")
    parser.add_argument("--held-out", type=Path, help="SHA-256 of the photographs to take, one a line")
    parser.add_argument("--model")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnx"))
    parser.add_argument("--dtype", default="auto", help="float32 or bfloat16 of torch, int8 or float32 of onnx")
    options = parser.parse_args()
    paths = photographs_of(options.paths, options.held_out)
    paths = paths[:: max(1, len(paths) // options.photographs)][: options.photographs]
    model = GRepQ.from_pretrained(options.model, engine=options.engine, device="cpu", dtype=options.dtype)
    for family in MILD if options.mild else FAMILIES:
        scores = np.array([series(model, path, family, options) for path in paths])
        falls = np.diff(scores, axis=1) < 0
        whole = dict(zip(("Q", "Q_L", "Q_H"), falls.all(axis=1).mean(axis=0).round(3).tolist(), strict=True))
        steps = falls[..., 0].mean(axis=0).round(3).tolist()
        print(json.dumps({"family": family, "photographs": len(paths), **whole, "steps": steps}), flush=True)


def series(model: GRepQ, path: Path, family: str, options: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Q, Q_L and Q_H of the clean square and of its distorted copies, rounded to 8 bits as files are."""
    side = options.side
    image = clean_start(path, SHRINK) if options.mild else load_image(path).permute(1, 2, 0).numpy()
    height, width = image.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    clean = np.ascontiguousarray(image[top : top + side, left : left + side])
    # one seed for the whole series: noise of severity 5 is noise of severity 1, only stronger
    if options.mild:
        copies = [clean, *(mildly(clean, family, level) for level in MILD[family])]
    else:
        distorted = (distort(clean, family, severity, np.random.default_rng(0)) for severity in options.severities)
        copies = [clean, *distorted]
    found = [model.score(np.round(copy * 255).astype(np.uint8)) for copy in copies]
    return [(score.score, score.low_level, score.high_level) for score in found]


def mildly(clean: Picture, family: str, level: float) -> Picture:
    """A copy with blur of ``level`` pixels, noise of so many 8-bit levels, or of that JPEG quality."""
    if family == "blur":
        return ndimage.gaussian_filter(clean, (level, level, 0))
    if family == "noise":
        noise = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
        return np.clip(clean + noise * np.float32(level / 255), 0, 1)
    stream = io.BytesIO()
    Image.fromarray(np.round(clean * 255).astype(np.uint8)).save(stream, "JPEG", quality=int(level))
    return np.asarray(Image.open(stream), dtype=np.float32) / np.float32(255)


if __name__ == "__main__":
    main()
