"""Bursts and near-duplicates: are they found, is nothing else taken for them, and is the best of each picked?

Frames are made of photographs: the middle of each, and the same scene saved again, made smaller, cropped, from a
little beside (a window moved over the picture, turned and zoomed a little as by hands), exposed by -2 to +2 stops, and
three frames of the burst that went wrong: distorted at severities 2 to 4 by what goes wrong in cameras. Settings are
chosen on one half of the labeled set (`grepq_iqa.benchmark.splits.choice_half`); figures are of the other.

    python studies/picks.py dev/images --frames frames/ --half choice
    python studies/picks.py dev/images --frames frames/ --half report

No frame has a capture time, so that pictures alone must do: times only help. All frames of --count photographs and all
other photographs of the half are one pool, grouped as `grepq pick` does; a pair is right if both come from one
photograph. Photographs of one scene by chance count as mistakes; the pairs are listed to be looked at.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from grepq_iqa import GRepQ
from grepq_iqa.batch import collect, score_paths
from grepq_iqa.benchmark.splits import choice_half
from grepq_iqa.calibration.groups import joined
from grepq_iqa.data.capture import Capture
from grepq_iqa.data.thumbnails import gray_thumbnail
from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key
from grepq_iqa.report.alignment import SIDE
from grepq_iqa.report.picks import LIKENESS, Frame, candidates, likenesses
from grepq_iqa.training.data.distortions import distort

FRAME = 0.8  # of either side: what is left is room to move the window
BRACKET = (-2, -1, 1, 2)  # stops
FAMILIES = ("motion_blur", "defocus", "gaussian_blur", "sensor_noise", "underexposure", "jpeg")
SEVERITIES = (2, 3, 4)
# Photographs of `dev` that show one scene, by eye: takes with other exposures, and pictures posted twice. They are
# counted as mistakes in the first figures, and left out of the second. First the half for choosing, then the other.
ONE_SCENE = (
    *(("0069", "0883"), ("0164", "1216"), ("0206", "0319", "0570"), ("0231", "1049"), ("0242", "0480")),
    *(("0282", "0124"), ("0350", "1444"), ("0366", "0722", "0776"), ("0422", "0558"), ("0429", "0500", "1425")),
    *(("0457", "0445"), ("0611", "0636", "1357"), ("0620", "0627"), ("0708", "0790", "0997")),
    *(("0724", "0762", "0980"), ("0820", "0924"), ("0838", "1287"), ("1040", "1446"), ("1104", "1165")),
    *(("1130", "1426"), ("1171", "1279"), ("1226", "1115"), ("1321", "0688"), ("1327", "0114"), ("1387", "1063")),
    *(("0004", "0034", "0176"), ("0085", "0272", "1490"), ("0122", "0466", "0730"), ("0187", "0886"), ("0191", "0675")),
    *(("0215", "1155"), ("0384", "0578"), ("0407", "0653", "1377"), ("0510", "0881"), ("0547", "1048")),
    *(("0639", "0917"), ("0696", "0963"), ("0802", "0921"), ("1030", "1041"), ("1065", "0856"), ("1299", "1474")),
)


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
    results = score_paths(model, frames, features=True, cache=FeatureCache(args.cache, model_key(model)))
    found = collect(results)
    assert len(found.indices) == len(frames), found.failures
    scores = np.array([score.score for score in found.scores])
    # Of the file as it is: no capture time, no digest.
    known = [
        Frame(Capture(), gray_thumbnail(path, SIDE), None, score) for path, score in zip(frames, scores, strict=True)
    ]
    statistics = {"feature_mean": model.feature_mean, "feature_scale": model.feature_scale}
    certain, pairs = candidates(found.features.astype(np.float64), known, **statistics)
    started = time.perf_counter()
    values = likenesses(pairs, known)
    print(f"{len(known)} pictures, {len(pairs)} compared in {time.perf_counter() - started:.0f} s")
    print("likeness  recall  precision  wrong, and without those that show one scene by eye")
    for limit in sorted({0.45, 0.5, 0.55, 0.6, 0.7, 0.75, 0.8, LIKENESS}):
        units = joined(len(known), {**certain, "alike": pairs[values >= limit]}).units
        report(units, np.array(scene_of), [path.stem[:4] for path in frames], limit)
        if limit == LIKENESS:
            by_kind(units, np.array(scene_of), kinds)
    picked(scores, scene_of, kinds, "zero-shot score")
    picked(np.asarray(model.predict(features=found.features).mos), scene_of, kinds, "mos expected by others' ratings")


def report(units: np.ndarray, scene: np.ndarray, names: list[str], limit: float) -> None:
    """Recall and precision of pairs that are in one group."""
    rows, columns = np.triu_indices(len(units), 1)
    together, same = units[rows] == units[columns], scene[rows] == scene[columns]
    wrong = np.flatnonzero(together & ~same)
    between: dict[frozenset[str], int] = {}
    for at in wrong:
        pair = frozenset((names[rows[at]], names[columns[at]]))
        between[pair] = between.get(pair, 0) + 1
    mistakes = {pair: count for pair, count in between.items() if not any(pair <= set(one) for one in ONE_SCENE)}
    right = int((together & same).sum())
    clean = right / max(1, right + sum(mistakes.values()))
    print(
        f"{limit:8.2f}  {right / same.sum():.4f}  {right / max(1, together.sum()):.4f}  {len(wrong)} pairs of "
        f"{len(between)} scenes; {clean:.4f}, {sum(mistakes.values())} of {len(mistakes)}: "
        + ", ".join("-".join(sorted(pair)) for pair in mistakes)
    )


def by_kind(units: np.ndarray, scene: np.ndarray, kinds: list[str]) -> None:
    """How many frames of each kind are in the group of their base."""
    base = {scene[i]: units[i] for i, kind in enumerate(kinds) if kind == "base"}
    for kind in dict.fromkeys(kinds):
        if kind not in ("base", "other"):
            own = [units[i] == base[scene[i]] for i in range(len(kinds)) if kinds[i] == kind]
            print(f"          {kind:12} {np.mean(own):.3f}")


def picked(values: np.ndarray, scene: list[int], kinds: list[str], name: str) -> None:
    """In how many scenes the base is ahead of its spoiled frames."""
    ahead = []
    for i, kind in enumerate(kinds):
        if kind == "base":
            rivals = [values[j] for j in range(len(kinds)) if scene[j] == scene[i] and kinds[j].startswith("spoiled")]
            ahead.append(values[i] > max(rivals))
    print(f"least distorted picked by {name}: {np.mean(ahead):.3f} of {len(ahead)}")


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
