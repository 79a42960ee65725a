"""The pixels that `load_image` gives against those of libvips, an independent decoder, over folders of pictures.

libvips reads most formats by the same libraries as Pillow (libjpeg, libpng, libtiff) but handles orientation, profiles,
transparency, depth and pages by code of its own. Two pictures agree when their sizes are equal and the mean difference
is under two levels of 255; what one of them refuses is counted apart.

Run: python studies/decoders.py FOLDER...   (needs pyvips[binary])
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyvips

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import load_image
from grepq_iqa.errors import ImageError

AGREE = 2 / 255
MOST_PIXELS = 40_000_000


def by_vips(path: Path) -> np.ndarray:
    """Upright sRGB on white, (H, W, 3) in [0, 1], by libvips alone."""
    image = pyvips.Image.new_from_file(str(path), access="random", fail_on="truncated")
    image = image.autorot()
    if image.get_typeof("icc-profile-data"):
        try:
            image = image.icc_transform("srgb")
        except pyvips.Error:  # an unusable profile is ignored here too
            image = image.colourspace("srgb")
    else:
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    if image.bands < 3:
        image = image.extract_band(0).bandjoin([image.extract_band(0), image.extract_band(0)])
    return image.extract_band(0, n=3).cast("uchar").numpy().astype(np.float32) / 255


def compare(path: Path) -> tuple[str, str]:
    """A verdict of one word, and what there is to say about it."""
    try:
        ours = load_image(path, max_pixels=MOST_PIXELS).permute(1, 2, 0).numpy()
    except ImageError as error:
        ours, refusal = None, error.reason
    try:
        theirs = by_vips(path)
    except pyvips.Error as error:
        return ("both-refuse", "") if ours is None else ("vips-refuses", str(error).splitlines()[-1])
    if ours is None:
        return "we-refuse", refusal
    if ours.shape != theirs.shape:
        return "differ", f"{ours.shape[1::-1]} here, {theirs.shape[1::-1]} by libvips"
    difference = float(np.abs(ours - theirs).mean())
    return ("agree" if difference < AGREE else "differ"), f"by {255 * difference:.1f} of 255"


def main() -> None:
    """Print what does not agree, and the share of files that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--quiet", action="store_true", help="the figures only")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    for path in iter_image_paths(options.folders):
        verdict, words = compare(path)
        counts[verdict] += 1
        kinds.setdefault(path.suffix.lower(), Counter())[verdict] += 1
        if verdict != "agree" and not options.quiet:
            print(f"{verdict:13s} {path}: {words}", flush=True)
    if not counts:
        sys.exit("no pictures found")
    for ending, found in sorted(kinds.items()):
        print(f"{ending:6s} " + ", ".join(f"{count} {verdict}" for verdict, count in found.most_common()))
    both = counts["agree"] + counts["differ"]
    print(f"{both} files are read by both, and {counts['agree'] / max(1, both):.2%} of them agree; {dict(counts)}")


if __name__ == "__main__":
    main()
