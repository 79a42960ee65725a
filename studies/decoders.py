"""The pixels that `load_image` gives against those of two independent decoders, over folders of odd pictures.

libvips reads most formats by the same libraries as Pillow (libjpeg, libpng, libtiff) but handles orientation, profiles,
transparency, depth and pages by code of its own. What it refuses or shows otherwise is given to ImageMagick. Two
pictures agree when their sizes are equal and the mean difference is under two levels of 255.

Over the test pictures in the source packages of Pillow 13.0.0 (Tests/images), pillow-heif 1.8.1 and Wand 0.7.2, and
some 90 of our own (1,186 files): of 1,115 read here and by another, 77.5 % as by libvips 8.18, and 96.2 % as by
libvips or ImageMagick 6.9; docs/files.md says what the other 42 are.

Run: python studies/decoders.py FOLDER...   (needs pyvips[binary], and ImageMagick's `convert` in PATH)
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image, ImageCms

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import decode_image
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


def by_magick(path: Path, srgb: str) -> list[np.ndarray]:
    """The first picture, upright on white, by ImageMagick: as it takes the colors, and through an embedded profile."""
    found = []
    for options in ((), ("-profile", srgb)):
        command = ["convert", f"{path}[0]", "-auto-orient", *options, "-colorspace", "sRGB", "-background", "white"]
        command += ["-flatten", "-depth", "8", "ppm:-"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if done.stdout.startswith(b"P"):
            picture = Image.open(io.BytesIO(done.stdout)).convert("RGB")
            found.append(np.asarray(picture).astype(np.float32) / 255)
    return found


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean, in [0, 1]; 1 where the sizes are not equal."""
    return float(np.abs(ours - theirs).mean()) if ours.shape == theirs.shape else 1.0


def compare(path: Path, srgb: str) -> tuple[str, str]:
    """A verdict of one word, and what there is to say about it."""
    ours, words = None, ""
    try:
        decoded = decode_image(path, max_pixels=MOST_PIXELS)
        ours, words = decoded.pixels.permute(1, 2, 0).numpy(), "; ".join(decoded.warnings)
    except ImageError as error:
        words = error.reason
    try:
        theirs = [by_vips(path)]
    except pyvips.Error:
        theirs = []
    if ours is not None and theirs and difference(ours, theirs[0]) < AGREE:
        return "libvips", ""
    others = by_magick(path, srgb)
    if ours is None:
        return ("both-refuse" if not theirs and not others else "we-refuse"), words
    if any(difference(ours, other) < AGREE for other in others):
        return "ImageMagick", ""
    if not theirs and not others:
        return "only-we-read", words
    levels = [f"{255 * difference(ours, one):.1f}" for one in (*theirs, *others)]
    return "differ", f"by {' and '.join(levels)} of 255; {words}"


def main() -> None:
    """Print what does not agree, and the share of files that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--quiet", action="store_true", help="the figures only")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    with tempfile.NamedTemporaryFile(suffix=".icc") as file:
        file.write(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        file.flush()
        for path in iter_image_paths(options.folders):
            verdict, words = compare(path, file.name)
            counts[verdict] += 1
            kinds.setdefault(path.suffix.lower(), Counter())[verdict] += 1
            if verdict not in ("libvips", "ImageMagick") and not options.quiet:
                print(f"{verdict:13s} {path}: {words}", flush=True)
    if not counts:
        sys.exit("no pictures found")
    for ending, found in sorted(kinds.items()):
        print(f"{ending:6s} " + ", ".join(f"{count} {verdict}" for verdict, count in found.most_common()))
    agree = counts["libvips"] + counts["ImageMagick"]
    both = agree + counts["differ"]
    print(
        f"{both} files are read here and by another: {counts['libvips'] / max(1, both):.1%} as by libvips, "
        f"{agree / max(1, both):.1%} as by libvips or ImageMagick; {dict(counts)}"
    )


if __name__ == "__main__":
    main()
