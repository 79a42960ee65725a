"""What a head start is worth: opinions expected before any label, few labels with each prior, and intervals.

Settings are chosen on one half of the labeled set (`grepq_iqa.benchmark.splits.choice_half`); figures are of the other,
or with --half choice of the first. Photographs with a near-identical one among the rated ones are left out: --rated
names the table that the ratings predictor was trained on.

    python studies/head_start.py dev/labels.csv --images dev/images --rated train.csv --rated-images train
    python studies/head_start.py dev/labels.csv --images dev/images --rated train.csv --rated-images train --half choice
    python studies/head_start.py --synthetic pristine

The last takes clean photographs, shrinks them to 60 % (theirs are JPEGs), distorts their middles at three severities by
eight families, and takes the severity as what people would say; photographs are held out whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa import GRepQ
from grepq_iqa.batch import collect, score_paths
from grepq_iqa.benchmark.splits import choice_half
from grepq_iqa.calibration.prior import Prior
from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.labels import read_labels
from grepq_iqa.feature_cache import FeatureCache, default_directory, model_key
from grepq_iqa.labeling.selection import select
from grepq_iqa.metrics import srcc

Array = NDArray[np.float64]

PRIORS: tuple[Prior, ...] = ("none", "zero-shot", "ratings", "both")
COUNTS = (5, 10, 20, 50, 100, 200)
CONFIDENCES = (0.8, 0.9, 0.95)
# Cosine of standardized features: above it lie copies, crops and other takes of one scene, looked at by eye.
TWIN = 0.96
FAMILIES = (
    *("gaussian_blur", "motion_blur", "white_noise", "jpeg"),
    *("jpeg2000", "underexposure", "low_contrast", "oversaturation"),
)
SEVERITIES = (1, 2.5, 4)
SIDE, CLEAN = 384, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="?")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rated", type=Path, help="table that the ratings predictor was trained on")
    parser.add_argument("--rated-images", type=Path)
    parser.add_argument("--half", choices=("choice", "report"), default="report")
    parser.add_argument("--synthetic", type=Path, help="folder of clean photographs")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--model")
    parser.add_argument("--cache", type=Path, default=default_directory())
    options = parser.parse_args()
    model = GRepQ.from_pretrained(options.model, device="cpu")
    if options.synthetic:
        features, mos, scene = synthetic(model, options.synthetic)
        learning(model, features, mos, options.splits, scene)
    if options.labels is None:
        return
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
    print(f"half '{options.half}': {len(mos)} photographs")
    before(model, features, mos)
    learning(model, features, mos, options.splits)
    coverage(model, features, mos, options.splits)
    selection(model, features, mos, options.splits)


def read(model: GRepQ, table: Path, images: Path | None, cache: FeatureCache) -> tuple[Array, Array]:
    """Features ``(n, d)`` and MOS ``(n,)``, higher is better, of a table in order of name."""
    labels = read_labels(table, images=images)
    order = np.argsort([path.name for path in labels.paths], kind="stable")
    found = collect(score_paths(model, [labels.paths[i] for i in order], features=True, cache=cache))
    mos = labels.mos[order][list(found.indices)]
    return found.features.astype(np.float64), -mos if labels.lower_is_better else mos


def nearest(model: GRepQ, features: Array, others: Array) -> Array:
    """Cosine of every row's standardized features with those of the most similar of ``others``, ``(n,)``."""
    assert model.feature_mean is not None and model.feature_scale is not None
    rows, rated = (np.clip((X - model.feature_mean) / model.feature_scale, -3, 3) for X in (features, others))
    center = rated.mean(axis=0)
    rows, rated = rows - center, rated - center
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rated /= np.linalg.norm(rated, axis=1, keepdims=True)
    result: Array = (rows @ rated.T).max(axis=1)
    return result


def before(model: GRepQ, features: Array, mos: Array) -> None:
    """Expected opinions, no label used."""
    score = model.high_level_scores(features)
    print(f"\nno labels: SRCC of Q_H {srcc(score, mos):.3f}", end="")
    if model.ratings is None:
        print()
        return
    opinion = model.ratings.opinion(features, score)
    scaled = 100 * mos if mos.max() <= 1 else mos  # MOS of 0..1 are what the predictor calls 0..100
    print(f", of the expected opinion {srcc(opinion, mos):.4f} (bias {np.mean(opinion - scaled):+.1f} of 100)")
    shares(opinion, {c: model.ratings.interval(opinion, c) for c in CONFIDENCES}, scaled, "before a fit")


def splits_of(n: int, count: int, groups: Array | None = None) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pool and test part of ``count`` splits; a third is the test part, in whole groups where there are any."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        member = np.arange(n) if groups is None else groups
        names = rng.permutation(np.unique(member))
        held_out = np.isin(member, names[: len(names) // 3])
        found.append((rng.permutation(np.flatnonzero(~held_out)), np.flatnonzero(held_out)))
    return found


def learning(model: GRepQ, features: Array, mos: Array, splits: int, groups: Array | None = None) -> None:
    """Median SRCC by prior and number of labels; 0 labels on the same test parts."""
    parts = splits_of(len(mos), splits, groups)
    counts = [count for count in COUNTS if count <= min(len(pool) for pool, _ in parts)]
    score = model.high_level_scores(features)
    print(
        "\nmedian SRCC over",
        splits,
        "splits, by prior and labels\nprior           0" + "".join(f"{c:7d}" for c in counts),
    )
    for prior in PRIORS:
        if prior in ("ratings", "both") and model.ratings is None:
            continue
        start = score if prior == "zero-shot" or model.ratings is None else model.ratings.opinion(features, score)
        zero = "      " if prior == "none" else f"{np.median([srcc(start[test], mos[test]) for _, test in parts]):.3f} "
        rows, _ = model.regression(features, prior)
        line = [
            np.median([fitted(model, rows, features, mos, prior, pool[:n], test) for pool, test in parts])
            for n in counts
        ]
        print(f"{prior:10s} {zero:>7s} " + " ".join(f"{value:6.3f}" for value in line), flush=True)


def fitted(model: GRepQ, rows: Array, features: Array, mos: Array, prior: Prior, chosen: Any, test: Any) -> float:
    """SRCC on the test part after a fit on the chosen images."""
    _, regressor = model.regression(features[chosen], prior)
    return float(np.nan_to_num(srcc(regressor.fit(rows[chosen], mos[chosen]).predict(rows[test]), mos[test])))


def coverage(model: GRepQ, features: Array, mos: Array, splits: int) -> None:
    """Share of held-out labels inside their intervals, overall and in every third of the predictions."""
    for prior in ("none", "auto"):
        for n in (20, 50, 200):
            predicted, truth = [], []
            ends: dict[float, list[Any]] = {c: [] for c in CONFIDENCES}
            for pool, test in splits_of(len(mos), splits):
                rows, regressor = model.regression(features, prior)
                regressor.fit(rows[pool[:n]], mos[pool[:n]])
                predicted.append(regressor.predict(rows[test]))
                truth.append(mos[test])
                for c in CONFIDENCES:
                    ends[c].append(regressor.predict_interval(rows[test], c))
            both = {c: (np.concatenate([e[0] for e in v]), np.concatenate([e[1] for e in v])) for c, v in ends.items()}
            shares(np.concatenate(predicted), both, np.concatenate(truth), f"prior {prior}, {n} labels")


def shares(predicted: Array, intervals: dict[float, tuple[Array, Array]], mos: Array, title: str) -> None:
    """One line: coverage overall and in the lowest, middle and highest third of the predictions, and median width."""
    thirds = np.array_split(np.argsort(predicted, kind="stable"), 3)
    print(f"intervals, {title}:", end="")
    for confidence, (low, high) in intervals.items():
        held = (low <= mos) & (mos <= high)
        each = " / ".join(f"{held[third].mean():.3f}" for third in thirds)
        print(f"  {confidence:.0%}: {held.mean():.3f} ({each}), width {np.median(high - low):.3g}", end="")
    print(flush=True)


def selection(model: GRepQ, features: Array, mos: Array, splits: int) -> None:
    """I-optimal choice against labels drawn at random, paired, by prior."""
    score = model.high_level_scores(features)
    print("\nchosen by `grepq select` less drawn at random, mean SRCC gain +- standard error")
    priors: tuple[Prior, ...] = ("none", "auto")
    for prior in priors:
        rows, _ = model.regression(features, prior)
        for n in (20, 50):
            gains = []
            for seed, (pool, test) in enumerate(splits_of(len(mos), splits)):
                picks = pool[
                    select(
                        features[pool].astype(np.float32),
                        score[pool],
                        n,
                        feature_mean=model.feature_mean,
                        feature_scale=model.feature_scale,
                        seed=seed,
                    )
                ]
                drawn = [pool[np.random.default_rng(draw).permutation(len(pool))[:n]] for draw in range(5)]
                by_chance = np.mean([fitted(model, rows, features, mos, prior, some, test) for some in drawn])
                gains.append(fitted(model, rows, features, mos, prior, picks, test) - by_chance)
            print(
                f"prior {prior}, {n} labels: {np.mean(gains):+.3f} +- {np.std(gains) / np.sqrt(len(gains)):.3f}",
                flush=True,
            )


def synthetic(model: GRepQ, folder: Path) -> tuple[Array, Array, Array]:
    """Features ``(n, d)`` of distorted photographs, minus their severity, and which photograph each shows."""
    from PIL import Image

    from grepq_iqa.training.data.distortions import distort

    paths = list(iter_image_paths([str(folder)]))
    features, severity, scene = [], [], []
    for number, path in enumerate(paths[:: max(1, len(paths) // CLEAN)][:CLEAN]):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image = image.resize((round(image.width * 0.6), round(image.height * 0.6)), Image.Resampling.LANCZOS)
        left, top = max(0, (image.width - SIDE) // 2), max(0, (image.height - SIDE) // 2)
        crop = image.crop((left, top, min(image.width, left + SIDE), min(image.height, top + SIDE)))
        clean = np.asarray(crop, dtype=np.float32) / 255
        for family, amount in [("", 0.0)] + [(family, amount) for family in FAMILIES for amount in SEVERITIES]:
            shown = distort(clean, family, amount, np.random.default_rng(0)) if family else clean
            features.append(model.features([np.round(shown * 255).astype(np.uint8)])[0])
            severity.append(amount)
            scene.append(number)
    print(f"\nsynthetic: {len(features)} pictures of {number + 1} photographs")
    return np.stack(features).astype(np.float64), -np.array(severity), np.array(scene, dtype=np.float64)


if __name__ == "__main__":
    main()
