"""Make the labeled example photographs: forty CC0 scenes, each damaged in one known way, and `labels.csv`.

A scene is shrunk, distorted by one of eight families of `grepq_iqa.training.data.distortions` (or left alone), and
saved as a JPEG of less than 60 kB. Its label is no person's: it is FSIM-c (Zhang et al., IEEE TIP 2011) of the saved
file against the shrunk scene, from 0.65 (1) to 1 (5). Equal packages give equal files.

The scenes come from three packages, unpacked side by side:

    apt-get download budgie-backgrounds endless-sky-data          # Debian sid; CC0-1.0
    for p in budgie-backgrounds endless-sky-data; do dpkg-deb -x ${p}_*.deb sources/$p; done
    pip download --no-deps --python-version 37 --only-binary :all: scikit-image==0.17.2
    unzip scikit_image-0.17.2*.whl 'skimage/data/*' -d sources/scikit-image
    pip install -e ".[formats,train]"
    python examples/make_photos.py sources
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grepq_iqa import load_image
from grepq_iqa.training.data.distortions import distort
from grepq_iqa.training.similarity.fsim import fsim_matrix

HERE = Path(__file__).parent
SCENES = HERE / "scenes.csv"
"""Name, package, file in it, author, origin. Their order decides who is distorted how."""
FAMILIES = (
    "gaussian_blur", "motion_blur", "white_noise", "sensor_noise", "jpeg", "jpeg2000", "rescale", "smear",
)  # fmt: skip
"""What FSIM sees; color and exposure hardly move it, so labels by it would be wrong there."""
LEVELS = (0, 1, 2, 3, 4)  # severities, 0 for a scene left alone; 5 ruins pictures as small as these
BOX = (448, 288)  # pixels, at most
MOST_BYTES = 60_000
JPEG_QUALITIES = (95, 92, 90, 88, 85, 82)  # of the saved file: the first that is small enough
LOWEST_FSIM = 0.65  # a label of 1, for what is worse as well


def shrunk(path: Path) -> Image.Image:
    """The scene at the size of the examples."""
    pixels = load_image(path).permute(1, 2, 0).numpy()
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    picture.thumbnail(BOX, Image.Resampling.LANCZOS)
    return picture


def distorted(scene: Image.Image, family: str, severity: int, seed: int) -> Image.Image:
    """The scene with one distortion, the same for the same seed."""
    pixels = np.asarray(scene, np.float32) / 255
    pixels = distort(pixels, family, severity, np.random.default_rng(seed))
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def encoded(picture: Image.Image) -> tuple[bytes, int]:
    """The picture as a JPEG of less than 60 kB, and its quality.

    Raises:
        ValueError: no quality makes it so small.
    """
    for quality in JPEG_QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() < MOST_BYTES:
            return file.getvalue(), quality
    raise ValueError("the picture does not fit into 60 kB")


def fsim(scene: Image.Image, file: bytes) -> float:
    """FSIM-c of a saved file against the scene it was made of."""
    pair = np.stack([np.asarray(scene), np.asarray(Image.open(io.BytesIO(file)))]).astype(np.float32) / 255
    return float(fsim_matrix(torch.from_numpy(pair).permute(0, 3, 1, 2))[0, 1])


def label(similarity: float) -> float:
    """From 1 to 5, linear in FSIM."""
    return float(np.clip(1 + 4 * (similarity - LOWEST_FSIM) / (1 - LOWEST_FSIM), 1, 5))


INTRODUCTION = """\
# The example photographs

All are CC0-1.0 (public domain dedication), by what their packages state: Debian's `debian/copyright` of
`budgie-backgrounds` and `endless-sky-data`, the docstrings of scikit-image's `skimage.data`.

## Four to look at

Wallpapers of the Budgie desktop, shrunk to 768x432. Three were damaged on purpose with
`grepq_iqa.training.data.distortions`, so that their order of quality is beyond doubt.

| file | what was done to it |
|---|---|
| `osprey.jpg` | nothing |
| `spices_compressed.jpg` | JPEG at quality 12 |
| `otter_shaken.jpg` | motion blur, severity 3 |
| `lake_dark_noisy.jpg` | under-exposure 4, sensor noise 5, blur 2 |

## Forty with labels

Other scenes, at most 448x288, each damaged in one way or in none, by `python examples/make_photos.py`, which also wrote
`labels.csv` and this page. **The labels are no person's ratings.** Each is the full-reference measure FSIM-c (Zhang et
al., IEEE TIP 2011) of the file against its undamaged scene, put on a scale from 1 (FSIM 0.65 and less) to 5 (FSIM 1).
They say how much was damaged, not how a picture looks: a dull scene left alone has nearly 5. They are here so that
commands can be tried; figures of a fit on them say nothing of a fit on yours.

Severities are those of `grepq_iqa.training.data.distortions`: 1 is just visible, 5 ruins a picture.

| file | distortion | severity | label | package: file | author | origin |
|---|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the photographs, their table, and the page that lists them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sources", type=Path, help="folder with the unpacked packages")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "photos")
    options = parser.parse_args(arguments)

    rows, lines = [], []
    with SCENES.open(newline="", encoding="utf-8") as file:
        scenes = list(csv.DictReader(file))
    for index, scene in enumerate(scenes):
        family, severity = FAMILIES[index // len(LEVELS)], LEVELS[index % len(LEVELS)]
        clean = shrunk(options.sources / scene["package"] / scene["file"])
        picture = distorted(clean, family, severity, seed=index) if severity else clean
        jpeg, quality = encoded(picture)
        similarity = fsim(clean, jpeg)
        name, mos, what = f"{scene['name']}.jpg", f"{label(similarity):.2f}", family if severity else "none"
        (options.output / name).write_bytes(jpeg)
        rows.append([name, mos, what, severity, f"{similarity:.3f}", quality])
        origin = f"{scene['package']}: {Path(scene['file']).name}", scene["author"], scene["origin"]
        lines.append("| " + " | ".join([f"`{name}`", what, str(severity), mos, *origin]) + " |\n")
        print(*rows[-1], len(jpeg))
    with (options.output / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "mos", "distortion", "severity", "fsim", "jpeg_quality"])
        writer.writerows(rows)
    (options.output / "README.md").write_text(INTRODUCTION + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
