"""The picture in docs/explain.md: a photograph with one part distorted, and beside it the map that finds the part.

Run: python studies/map_picture.py examples/photos/osprey.jpg -o docs/map.png [--family jpeg] [--severity 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from grepq_iqa.explain import overlay
from grepq_iqa.explain.quality_map import quality_map
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK
from grepq_iqa.training.data.distortions import distort
from grepq_iqa.training.data.pictures import read_picture

GAP = 12  # pixels between both


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--family", default="gaussian_blur")
    parser.add_argument("--severity", type=float, default=4)
    parser.add_argument(
        "--box", type=float, nargs=4, default=(0.0, 0.5, 1.0, 1.0), help="top, left, bottom, right, as shares"
    )
    options = parser.parse_args()
    picture = read_picture(options.photo)
    height, width = picture.shape[:2]
    top, left, bottom, right = options.box
    box = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
    mixed = picture.copy()
    mixed[box] = distort(picture, options.family, options.severity, np.random.default_rng(0))[box]
    image = Image.fromarray(np.round(mixed * 255).astype(np.uint8))
    drawn = overlay(image, quality_map(mixed))
    canvas = Image.new("RGB", (2 * width + GAP, drawn.height), "white")
    canvas.paste(image, (0, 0))
    canvas.paste(drawn, (width + GAP, 0))
    note = PngInfo()
    note.add_text("Software", MARK)
    with replacing(options.output) as beside:
        canvas.save(beside, "PNG", pnginfo=note, optimize=True)


if __name__ == "__main__":
    main()
