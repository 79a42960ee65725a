"""Do intervals hold what they promise? Share of held-out labels inside them, and how long a fit takes.

Run: python studies/coverage.py LABELS.csv [--images FOLDER] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from grepq_iqa import GRepQ
from grepq_iqa.batch import collect, score_paths
from grepq_iqa.benchmark.splits import random_splits
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.data.labels import read_labels
from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key

SPLITS = 20


def main() -> None:
    """Print a line for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cache", type=Path, default=default_directory())
    options = parser.parse_args()
    table = read_labels(options.labels, images=options.images)
    model = GRepQ.from_pretrained(device="cpu")
    cache = FeatureCache(options.cache, model_key(model))
    found = collect(score_paths(model, table.paths, features=True, cache=cache))
    features, mos = found.features, table.mos[list(found.indices)]
    for labels in (50, 100, 200):
        held: dict[float, list[float]] = {0.8: [], 0.9: [], 0.95: []}
        seconds = []
        for pool, test in random_splits(len(mos), SPLITS):
            chosen = pool[:labels]
            started = time.perf_counter()
            regressor = MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)
            regressor.fit(features[chosen], mos[chosen])
            seconds.append(time.perf_counter() - started)
            for confidence, shares in held.items():
                low, high = regressor.predict_interval(features[test], confidence)
                shares.append(float(((low <= mos[test]) & (mos[test] <= high)).mean()))
        shown = ", ".join(f"{confidence:.0%}: {np.mean(shares):.1%}" for confidence, shares in held.items())
        print(f"{labels} labels: {shown}; fit {1000 * np.median(seconds):.0f} ms (d = {features.shape[1]})")


if __name__ == "__main__":
    main()
