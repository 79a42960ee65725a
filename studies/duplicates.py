"""Random labels on crops that are also there as copies: what a fit says of itself, with and without groups.

Nothing can be learnt from random labels, so an honest report has an SRCC near 0, a large penalty, and intervals that
hold as many new labels as they promise.

    python studies/duplicates.py photos/ --seeds 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from near_duplicates import cropped, resized, saved_again
from PIL import Image, ImageOps

from grepq_iqa import GRepQ
from grepq_iqa.calibration.groups import find_groups
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.validation import cross_validate
from grepq_iqa.data.thumbnails import gray_thumbnail

SIDE, CROPS, NEW = 256, 30, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    model = GRepQ.from_pretrained(device="cpu")
    rng = np.random.default_rng(0)
    files = rng.permutation(sorted(args.folder.iterdir()))
    crops = [crop(path, rng) for path in files[: CROPS + NEW]]
    features = model.features(crops)
    kinds = {
        "no copies": None,
        "the same bytes": lambda image, rng: image,
        "saved again, q88": saved_again(88),
        "saved again, q70": saved_again(70),
        "resized to .9": resized(0.9),
        "resized to .5": resized(0.5),
        "cropped by 5 %": cropped(0.05),
        "the same bytes, another rater": lambda image, rng: image,
    }
    print(
        f"{'copies':30} {'groups':6} {'units':>5} {'SRCC':>6} {'holds 0':>7} {'alpha':>7} {'width':>6} {'hold new':>8}"
    )
    for kind, change in kinds.items():
        X, pictures = features[:CROPS], crops[:CROPS]
        if change is not None:
            copies = [change(image, rng) for image in pictures]
            X, pictures = np.concatenate([X, model.features(copies)]), pictures + copies
        found = find_groups(
            X,
            thumbnails=[gray_thumbnail(picture) for picture in pictures],
            feature_mean=model.feature_mean,
            feature_scale=model.feature_scale,
        )
        for name, units in (("no", None), ("yes", found.units)):
            rows = []
            for seed in range(args.seeds):
                labels = np.random.default_rng(seed).uniform(1, 5, size=CROPS + NEW)
                y = np.resize(labels[:CROPS], len(X))
                if "another" in kind:  # a rater agrees with the first, but for a noise of .5
                    y[CROPS:] += np.random.default_rng(seed + 1000).normal(scale=0.5, size=CROPS)
                regressor = MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)
                srcc = cross_validate(regressor, X, y, groups=units, repeats=5, seed=seed).srcc
                regressor.fit(X, y, units)
                low, high = regressor.predict_interval(features[CROPS:])
                held = np.mean((low <= labels[CROPS:]) & (labels[CROPS:] <= high))
                rows.append((srcc.value, srcc.low <= 0 <= srcc.high, regressor.alpha_, np.median(high - low), held))
            srcc, inside, alpha, width, held = np.array(rows).T
            print(
                f"{kind:30} {name:6} {found.unit_count if units is not None else len(X):5d} {srcc.mean():6.3f} "
                f"{inside.mean():7.2f} {np.median(alpha):7g} {width.mean():6.3f} {held.mean():8.3f}",
                flush=True,
            )


def crop(path: Path, rng: np.random.Generator) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    x, y = (int(rng.integers(0, side - SIDE + 1)) for side in image.size)
    return image.crop((x, y, x + SIDE, y + SIDE))


if __name__ == "__main__":
    main()
