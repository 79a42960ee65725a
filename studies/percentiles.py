"""Example pictures at given percentiles, for docs/number.md: clean photographs, distorted until the score lands there.

    python studies/percentiles.py SIX_CC0_PHOTOGRAPHS -o docs/pictures

What is stated is measured on the very files that are written, with the bundled model in float32. Two series come out:
the first photograph under more and more of one distortion, and each of the others under a distortion of its own.
"""

from __future__ import annotations

import argparse
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from grepq_iqa import GRepQ, __version__
from grepq_iqa.data.images import load_image
from grepq_iqa.results import Score
from grepq_iqa.training.data.distortions import DISTORTIONS, distort

TARGETS = (95, 75, 50, 25, 5)
ONE = "gaussian_blur"
OTHERS = ("low_contrast", "motion_blur", "sensor_noise", "jpeg", "rescale")  # one a target
WIDTH = 480  # pixels: what the page shows without shrinking
QUALITY = 92  # of the JPEG files; part of what is scored
COARSE = np.linspace(0.2, 5, 13)  # severities
HALVINGS = 5  # between the two that enclose the target


def main() -> None:
    """Write the pictures, percentiles.json and percentiles.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs=1 + len(TARGETS), type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    model = GRepQ.from_pretrained(device="cpu", dtype="float32")
    arguments.output.mkdir(parents=True, exist_ok=True)
    series = {
        "one-scene": [(arguments.photographs[0], ONE)] * len(TARGETS),
        "other-scenes": list(zip(arguments.photographs[1:], OTHERS, strict=True)),
    }
    pictures = []
    for kind, chosen in series.items():
        for target, (path, name) in zip(TARGETS, chosen, strict=True):
            severity, score, data = nearest(model, path, name, target)
            file = arguments.output / f"percentile-{target:02d}-{kind}.jpg"
            file.write_bytes(data)
            pictures.append(
                {
                    "file": file.name,
                    "photograph": path.stem,
                    "distortion": DISTORTIONS[name].noun,
                    "severity": round(severity, 2),
                    "target": target,
                    "percentile": round(score.percentile, 1),
                    "score": round(score.score, 3),
                }
            )
            print(json.dumps(pictures[-1]), flush=True)
    record = {"version": __version__, "encoder_hash": model.encoder_hash, "pictures": pictures}
    (arguments.output / "percentiles.json").write_text(json.dumps(record, indent=1) + "\n")
    (arguments.output / "percentiles.md").write_text(as_page(pictures))


@cache
def tried(model: GRepQ, path: Path, name: str, severity: float) -> tuple[float, Score, bytes]:
    """Severity, score and file of a distorted photograph."""
    clean = load_image(path, max_side=WIDTH).permute(1, 2, 0).numpy()
    data = as_jpeg(distort(clean, name, severity, np.random.default_rng(0)))
    return severity, model.score(data), data


def nearest(model: GRepQ, path: Path, name: str, target: float) -> tuple[float, Score, bytes]:
    """The severity whose picture comes nearest to the percentile ``target``."""
    ones = [tried(model, path, name, float(severity)) for severity in COARSE]
    at = next((i for i, one in enumerate(ones) if one[1].percentile < target), len(ones) - 1)
    low, high = (float(COARSE[at - 1]) if at else 0.01), float(COARSE[at])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        ones.append(tried(model, path, name, middle))
        low, high = (middle, high) if ones[-1][1].percentile > target else (low, middle)
    return min(ones, key=lambda one: abs(one[1].percentile - target))


def as_jpeg(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.uint8(np.round(picture * 255))).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def as_page(pictures: list[dict]) -> str:
    """The table of docs/number.md: a row for each target, both series beside each other."""
    lines = ["| one scene, more and more of one distortion | other scenes, a distortion each |", "|---|---|"]
    for target in TARGETS:
        cells = [
            f"![percentile {p['percentile']:.0f}: {p['distortion']}](pictures/{p['file']}) "
            f"**{p['percentile']:.0f}** (score {p['score']:.3f}): {p['distortion']}, severity {p['severity']:.1f}"
            for p in pictures
            if p["target"] == target
        ]
        lines.append(f"| {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
