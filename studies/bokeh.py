"""Is a blurred background told from a blurred picture?

Clean photographs (shrunk to 60 %) are blurred as a whole, and only outside of an ellipse in the middle, or of one in a
corner, whose border is soft: shallow depth of field. Printed for every strength: by how much Q falls in the median, and
in which share of photographs the background costs less than half of what the whole costs.

Run: python studies/bokeh.py PATHS... [--held-out studies/reasons_held_out.txt] [--photographs 60] [--model NAME]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from held_out import photographs_of
from scipy import ndimage

from grepq_iqa import GRepQ
from grepq_iqa.training.data.pictures import clean_start

SIGMAS = (2, 4, 8)
CENTERS = {"middle": (0.5, 0.5), "corner": (0.65, 0.3)}
RADIUS, SOFT, SHRINK = 0.28, 0.05, 0.6


def main() -> None:
    """Print one JSON line a strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--held-out", type=Path, help="SHA-256 of the photographs to take, one a line")
    parser.add_argument("--photographs", type=int, default=60)
    parser.add_argument("--model")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnx"))
    options = parser.parse_args()
    paths = photographs_of(options.paths, options.held_out)
    model = GRepQ.from_pretrained(options.model, engine=options.engine, device="cpu")
    falls: dict[tuple[float, str], list[float]] = {}
    for path in paths[: options.photographs]:
        clean = clean_start(path, SHRINK)
        start = score(model, clean)
        for sigma in SIGMAS:
            blurred = ndimage.gaussian_filter(clean, (sigma, sigma, 0))
            falls.setdefault((sigma, "whole"), []).append(start - score(model, blurred))
            for name, center in CENTERS.items():
                inside = ellipse(clean.shape[:2], center)[..., None]
                falls.setdefault((sigma, name), []).append(
                    start - score(model, inside * clean + (1 - inside) * blurred)
                )
    for sigma in SIGMAS:
        whole = np.array(falls[sigma, "whole"])
        line: dict[str, object] = {
            "sigma": sigma,
            "photographs": len(whole),
            "whole": round(float(np.median(whole)), 3),
        }
        for name in CENTERS:
            ground = np.array(falls[sigma, name])
            line[name] = round(float(np.median(ground)), 3)
            line[f"{name}_less_than_half"] = round(float((ground < whole / 2).mean()), 3)
        print(json.dumps(line), flush=True)


def ellipse(size: tuple[int, int], center: tuple[float, float]) -> np.ndarray:
    """1 inside, 0 outside, ``size``."""
    rows, columns = (np.arange(length) / length for length in size)
    distance = np.hypot((rows - center[0])[:, None], columns - center[1])
    mask: np.ndarray = 1 / (1 + np.exp((distance - RADIUS) / SOFT * 4))
    return mask.astype(np.float32)


def score(model: GRepQ, picture: np.ndarray) -> float:
    """Q of a picture in 8 bits."""
    return model.score(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)).score


if __name__ == "__main__":
    main()
