"""Does Q fall at every step when a clean photograph is distorted more and more?

Each photograph (its central square) is blurred, made noisy, compressed and darkened at the severities of
`grepq_iqa.training.data.distortions`. Printed for every family: the share of photographs whose score falls at every
step, for Q and its two parts, and for every step the share of photographs whose Q falls at it.

Run: python studies/severity_series.py PATHS... [--photographs 40] [--side 512] [--severities 1 2 3 4 5]
[--engine onnx]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from grepq_iqa import GRepQ
from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import load_image
from grepq_iqa.training.data.distortions import SEVERITIES, distort

FAMILIES = ("gaussian_blur", "white_noise", "jpeg", "underexposure")


def main() -> None:
    """Print one JSON line a family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--photographs", type=int, default=40, help="evenly taken from all")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--severities", type=float, nargs="+", default=SEVERITIES, help="rising, at most 5")
    parser.add_argument("--model")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnx"))
    parser.add_argument("--dtype", default="auto", help="float32 or bfloat16 of torch, int8 or float32 of onnx")
    options = parser.parse_args()
    paths = list(iter_image_paths(options.paths))
    paths = paths[:: max(1, len(paths) // options.photographs)][: options.photographs]
    model = GRepQ.from_pretrained(options.model, engine=options.engine, device="cpu", dtype=options.dtype)
    for family in FAMILIES:
        scores = np.array([series(model, path, family, options) for path in paths])
        falls = np.diff(scores, axis=1) < 0
        whole = dict(zip(("Q", "Q_L", "Q_H"), falls.all(axis=1).mean(axis=0).round(3).tolist(), strict=True))
        steps = falls[..., 0].mean(axis=0).round(3).tolist()
        print(json.dumps({"family": family, "photographs": len(paths), **whole, "steps": steps}), flush=True)


def series(model: GRepQ, path: Path, family: str, options: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Q, Q_L and Q_H of the clean square and of its distorted copies, rounded to 8 bits as files are."""
    image, side = load_image(path), options.side
    height, width = image.shape[1:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    clean = image[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous().numpy()
    # one seed for the whole series: noise of severity 5 is noise of severity 1, only stronger
    distorted = (distort(clean, family, severity, np.random.default_rng(0)) for severity in options.severities)
    copies = [clean, *distorted]
    found = [model.score(np.round(copy * 255).astype(np.uint8)) for copy in copies]
    return [(score.score, score.low_level, score.high_level) for score in found]


if __name__ == "__main__":
    main()
