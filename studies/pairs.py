"""Do comparisons need fewer answers than single ratings? The measurement behind ``grepq select --pairs``.

Raters are simulated: what one person sees of a photograph is its MOS plus normal noise. A rating is that, rounded to
one of five stars; a comparison is which of two such perceptions is larger, a tie where they are nearer than a tenth of
the scale. BIQ2021 states no spread of its votes; sets that do (KonIQ-10k, SPAQ) have a standard deviation of single
votes of about .15 of the scale, which is taken here. Side by side people are surer than one picture at a time, by
how much depends on the question: --pair-noise gives the noise of comparisons, the same and half of it are reported.

Settings were chosen on one half (--half choice), figures are of the other. Photographs with a near-identical one among
those that the ratings predictor was trained on are left out, as in ``studies/head_start.py``. For every seed 200
photographs are held out, answers are drawn from the others, and SRCC is that of predictions with the MOS held out.

    python studies/pairs.py dev/labels.csv --images dev/images --rated train.csv --rated-images train
    python studies/pairs.py dev/labels.csv --images dev/images --rated train.csv --rated-images train --half choice
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from head_start import TWIN, nearest, read
from numpy.typing import NDArray

from grepq_iqa import GRepQ
from grepq_iqa.benchmark.splits import choice_half
from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key
from grepq_iqa.labeling.pair_selection import select_pairs
from grepq_iqa.labeling.selection import select
from grepq_iqa.metrics import srcc

Array = NDArray[np.float64]

COUNTS = (10, 20, 50, 100, 200)
NOISE = 0.15
TIE = 0.1
TEST = 200
STEPS = (0.0, 0.1, 0.25, 0.4, 0.5)
ANCHORS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rated", type=Path)
    parser.add_argument("--rated-images", type=Path)
    parser.add_argument("--half", choices=("choice", "report"), default="report")
    parser.add_argument("--pair-noise", type=float, nargs="+", default=[NOISE, NOISE / 2])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--prior", default="auto")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--cache", type=Path, default=default_directory())
    options = parser.parse_args()
    model = GRepQ.from_pretrained(device="cpu")
    cache = FeatureCache(options.cache, model_key(model))
    features, mos = read(model, options.labels, options.images, cache)
    kept = np.ones(len(mos), dtype=bool)
    if options.rated:
        rated, _ = read(model, options.rated, options.rated_images, cache)
        kept = nearest(model, features, rated) <= TWIN
        print(f"{(~kept).sum()} photographs with a near-identical one among the rated ones are left out")
    chosen = np.isin(np.arange(len(mos)), choice_half(len(mos)))
    kept &= chosen if options.half == "choice" else ~chosen
    features, mos = features[kept], mos[kept]
    mos = (mos - mos.min()) / np.ptp(mos)
    print(f"half '{options.half}': {len(mos)} photographs, head start {options.prior}, noise of a rating {NOISE}")
    for noise in options.pair_noise:
        table = measure(model, features, mos, options, noise)
        print(f"\nnoise of a comparison {noise:.3f}: median SRCC over {options.seeds} splits\n{'answers':34}", end="")
        print(*(f"{n:>8}" for n in options.counts))
        for name, found in table.items():
            print(f"{name:34}", *(f"{np.median(found[n]):8.3f}" if found[n] else f"{'':>8}" for n in options.counts))


def measure(
    model: GRepQ, features: Array, mos: Array, options: argparse.Namespace, noise: float
) -> dict[str, dict[int, list[float]]]:
    table: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    statistics = {"feature_mean": model.feature_mean, "feature_scale": model.feature_scale}
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(mos))
        test, pool = order[:TEST], order[TEST:]
        X, y = features[pool], mos[pool]
        high = model.high_level_scores(X)
        expected = model.ratings.opinion(X, high) if model.ratings is not None else high

        def result(name: str, n: int, test: NDArray[np.intp] = test) -> None:
            predicted = model.predict(features=features[test], confidence=0.5).mos
            table[name][n].append(srcc(predicted, mos[test]))

        for n in options.counts:
            for name, rows in (
                ("ratings, drawn", rng.permutation(len(pool))[:n]),
                ("ratings, chosen by select", select(X, high, n, **statistics)),
            ):
                model.fit(features=X[rows], mos=stars(y[rows], rng), prior=options.prior)
                result(name, n)
            candidates = [("pairs, drawn", drawn(len(pool), n, rng))]
            steps = STEPS if options.half == "choice" else (0.5,)
            candidates += [
                (f"pairs, chosen, step {step}", select_pairs(X, expected, n, step=step, seed=seed, **statistics))
                for step in steps
            ]
            chosen_images = rng.permutation(select(X, expected, min(2 * n, len(pool) // 2 * 2), **statistics)).reshape(
                -1, 2
            )
            candidates.append(("pairs of chosen images, drawn", chosen_images[:n]))
            for name, ends in candidates:
                answers = compared(y, ends, noise, rng)
                if (answers == 0.5).all():
                    continue
                model.fit_pairs(X, ends, answers, prior=options.prior)
                result(name, n)
            if n > ANCHORS:
                ends, starred = candidates[0][1][: n - ANCHORS], rng.permutation(len(pool))[:ANCHORS]
                given = np.full(len(pool), np.nan)
                given[starred] = stars(y[starred], rng)
                model.fit_pairs(X, ends, compared(y, ends, noise, rng), mos=given, prior=options.prior)
                result(f"pairs, drawn, {ANCHORS} of them ratings", n)
    return table


def stars(mos: Array, rng: np.random.Generator) -> Array:
    """One rating each, 1 to 5, of MOS in 0..1."""
    return np.clip(np.round(1 + 4 * (mos + rng.normal(scale=NOISE, size=len(mos)))), 1, 5)


def compared(mos: Array, ends: NDArray[np.intp], noise: float, rng: np.random.Generator) -> Array:
    seen = mos[ends] + rng.normal(scale=noise, size=ends.shape)
    difference = seen[:, 0] - seen[:, 1]
    return np.where(np.abs(difference) < TIE, 0.5, (difference > 0).astype(float))


def drawn(images: int, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pairs ``(n, 2)`` at random, every image once before any comes again."""
    rounds = [rng.permutation(images)[: images // 2 * 2].reshape(-1, 2) for _ in range(-(-n // (images // 2)))]
    return np.concatenate(rounds)[:n]


if __name__ == "__main__":
    main()
