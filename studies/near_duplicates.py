"""When are two pictures copies of one another? The measurement behind the thresholds of `grepq_iqa.calibration.groups`.

Copies of photographs as people's folders hold them (saved again, made smaller, cropped a little at a random place) are
compared with their originals, and different photographs with one another. Printed, for features and for thumbnails:
for every kind of copy the share found at each threshold, beside the number of pairs of different photographs that
would be taken for copies, and the area under the ROC curve.

    python studies/near_duplicates.py photos/ --count 250 --features copies.npz

Features are computed once and kept in --features. Different photographs should be different: bursts and re-posted
pictures among them count as false alarms, so the nearest pairs are listed to look at.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from grepq_iqa import GRepQ
from grepq_iqa.calibration.groups import _FLAT, BOTH_NEAR, NEAR_EQUAL, NEAR_EQUAL_THUMBNAILS
from grepq_iqa.calibration.regressor import feature_statistics, standardize
from grepq_iqa.data.thumbnails import gray_thumbnail

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def saved_again(quality: int) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def resized(factor: float) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        size = round(image.width * factor), round(image.height * factor)
        return saved_again(95)(image.resize(size, Image.Resampling.LANCZOS), rng)

    return change


def cropped(share: float) -> Change:
    """A share of either side is lost, divided at random between its two ends."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = (round(side * (1 - share)) for side in image.size)
        x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        return saved_again(95)(image.crop((int(x), int(y), int(x) + width, int(y) + height)), rng)

    return change


COPIES: dict[str, Change] = {
    "saved again, q95": saved_again(95),
    "saved again, q88": saved_again(88),
    "saved again, q70": saved_again(70),
    "resized to .9": resized(0.9),
    "resized to .5": resized(0.5),
    "cropped by 2 %": cropped(0.02),
    "cropped by 5 %": cropped(0.05),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of different photographs")
    parser.add_argument("--count", type=int, default=250, help="photographs that copies are made of")
    parser.add_argument("--features", type=Path, required=True, help=".npz to keep features in")
    parser.add_argument("--originals", type=Path, help=".npz with names and features of the folder, if at hand")
    args = parser.parse_args()

    model = GRepQ.from_pretrained(device="cpu")
    if not args.features.exists():
        extract(model, args.folder, args.count, args.features, args.originals)
    with np.load(args.features) as stored:
        names, chosen = stored["names"], stored["chosen"]
        features, thumbnails = ([stored[f"{kind}_{key}"] for key in ("originals", "copies")] for kind in "ft")
    mean, scale = feature_statistics(features[0].astype(np.float64), model.feature_mean, model.feature_scale)
    Z, *copies = (standardize(rows.astype(np.float64), mean, scale) for rows in (features[0], *features[1]))
    print("features")
    table(names, Z, chosen, copies, NEAR_EQUAL)
    print("\nthumbnails")
    T, *small = (normalized(rows) for rows in (thumbnails[0], *thumbnails[1]))
    table(names, T, chosen, small, NEAR_EQUAL_THUMBNAILS)

    print("\nthe rule as it stands")
    pairs = np.triu_indices(len(Z), 1)
    alarms = np.flatnonzero(copy(distances(Z, Z)[pairs], distances(T, T)[pairs]))
    for kind, rows, pictures in zip(COPIES, copies, small, strict=True):
        hits = copy(np.diag(distances(Z[chosen], rows)), np.diag(distances(T[chosen], pictures)))
        print(f"  {kind:20} found {hits.mean():.3f}")
    print(f"  of {len(pairs[0])} pairs of different photographs, {len(alarms)} are taken for copies:")
    print("  " + ", ".join(f"{names[pairs[0][at]]}-{names[pairs[1][at]]}" for at in alarms))


def copy(features: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """The rule of `find_groups`, from distances."""
    both = (features <= BOTH_NEAR[0]) & (thumbnails <= BOTH_NEAR[1])
    return (features <= NEAR_EQUAL) | (thumbnails <= NEAR_EQUAL_THUMBNAILS) | both


def extract(model: GRepQ, folder: Path, count: int, target: Path, known: Path | None) -> None:
    if known is not None:
        with np.load(known) as stored:
            names, originals = stored["names"], stored["features"]
    else:
        names = np.array(sorted(path.name for path in folder.iterdir()))
        originals = np.concatenate([model.features([folder / name]) for name in names])
    chosen = np.sort(np.random.default_rng(0).choice(len(names), count, replace=False))
    copies, thumbnails = [], []
    for i, row in enumerate(chosen):
        image = ImageOps.exif_transpose(Image.open(folder / names[row])).convert("RGB")
        changed = [change(image, np.random.default_rng([i, k])) for k, change in enumerate(COPIES.values())]
        copies.append(np.concatenate([model.features([one]) for one in changed]))
        thumbnails.append([gray_thumbnail(one) for one in changed])
    np.savez(
        target,
        names=names,
        chosen=chosen,
        f_originals=originals,
        f_copies=np.swapaxes(copies, 0, 1),
        t_originals=[gray_thumbnail(folder / name) for name in names],
        t_copies=np.swapaxes(thumbnails, 0, 1),
    )


def normalized(thumbnails: np.ndarray) -> np.ndarray:
    """Mean 0 and spread 1 in each; NaN where a thumbnail is flat, which is near to nothing."""
    rows = thumbnails.astype(np.float64)
    spread = rows.std(axis=1, keepdims=True)
    return (rows - rows.mean(axis=1, keepdims=True)) / np.where(spread < _FLAT, np.nan, spread)


def distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Root mean squared difference of every row of one and every row of the other; far where one is NaN."""
    squares = (A**2).sum(1)[:, None] + (B**2).sum(1) - 2 * A @ B.T
    return np.nan_to_num(np.sqrt(squares.clip(min=0) / A.shape[1]), nan=9.0)


def table(names: np.ndarray, Z: np.ndarray, chosen: np.ndarray, copies: list[np.ndarray], threshold: float) -> None:
    pairs = np.column_stack(np.triu_indices(len(Z), 1))
    different = distances(Z, Z)[pairs[:, 0], pairs[:, 1]]
    same = {kind: np.diag(distances(Z[chosen], rows)) for kind, rows in zip(COPIES, copies, strict=True)}
    print("nearest of different photographs, and the first beyond the threshold:")
    order = np.argsort(different)
    for at in order[: (different <= threshold).sum() + 5]:
        print(f"  {different[at]:.3f}  {names[pairs[at][0]]}  {names[pairs[at][1]]}")
    ordered = different[order]
    for kind, values in same.items():
        area = 1 - np.searchsorted(ordered, values).mean() / len(ordered)
        print(
            f"  {kind:20} median {np.median(values):.3f}, 95 % below {np.quantile(values, 0.95):.3f}; area {area:.6f}"
        )
    print(f"{'threshold':>9} {'alarms':>7} {'precision':>9} " + " ".join(f"{kind[-9:]:>9}" for kind in same))
    for limit in sorted({*np.round(threshold * np.array([0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2]), 3)}):
        alarms = int(np.searchsorted(ordered, limit, side="right"))
        found = sum(int((values <= limit).sum()) for values in same.values())
        shares = " ".join(f"{(values <= limit).mean():9.3f}" for values in same.values())
        print(f"{limit:9.3f} {alarms:7d} {found / max(1, found + alarms):9.4f} {shares}")


if __name__ == "__main__":
    main()
