"""Small networks from features to opinions, a part of the ratings predictor: what a ridge and a kernel cannot bend to.

Each is a perceptron of one hidden layer that sees a random half of its inputs at every step (Srivastava et al.,
"Dropout", JMLR 2014), which is what keeps thousands of features and thousands of photographs in balance. The loss is
that of opinions and of their differences in pairs, for order counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.encoders.perceptron import Layers, layers_of, perceptron
from grepq_iqa.training.recipe import RatingsRecipe
from grepq_iqa.training.small_networks import LEARNING_RATE, train_small

Array = NDArray[np.float64]
Copies: TypeAlias = "tuple[Array, NDArray[np.int64]]"
"""Features ``(m, d)`` of copies of photographs, and of which photograph each is one, ``(m,)``."""

FOLDS = 5
BATCH = 64
WEIGHT_DECAY = 0.05
DROPOUT = 0.5  # of inputs and of the hidden layer
PAIRS = 0.5  # weight of differences in the loss


@dataclass(frozen=True)
class Networks:
    """An ensemble from standardized features to opinions, and its word on photographs that it has not seen.

    Attributes:
        layers: as `grepq_iqa.encoders.perceptron.perceptron` takes them; one output.
        unseen_predictions: ``(n,)``, each by networks trained without the photograph.
    """

    layers: Layers
    unseen_predictions: Array


def fit_networks(Z: Array, y: Array, recipe: RatingsRecipe, seed: int = 0, copies: Copies | None = None) -> Networks:
    """Train ``recipe.networks``, and as many a fold.

    Args:
        Z, y: standardized features ``(n, d)`` and opinions ``(n,)``.
        recipe: settings.
        seed: of folds and weights.
        copies: of the photographs, to learn from as well; a fold leaves out its photographs' copies.
    """
    extra, of = copies or (Z[:0], np.empty(0, dtype=np.int64))
    rows, answers = np.concatenate([Z, extra]), np.concatenate([y, y[of]])
    unseen = np.empty(len(y))
    folds = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    for fold in range(FOLDS):
        out, kept = folds == fold, np.concatenate([folds, folds[of]]) != fold
        unseen[out] = _predict(_ensemble(rows[kept], answers[kept], recipe, seed=seed + 100 * (fold + 1)), Z[out])
    return Networks(_ensemble(rows, answers, recipe, seed=seed), unseen)


def _predict(layers: Layers, Z: Array) -> Array:
    return perceptron(layers, Z.astype(np.float32))[:, 0].astype(np.float64)


def _ensemble(Z: Array, y: Array, recipe: RatingsRecipe, seed: int) -> Layers:
    """Layers that take ``Z`` as it is and answer on the scale of ``y``."""
    center, spread = Z.mean(0), max(float(Z.std()), 1e-6)
    middle, height = float(y.mean()), max(float(y.std()), 1e-6)
    x = torch.from_numpy(((Z - center) / spread).astype(np.float32))
    target = torch.from_numpy(((y - middle) / height).astype(np.float32))
    networks = [_train(x, target, recipe, seed + k) for k in range(recipe.networks)]
    (first, first_bias), (last, last_bias) = layers_of(networks)
    first = first / np.float32(spread)
    first_bias = first_bias - center.astype(np.float32)[None, None] @ first
    return (first, first_bias), (last * np.float32(height), last_bias * np.float32(height) + np.float32(middle))


def _train(x: Tensor, target: Tensor, recipe: RatingsRecipe, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(x.shape[1], recipe.hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(recipe.hidden, 1),
        )

        def loss_of(index: Tensor) -> Tensor:
            found, wanted = network(x[index])[:, 0], target[index]
            of_pairs = F.smooth_l1_loss(found[:, None] - found, wanted[:, None] - wanted)
            return F.smooth_l1_loss(found, wanted) + PAIRS * of_pairs

        cycle = {"epochs": recipe.epochs, "batch": BATCH}
        return train_small(network, len(x), loss_of, highest_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, **cycle)
