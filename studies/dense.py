"""What does dense evaluation cost in agreement with people, beside encoding every patch by itself?

Dense: one pass over the picture, a patch is a 3x3 window of the last map. Exact: 96-pixel patches, stride 48, each
encoded alone (docs/method.md, section 2). Each has moments of the pristine tiles computed in its own way. Q is Q_L +
Q_H, where both ways give Q_L the same spread over the pictures, the one that it has in the model.

Run: python studies/dense.py PRISTINE labels.csv --images FOLDER [--limit 1500]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from grepq_iqa import GRepQ
from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import load_image
from grepq_iqa.data.labels import read_labels
from grepq_iqa.data.patches import iter_patches
from grepq_iqa.devices import autocast, one_blas_thread
from grepq_iqa.metrics import srcc as rank_correlation
from grepq_iqa.training.data.pristine_tiles import TILE, select_tiles
from grepq_iqa.zero_shot import Moments, distance_to_pristine, low_level_quality


@torch.inference_mode()
def main() -> None:
    """Print SRCC of Q_L and Q in both ways, the differences, and seconds a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pristine", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    model = GRepQ.from_pretrained(device="cpu")
    encoder = model._components.low_level

    def batch(image: Tensor) -> Tensor:
        return image[None].contiguous(memory_format=torch.channels_last)

    pristine = {"dense": Moments(encoder.dim), "exact": Moments(encoder.dim)}
    with autocast(model.device, model.dtype), one_blas_thread():
        for path in iter_image_paths([options.pristine]):
            image = load_image(path)
            for row, column in select_tiles(image):
                tile = image[:, row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                pristine["exact"].update(encoder(tile[None]).float().numpy())
            if positions := select_tiles(image):
                tiles = encoder.tiles(batch(image), TILE)[0]
                pristine["dense"].update(torch.stack([tiles[row, column] for row, column in positions]).float().numpy())

        labels = read_labels(options.labels, images=options.images)
        paths, mos = labels.paths[: options.limit], labels.mos[: options.limit]
        distances: dict[str, list[float]] = {"dense": [], "exact": []}
        seconds = dict.fromkeys(distances, 0.0)
        high = []
        for path in paths:
            image = load_image(path, max_side=model.max_side)
            high.append(model.score(image).high_level)
            for way in distances:
                started, moments = time.perf_counter(), Moments(encoder.dim)
                if way == "dense":
                    moments.update(encoder.whole_and_windows(batch(image), TILE)[1][0].float().numpy())
                else:
                    for patches in iter_patches(image, 96, 48):
                        fed = patches.contiguous(memory_format=torch.channels_last)
                        moments.update(encoder(fed).float().numpy())
                known = pristine[way]
                distances[way].append(
                    distance_to_pristine(moments.mean, moments.covariance, known.mean, known.covariance)
                )
                seconds[way] += time.perf_counter() - started
    std = np.std(quality(distances["dense"], model._distance_scale))
    scale = brentq(lambda scale: np.std(quality(distances["exact"], scale)) - std, 5.0, 1e4)
    low = {
        "dense": quality(distances["dense"], model._distance_scale),
        "exact": quality(distances["exact"], float(scale)),
    }
    srcc = {
        "Q_L": {way: rank_correlation(found, mos) for way, found in low.items()},
        "Q": {way: rank_correlation(found + np.array(high), mos) for way, found in low.items()},
    }
    report = {
        "pictures": len(paths),
        **{f"srcc_of_{score}": {way: round(x, 4) for way, x in found.items()} for score, found in srcc.items()},
        "dense_minus_exact": {score: round(found["dense"] - found["exact"], 4) for score, found in srcc.items()},
        "srcc_of_one_with_the_other": round(rank_correlation(*distances.values()), 4),
        "seconds_a_picture": {way: round(total / len(paths), 4) for way, total in seconds.items()},
    }
    print(json.dumps(report, indent=2))


def quality(distances: list[float], scale: float) -> np.ndarray:
    """Q_L of every distance."""
    return np.array([low_level_quality(distance, scale) for distance in distances])


if __name__ == "__main__":
    main()
