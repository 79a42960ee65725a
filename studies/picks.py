"""Bursts and near-duplicates: are they found, is nothing else taken for them, and is the best of each picked?

Frames are made of photographs: the middle of each, and the same scene saved again, made smaller, cropped, from a little
beside (a window moved over the picture, turned and zoomed a little as by hands), exposed by -2 to +2 stops, and three
frames of the burst that went wrong: distorted at severities 2 to 4 by what goes wrong in cameras. Settings are chosen on
one half of the labeled set (`grepq_iqa.benchmark.splits.choice_half`); figures are of the other.

    python studies/picks.py dev/images --frames frames/ --half choice
    python studies/picks.py dev/images --frames frames/ --half report

No frame has a capture time, so that pictures alone must do: times only help. All frames of --count photographs and all
other photographs of the half are one pool, grouped as `grepq pick` does; a pair is right if both come from one
photograph. Photographs of one scene by chance count as mistakes; the pairs are listed to be looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from grepq_iqa import GRepQ
from grepq_iqa.batch import collect, score_paths
from grepq_iqa.benchmark.splits import choice_half
from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key
from grepq_iqa.training.data.distortions import distort

FRAME = 0.8  # of either side: what is left is room to move the window
BRACKET = (-2, -1, 1, 2)  # stops
FAMILIES = ("motion_blur", "defocus", "gaussian_blur", "sensor_noise", "underexposure", "jpeg")
SEVERITIES = (2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of different photographs")
    parser.add_argument("--frames", type=Path, required=True, help="folder to make frames in")
    parser.add_argument("--half", choices=("choice", "report"), default="report")
    parser.add_argument("--count", type=int, default=100, help="photographs that frames are made of")
    parser.add_argument("--cache", type=Path, default=default_directory())
    args = parser.parse_args()

    names = np.array(sorted(path.name for path in args.folder.iterdir()))
    chosen = np.isin(np.arange(len(names)), choice_half(len(names)))
    names = names[chosen if args.half == "choice" else ~chosen]
    scenes = np.random.default_rng(1).permutation(len(names))[: args.count]
    frames, scene_of, kinds = [], [], []
    for scene in scenes:
        for kind, path in make_frames(args.folder / names[scene], args.frames / args.half):
            frames.append(path)
            scene_of.append(scene)
            kinds.append(kind)
    for other in sorted(set(range(len(names))) - set(scenes.tolist())):
        frames.append(args.folder / names[other])
        scene_of.append(other)
        kinds.append("other")
    model = GRepQ.from_pretrained(device="cpu")
    found = collect(score_paths(model, frames, features=True, cache=FeatureCache(args.cache, model_key(model))))
    assert len(found.indices) == len(frames), found.failures


def make_frames(photo: Path, folder: Path) -> list[tuple[str, Path]]:
    """The frames of one photograph, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(photo.stem.encode()))
    whole = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    found: list[tuple[str, Path]] = []

    def keep(kind: str, image: Image.Image, quality: int = 95) -> None:
        path = folder / f"{photo.stem} {kind}.jpg"
        if not path.exists():
            image.save(path, "JPEG", quality=quality)
        found.append((kind, path))

    def window(shift: float = 0.0, turn: float = 0.0, zoom: float = 1.0) -> Image.Image:
        """The frame, moved into a random direction by a share of its sides."""
        angle = rng.uniform(0, 2 * np.pi)
        across = np.array([np.cos(angle), np.sin(angle)]) * shift / max(abs(np.cos(angle)), abs(np.sin(angle)))
        size = FRAME * np.array(whole.size)
        left, top = np.array(whole.size) * (1 - FRAME) / 2 + across * size
        turned = whole.rotate(turn, Image.Resampling.BICUBIC) if turn else whole
        inner = size * (1 - 1 / zoom) / 2
        box = (left + inner[0], top + inner[1], left + size[0] - inner[0], top + size[1] - inner[1])
        return turned.resize(tuple(np.round(size).astype(int).tolist()), Image.Resampling.BICUBIC, box=box)

    base = window()
    keep("base", base)
    keep("saved q90", base, 90)
    keep("saved q50", base, 50)
    keep("half size", base.resize((base.width // 2, base.height // 2), Image.Resampling.LANCZOS))
    for share in (0.1, 0.2):
        width, height = (round(side * (1 - share)) for side in base.size)
        x, y = (int(rng.integers(0, room + 1)) for room in (base.width - width, base.height - height))
        keep(f"cropped {share:.0%}", base.crop((x, y, x + width, y + height)))
    for share in (0.05, 0.1):
        keep(f"shifted {share:.0%}", window(share))
    keep("by hand", window(0.04, float(rng.choice([-2, 2])), 1.04))
    linear = (np.asarray(base, dtype=np.float32) / 255) ** 2.2
    for stops in BRACKET:
        exposed = (linear * 2.0**stops).clip(0, 1) ** (1 / 2.2)
        keep(f"{stops:+d} EV", Image.fromarray((exposed * 255).round().astype(np.uint8)))
    for severity, family in zip(SEVERITIES, rng.permutation(FAMILIES), strict=False):
        picture = np.asarray(window(0.03), dtype=np.float32) / 255
        spoiled = distort(picture, str(family), severity, rng)
        keep(f"spoiled {severity}", Image.fromarray((spoiled * 255).round().astype(np.uint8)))
    return found


if __name__ == "__main__":
    main()
