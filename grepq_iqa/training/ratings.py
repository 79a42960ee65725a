"""The ratings predictor: from the shipped encoders' features to what people said of photographs.

The encoders, Q and its tables are finished before and stay as they are: this adds ``ratings.safetensors`` to a model
directory, and says in its config.json and card whose ratings they are. It is the mean of a ridge regression, whose
penalty is chosen by leave-one-out among the regressor's own, and of a kernel ridge on principal components; where the
recipe says so, small networks (:mod:`.ratings_network`), which may also learn from copies of the photographs
(:mod:`.rated_copies`), have a share beside both. A fixed share of Q_H is mixed in, by standard deviations: synthetic
distortions are rare among rated photographs, and Q_H knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa._version import __version__
from grepq_iqa.batch import collect, score_paths
from grepq_iqa.calibration.ratings import HIGHEST, LOWEST, RATINGS, RatingsPredictor, likeness, write_ratings
from grepq_iqa.calibration.regressor import MOSRegressor, feature_statistics, standardize
from grepq_iqa.calibration.storage import CALIBRATION
from grepq_iqa.cli.progress import track
from grepq_iqa.data.labels import Labels, read_labels
from grepq_iqa.encoders.perceptron import Layers
from grepq_iqa.errors import LabelsError, UsageError
from grepq_iqa.feature_cache import FeatureCache
from grepq_iqa.model import GRepQ
from grepq_iqa.training.rated_copies import features_of_copies
from grepq_iqa.training.ratings_network import fit_networks
from grepq_iqa.training.recipe import RatingsRecipe, describe
from grepq_iqa.training.run_record import list_hash
from grepq_iqa.weights.config import read_config, write_config
from grepq_iqa.weights.loading import load_components
from grepq_iqa.weights.manifest import MODEL_FILES
from grepq_iqa.weights.model_card import write_card

# Steps of the stored residual quantiles, and fewest photographs that make a part of the range.
LEVELS, FEWEST = 201, 20

Array = NDArray[np.float64]


def train_ratings(
    model: GRepQ,
    directory: Path,
    table: Path,
    recipe: RatingsRecipe,
    *,
    recipe_name: str | None = None,
    images: Path | None = None,
    name: str,
    license: str,
    description: str,
    bounds: tuple[float, float],
    cache: FeatureCache | None = None,
) -> RatingsPredictor:
    """Write ``ratings.safetensors`` into a model directory, with its provenance in config.json and card.

    Args:
        model: by whose features; from `load_encoders`.
        directory: of the model.
        table: of photographs and mean opinion scores.
        recipe: section ``[ratings]``.
        recipe_name: of the recipe.
        images: folder that the table's paths start from; None: the table's own.
        name, license, description: of the ratings, for the provenance: data set, license, how they were made.
        bounds: scores of the table that mean the worst and the best, 0 and 100 of an expected opinion.
        cache: of features; None: none is kept.

    Raises:
        UsageError: the bounds do not enclose the scores.
        LabelsError: a table that cannot be read, an image that cannot be used, or too few of them.
        WeightsError: the config of the directory cannot be read.
    """
    labels = read_rated(table, recipe, bounds, images)
    low, high = bounds
    results = score_paths(model, labels.paths, features=True, cache=cache)
    found = collect(track(results, "features", total=len(labels)))
    if found.failures:
        problems = tuple(f"line {labels.lines[i]}: {labels.paths[i]}: {error}" for i, error in found.failures)
        raise LabelsError(f"{table}: {len(problems)} images cannot be used", str(table), problems)
    opinions = LOWEST + (labels.mos - low) / (high - low) * (HIGHEST - LOWEST)
    if labels.lower_is_better:
        opinions = HIGHEST + LOWEST - opinions

    statistics = feature_statistics(found.features.astype(np.float64), model.feature_mean, model.feature_scale)
    copies = None
    if recipe.copies and recipe.network_share:
        copies = features_of_copies(model, labels.paths, recipe.copies, cache)
    predictor, alpha = fit_ratings(
        found.features,
        model.high_level_scores(found.features),
        opinions,
        recipe,
        mean=statistics[0],
        scale=statistics[1],
        copies=copies,
    )
    write_ratings(directory / RATINGS, predictor, model.encoder_hash)
    config = read_config(str(directory), directory / "config.json")
    config.setdefault("provenance", {})["ratings"] = {
        "recipe": recipe_name,
        "settings": describe(recipe) | {"alpha": alpha},
        "data": [
            {"role": "rated", "name": name, "license": license, "count": len(labels)}
            | {"sha256": list_hash(labels.paths, labels.mos)}
        ],
        "ratings": description,
        "dtype": str(model.dtype).removeprefix("torch."),
        "code_version": __version__,
    }
    write_config(directory / "config.json", config)
    write_card(directory)
    return predictor


def read_rated(table: Path, recipe: RatingsRecipe, bounds: tuple[float, float], images: Path | None = None) -> Labels:
    """The table of `train_ratings`, without reading an image.

    Raises:
        UsageError, LabelsError: as there.
    """
    labels = read_labels(table, images=images)
    low, high = bounds
    if not low <= labels.mos.min() <= labels.mos.max() <= high:
        raise UsageError(
            f"{table}: scores go from {labels.mos.min():g} to {labels.mos.max():g}, not within the bounds {low:g} to "
            f"{high:g}; say which scores mean the worst and the best"
        )
    _require_enough(len(labels), recipe)
    return labels


def load_encoders(directory: Path, dtype: str = "auto") -> GRepQ:
    """The model in a directory as it is without ratings, whatever is wrong with those that are there.

    Raises:
        WeightsError: no model is there, or it cannot be read.
    """
    names = [name for name in MODEL_FILES if name not in (RATINGS, CALIBRATION)]
    files = {name: directory / name for name in names if (directory / name).is_file()}
    return GRepQ(load_components(str(directory), files), files, name=str(directory), device="cpu", dtype=dtype)


def fit_ratings(
    features: ArrayLike,
    high_level: ArrayLike,
    opinions: ArrayLike,
    recipe: RatingsRecipe,
    *,
    mean: ArrayLike,
    scale: ArrayLike,
    copies: tuple[ArrayLike, NDArray[np.int64]] | None = None,
) -> tuple[RatingsPredictor, float]:
    """The predictor and the penalty chosen.

    Everything beyond the fits, intervals included, rests on predictions of photographs that they had not seen.

    Args:
        features: ``(n, d)``.
        high_level: Q_H, ``(n,)``.
        opinions: mean opinion scores on 0..100, ``(n,)``.
        recipe: settings.
        mean, scale: ``(d,)``, statistics of features over unlabeled in-the-wild images.
        copies: features ``(m, d)`` of copies of the photographs, and of which each is one, ``(m,)``; the networks learn
            from them, too.

    Raises:
        LabelsError: too few opinions for the recipe's parts of the range, or all equal.
    """
    rows = np.asarray(features, dtype=np.float64)
    score, y = np.asarray(high_level, dtype=np.float64), np.asarray(opinions, dtype=np.float64)
    _require_enough(len(y), recipe)
    ridge = MOSRegressor(feature_mean=mean, feature_scale=scale, clip=recipe.clip).fit(rows, y)
    Z = standardize(rows, ridge.mean_, ridge.scale_, recipe.clip)
    kernel = _fit_kernel(Z, y, recipe)
    half = (1 - recipe.network_share) / 2
    unseen = half * (ridge.loo_predictions_ + kernel.loo_predictions)
    constant = half * (ridge.intercept_ + kernel.intercept)
    networks: Layers = ()
    if recipe.network_share:
        more = None
        if copies is not None:
            of_copies = np.asarray(copies[0], dtype=np.float64)
            more = standardize(of_copies, ridge.mean_, ridge.scale_, recipe.clip), copies[1]
        fitted = fit_networks(Z, y, recipe, copies=more)
        networks = fitted.layers
        unseen = unseen + recipe.network_share * fitted.unseen_predictions
    # mix = (mean of all - its mean) / its spread + share (Q_H - its mean) / its spread; then on the opinions' scale
    spread, score_spread = unseen.std(), max(float(score.std()), 1e-6)
    mix = (unseen - unseen.mean()) / spread + recipe.score_share * (score - score.mean()) / score_spread
    slope = float(mix @ y / (mix @ mix))
    of_mean, of_score = slope / spread, slope * recipe.score_share / score_spread
    intercept = y.mean() + of_mean * (constant - unseen.mean()) - of_score * score.mean()
    expected = y.mean() + slope * mix
    centers, quantiles, counts = _residual_quantiles(expected, np.abs(y - expected), recipe.parts)
    predictor = RatingsPredictor(
        coef=of_mean * half * ridge.coef_,
        mean=ridge.mean_,
        scale=ridge.scale_,
        clip=np.array([recipe.clip]),
        intercept=np.array([intercept]),
        score_coef=np.array([of_score]),
        basis=kernel.basis,
        points=kernel.points,
        dual=of_mean * half * kernel.dual,
        width=np.array([kernel.width]),
        expected=np.array([expected.mean(), expected.std()]),
        centers=centers,
        quantiles=quantiles,
        counts=counts,
        networks=_times(networks, of_mean * recipe.network_share),
    )
    return predictor, ridge.alpha_


def _times(layers: Layers, factor: float) -> Layers:
    """An ensemble whose outputs are ``factor`` times as large."""
    if not layers:
        return layers
    *hidden, (weight, bias) = layers
    return *hidden, (weight * np.float32(factor), bias * np.float32(factor))


@dataclass(frozen=True)
class _Kernel:
    """Kernel ridge regression ``intercept + likeness(z basis, points) dual``, and its word on those unseen."""

    basis: Array
    points: Array
    dual: Array
    width: float
    intercept: float
    loo_predictions: Array


def _fit_kernel(Z: Array, y: Array, recipe: RatingsRecipe) -> _Kernel:
    """Solve ``[[K + penalty I, 1], [1', 0]] [dual, intercept] = [y, 0]``; the intercept is not penalized.

    With B the inverse of that matrix, the residual of a photograph under the fit without it is ``dual_i / B_ii``. The
    principal components, which see no rating, are kept.
    """
    centered = Z - Z.mean(axis=0)
    # The components of the smaller Gram matrix; those of the other follow.
    if len(Z) <= Z.shape[1]:
        basis = centered.T @ np.linalg.eigh(centered @ centered.T)[1][:, -recipe.components :]
        basis /= np.linalg.norm(basis, axis=0)
    else:
        basis = np.linalg.eigh(centered.T @ centered)[1][:, -recipe.components :]
    # As they will be stored, so that both sides of a distance are rounded alike.
    basis = basis.astype(np.float16).astype(np.float64)
    points = (Z @ basis).astype(np.float16).astype(np.float64)
    n = len(y)
    squared = (points**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * points @ points.T
    width = float(np.sqrt(np.median(squared)))
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = likeness(points, points, width) + recipe.kernel_penalty * np.eye(n)
    system[n, n] = 0
    inverse = np.linalg.inv(system)
    solution = inverse @ np.append(y, 0)
    dual, intercept = solution[:n], float(solution[n])
    return _Kernel(basis, points, dual, width, intercept, y - dual / np.diag(inverse)[:n])


def _require_enough(count: int, recipe: RatingsRecipe) -> None:
    if count < FEWEST * recipe.parts:
        raise LabelsError(f"{count} rated photographs are too few; {FEWEST * recipe.parts} are needed")


def _residual_quantiles(expected: Array, residuals: Array, parts: int) -> tuple[Array, Array, Array]:
    """Centers ``(parts,)``, quantiles ``(parts, LEVELS)`` and counts of equally large parts of the range of m."""
    members = np.array_split(np.argsort(expected, kind="stable"), parts)
    levels = np.linspace(0, 1, LEVELS)
    centers = np.array([np.median(expected[part]) for part in members])
    quantiles = np.stack([np.quantile(residuals[part], levels, method="higher") for part in members])
    return centers, quantiles, np.array([len(part) for part in members], dtype=np.float64)
