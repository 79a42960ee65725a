r"""Does the map show where? A random quadrant of each photograph is blurred, made noisy or compressed.

Photographs: clean ones that took no part in fitting, shrunk to 60 %, and the best-rated ones of a table, which have
blurred backgrounds and noise of their own. Printed for every damage and severity: the area under the ROC curve of the
map's pixels against the quadrant (the mean over photographs), of clean photographs and of all, and the share of the
quadrant that is marked (a value of MARKED or more). Then how much of clean photographs is marked, and how much of their
flat places (sky, walls: cells of 16 pixels whose 7 x 7 neighborhood has a standard deviation below FLAT levels).
With --low-level also the AUC of the low-level encoder's windows, by their distance to pristine patches.

Run: python studies/quality_map.py /work/shared/data/pristine --held-out studies/reasons_held_out.txt \
    --rated /work/shared/data/dev/labels.csv --images /work/shared/data/dev/images
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from held_out import photographs_of
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from grepq_iqa.data.labels import read_labels
from grepq_iqa.explain.local_measures import CELL
from grepq_iqa.explain.measures import LUMA
from grepq_iqa.explain.quality_map import MARKED, quality_map
from grepq_iqa.training.data.distortions import Picture, distort
from grepq_iqa.training.data.pictures import clean_start, read_picture

DAMAGES = ("gaussian_blur", "white_noise", "jpeg")
SHRINK = 0.6
FLAT = 2.5
STEP = 4
"""Every fourth pixel of both sides is compared."""


def main() -> None:
    """Print one JSON line a damage and severity, and one for clean photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--held-out", type=Path, required=True, help="SHA-256 of the clean ones to take, one a line")
    parser.add_argument("--rated", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--severities", type=float, nargs="+", default=(2, 3, 4))
    parser.add_argument("--low-level", action="store_true")
    options = parser.parse_args()
    clean = photographs_of(options.paths, options.held_out)
    labels = read_labels(options.rated, images=options.images)
    best = [labels.paths[i] for i in np.argsort(-labels.mos)][: max(0, options.photographs - len(clean))]
    photographs = [(path, True) for path in clean] + [(path, False) for path in best]
    maps = {"map": quality_map}
    if options.low_level:
        maps["low_level"] = low_level_map()
    results: dict[tuple[str, str, float], list[tuple[bool, float, float]]] = {}
    flat, marked = [], []
    for index, (path, is_clean) in enumerate(photographs[: options.photographs]):
        rng = np.random.default_rng(index)
        picture = clean_start(path, SHRINK) if is_clean else read_picture(Path(path))
        if is_clean:
            own = quality_map(picture)
            marked.append(float((own >= MARKED).mean()))
            plain = flat_places(picture)
            if plain.any():
                flat.append((int(plain.sum()), float((own[plain] >= MARKED).mean())))
        box = quadrant(picture, rng)
        truth = np.zeros(picture.shape[:2], bool)
        truth[box] = True
        for damage in DAMAGES:
            for severity in options.severities:
                damaged = picture.copy()
                damaged[box] = distort(picture, damage, severity, np.random.default_rng(index))[box]
                damaged = np.round(damaged * 255) / np.float32(255)
                for name, mapper in maps.items():
                    found = mapper(damaged)
                    row = (
                        is_clean,
                        auc(found[::STEP, ::STEP], truth[::STEP, ::STEP]),
                        float((found[box] >= MARKED).mean()),
                    )
                    results.setdefault((name, damage, severity), []).append(row)
    for (name, damage, severity), rows in results.items():
        of_clean, aucs, shares = (np.array(column) for column in zip(*rows, strict=True))
        line = {
            "by": name,
            "damage": damage,
            "severity": severity,
            "photographs": len(rows),
            "auc": round(float(aucs.mean()), 3),
            "auc_clean": round(float(aucs[of_clean].mean()), 3),
            "auc_rated": round(float(aucs[~of_clean].mean()), 3) if (~of_clean).any() else None,
            "marked": round(float(shares.mean()), 3),
        }
        print(json.dumps(line), flush=True)
    sizes, shares_ = (np.array(column) for column in zip(*flat, strict=True))
    line = {
        "clean_photographs": len(marked),
        "marked": round(float(np.mean(marked)), 4),
        "with_flat_places": len(flat),
        "flat_marked": round(float((sizes * shares_).sum() / sizes.sum()), 4),
    }
    print(json.dumps(line))


def quadrant(picture: Picture, rng: np.random.Generator) -> tuple[slice, slice]:
    """A random quarter."""
    height, width = picture.shape[:2]
    top, left = int(rng.integers(2)) * (height // 2), int(rng.integers(2)) * (width // 2)
    return slice(top, top + height // 2), slice(left, left + width // 2)


def auc(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a damaged pixel has the larger value, ties counted half."""
    from scipy.stats import rankdata

    ranks = rankdata(values.ravel())
    positive = truth.ravel()
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count)))


def flat_places(picture: Picture) -> NDArray[np.bool_]:
    """``(h, w)``, where there is nothing to see but a slow gradient."""
    luma = picture @ LUMA * 255
    side = 7 * CELL
    mean = ndimage.uniform_filter(luma, side)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(luma**2, side) - mean**2, 0))
    found: NDArray[np.bool_] = spread < FLAT
    return found


def low_level_map():
    """A map of how far the low-level encoder's windows are from pristine patches, as score's Q_L sees them."""
    import torch

    from grepq_iqa import GRepQ

    model = GRepQ.from_pretrained(device="cpu", dtype="float32")
    parts = model._components
    inverse = np.linalg.inv(parts.pristine_covariance + 1e-3 * np.eye(len(parts.pristine_mean)))

    @torch.inference_mode()
    def of(picture: Picture) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
        _, windows = parts.low_level.whole_and_windows(batch, 96)
        rows, columns = -(-picture.shape[0] // 32) - 2, -(-picture.shape[1] // 32) - 2
        away = windows[0].numpy() - parts.pristine_mean
        distance = np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away)).reshape(rows, columns).astype(np.float32)
        padded = np.pad(distance, 1, mode="edge")
        size = picture.shape[1], picture.shape[0]
        return np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BILINEAR))

    return of


if __name__ == "__main__":
    main()
