"""Does choosing what to label beat labeling at random? The measurement behind ``grepq select``.

For every seed: shuffle the labeled set, keep 300 images for testing, choose ``n`` of the others by each method, fit
`MOSRegressor` on their labels and take the SRCC on the 300. A method's gain is paired: over the mean of five random
draws from the same seed. Every method is run on features alone and, with --scores, spread over the zero-shot range.

    python studies/selection.py dev.npz labels.csv --scores scores.npy -n 50 --seeds 30

Features are .npy or .npz (array ``features``), one row for each row of the labels' CSV, in its order, standardized as
the bundled model does it; --statistics takes features of other, ordinary photographs to standardize with instead.
K-means (the image nearest to each center, within each part of the score range) is here for comparison only: it is no
better, takes longer, and its list cannot be cut.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from grepq_iqa import GRepQ
from grepq_iqa.calibration.regressor import MOSRegressor, feature_statistics, standardize
from grepq_iqa.labeling.selection import BINS, Method, select
from grepq_iqa.metrics import srcc as rank_correlation

RANDOM_DRAWS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("labels", type=Path, help="CSV; the last column is the MOS")
    parser.add_argument("--statistics", type=Path, help="features of unlabeled in-the-wild images")
    parser.add_argument("--scores", type=Path, help=".npy of zero-shot scores, one a row")
    parser.add_argument("--columns", type=int, help="use only the last so many features")
    parser.add_argument("-n", type=int, nargs="+", default=[50])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--test", type=int, default=300)
    args = parser.parse_args()

    features = read_features(args.features, args.columns)
    with args.labels.open(newline="") as file:
        mos = np.array([float(row[-1]) for row in list(csv.reader(file))[1:]])
    scores = np.load(args.scores) if args.scores else None
    if args.statistics:
        mean, scale = feature_statistics(read_features(args.statistics, args.columns))
    else:
        model = GRepQ.from_pretrained(device="cpu")
        chosen = slice(-args.columns if args.columns else None, None)
        mean, scale = model.feature_mean[chosen], model.feature_scale[chosen]

    def srcc(pool: np.ndarray, test: np.ndarray) -> float:
        regressor = MOSRegressor(feature_mean=mean, feature_scale=scale).fit(features[pool], mos[pool])
        return rank_correlation(regressor.predict(features[test]), mos[test])

    if scores is not None:
        print(f"zero-shot SRCC {rank_correlation(scores, mos):.3f}")
    print(f"{'labels':>6} {'method':24} {'median':>7} {'mean':>7} {'least':>7} {'gain':>8} {'+-':>7} {'won':>5}")
    for n in args.n:
        baseline = None
        for name, choose in methods(mean, scale, with_scores=scores is not None).items():
            values = []
            for seed in range(args.seeds):
                order = np.random.default_rng(seed).permutation(len(mos))
                test, pool = order[: args.test], order[args.test :]
                pool_scores = None if scores is None else scores[pool]
                draws = range(RANDOM_DRAWS if name == "random" else 1)
                picks = [choose(features[pool], pool_scores, n, seed * RANDOM_DRAWS + draw) for draw in draws]
                values.append(np.mean([srcc(pool[pick], test) for pick in picks]))
            result = np.array(values)
            baseline = result if baseline is None else baseline
            gain = result - baseline
            error = gain.std() / np.sqrt(len(gain))
            print(
                f"{n:6d} {name:24} {np.median(result):7.4f} {result.mean():7.4f} {result.min():7.4f} "
                f"{gain.mean():+8.4f} {error:7.4f} {(gain > 0).mean():5.2f}",
                flush=True,
            )


def read_features(path: Path, columns: int | None) -> np.ndarray:
    loaded = np.load(path)
    array = loaded["features"] if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    return np.asarray(array, dtype=np.float64)[:, -columns if columns else None :]


Choose = Callable[[np.ndarray, "np.ndarray | None", int, int], np.ndarray]


def methods(mean: np.ndarray, scale: np.ndarray, *, with_scores: bool) -> dict[str, Choose]:
    """Every way to choose, by name; the first is the baseline."""

    def ours(method: Method, spread: bool) -> Choose:
        def choose(features, scores, n, seed):
            return select(
                features,
                scores if spread else None,
                n,
                method=method,
                feature_mean=mean,
                feature_scale=scale,
                seed=seed,
            )

        return choose

    def kmeans(spread: bool) -> Choose:
        def choose(features, scores, n, seed):
            rows = standardize(features, mean, scale)
            parts = np.array_split(np.argsort(scores), BINS) if spread else [np.arange(len(rows))]
            sizes = [len(share) for share in np.array_split(np.arange(n), len(parts))]
            return np.concatenate([medoids(rows, part, k, seed) for part, k in zip(parts, sizes, strict=True)])

        return choose

    found: dict[str, Choose] = {"random": ours("random", False)}
    for spread in [False, True] if with_scores else [False]:
        suffix = ", spread" if spread else ""
        if spread:
            found["random, spread"] = ours("random", True)
        designs: tuple[Method, ...] = ("k-center", "d-optimal", "i-optimal")
        for method in designs:
            found[method + suffix] = ours(method, spread)
        found["k-means" + suffix] = kmeans(spread)
    return found


def medoids(rows: np.ndarray, part: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Of the rows in ``part``, those nearest to the centers of ``k`` clusters."""
    fitted = KMeans(k, n_init=1, random_state=seed).fit(rows[part])
    distances = fitted.transform(rows[part])
    nearest = [np.where(fitted.labels_ == c, distances[:, c], np.inf).argmin() for c in range(k)]
    return part[nearest]


if __name__ == "__main__":
    main()
