"""When are two pictures copies of one another? The measurement behind `grepq_iqa.calibration.groups.NEAR_EQUAL`.

Copies of photographs as people's folders hold them (saved again, made smaller, cropped a little at a random place) are
compared with their originals, and different photographs with one another, by the distances that
`grepq_iqa.calibration.groups` could use. Printed: for every kind of copy the share found at each threshold, beside the
number of pairs of different photographs that would be taken for copies, and the area under the ROC curve.

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
from grepq_iqa.calibration.regressor import feature_statistics, standardize

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
        names, originals, chosen, copies = (stored[key] for key in ("names", "originals", "chosen", "copies"))
    mean, scale = feature_statistics(originals.astype(np.float64), model.feature_mean, model.feature_scale)
    Z = standardize(originals.astype(np.float64), mean, scale)
    for label, distances in MEASURES.items():
        print(f"\n{label}")
        table(distances, names, Z, chosen, [standardize(rows.astype(np.float64), mean, scale) for rows in copies])


def extract(model: GRepQ, folder: Path, count: int, target: Path, known: Path | None) -> None:
    if known is not None:
        with np.load(known) as stored:
            names, originals = stored["names"], stored["features"]
    else:
        names = np.array(sorted(path.name for path in folder.iterdir()))
        originals = np.concatenate([model.features([folder / name]) for name in names])
    chosen = np.sort(np.random.default_rng(0).choice(len(names), count, replace=False))
    copies = np.empty((len(COPIES), count, originals.shape[1]), dtype=np.float32)
    for i, row in enumerate(chosen):
        image = ImageOps.exif_transpose(Image.open(folder / names[row])).convert("RGB")
        for k, change in enumerate(COPIES.values()):
            copies[k, i] = model.features([change(image, np.random.default_rng([i, k]))])[0]
    np.savez(target, names=names, originals=originals, chosen=chosen, copies=copies)


def rms(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Root mean squared difference of every row of one and every row of the other."""
    squares = (A**2).sum(1)[:, None] + (B**2).sum(1) - 2 * A @ B.T
    return np.sqrt(squares.clip(min=0) / A.shape[1])


def angle(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """One less the cosine."""
    return 1 - (A / np.linalg.norm(A, axis=1, keepdims=True)) @ (B / np.linalg.norm(B, axis=1, keepdims=True)).T


MEASURES = {"root mean squared difference": rms, "1 - cosine": angle}


def table(measure, names: np.ndarray, Z: np.ndarray, chosen: np.ndarray, copies: list[np.ndarray]) -> None:
    different = measure(Z, Z)[np.triu_indices(len(Z), 1)]
    pairs = np.column_stack(np.triu_indices(len(Z), 1))
    order = np.argsort(different)
    print("nearest of different photographs:")
    for at in order[:12]:
        print(f"  {different[at]:.3f}  {names[pairs[at][0]]}  {names[pairs[at][1]]}")
    print(
        "quantiles of different pairs 1e-5, 1e-4, .001, .01, .5:", np.quantile(different, [1e-5, 1e-4, 1e-3, 0.01, 0.5])
    )
    same = {kind: np.diag(measure(Z[chosen], rows)) for kind, rows in zip(COPIES, copies, strict=True)}
    ordered = np.sort(different)
    for kind, values in same.items():
        area = 1 - np.searchsorted(ordered, values).mean() / len(ordered)
        print(
            f"  {kind:20} median {np.median(values):.3f}, 95 % below {np.quantile(values, 0.95):.3f}; area {area:.6f}"
        )
    everything = np.concatenate(list(same.values()))
    print(
        f"\n{'threshold':>9} {'alarms':>7} {'in pairs':>9} {'precision':>9} " + " ".join(f"{k[-9:]:>9}" for k in same)
    )
    for threshold in np.quantile(everything, [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99]):
        alarms = int(np.searchsorted(ordered, threshold, side="right"))
        found = (everything <= threshold).sum()
        shares = " ".join(f"{(values <= threshold).mean():9.3f}" for values in same.values())
        print(f"{threshold:9.3f} {alarms:7d} {len(ordered):9d} {found / (found + alarms):9.4f} {shares}")


if __name__ == "__main__":
    main()
