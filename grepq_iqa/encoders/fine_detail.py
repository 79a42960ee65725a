"""The full-resolution branch: amounts of light blur, noise and compression, which no tower sees, from a few views.

Views are squares at fixed places, of the picture as the towers see it, and, where that was shrunk, close-ups of its own
pixels. The branch is NumPy, so that every engine answers the same. ``python -m grepq_iqa.training fine-detail`` trains
it, without human scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.images import DecodedImage
from grepq_iqa.data.traces import BLOCK
from grepq_iqa.encoders.fine_measures import MEASURES, measure_fine
from grepq_iqa.encoders.perceptron import Layers, layers_state, perceptron, pop_layers

Array = NDArray[np.float32]

FINE_DETAIL = "fine_detail.safetensors"

AMOUNTS = ("blur", "noise", "compression")
VIEW = 192
"""Side of a view in pixels."""
ACROSS = 2
"""Views along each side of a picture that has room for them."""
CLOSE_UPS = 6
"""Cuts, at most, of a picture larger than the model looks at."""
MOST = 6.0
"""No amount is larger; 5 is a Gaussian of 5 pixels, noise of 32 levels, or a JPEG file of quality 1."""


class PreparedImage(NamedTuple):
    """A decoded picture, and its amounts where the model has this branch."""

    decoded: DecodedImage
    amounts: Array | None


@dataclass(frozen=True)
class FineDetail:
    """A small ensemble that reads `measure_fine`, and what its amounts cost.

    Attributes:
        mean, scale: ``(m,)`` of the measures in training.
        layers: of the ensemble.
        weight: ``(len(AMOUNTS),)``, how far an amount of one moves the embedding along bad - good.
        expected: ``(len(AMOUNTS),)``, amounts that together move it nowhere, those of in-the-wild images.
        close_up: what an amount counts that only close-ups show, beside one that the whole picture shows.
    """

    mean: Array
    scale: Array
    layers: Layers
    weight: Array = field(default_factory=lambda: np.zeros(len(AMOUNTS), np.float32))
    expected: Array = field(default_factory=lambda: np.zeros(len(AMOUNTS), np.float32))
    close_up: float = 0.5

    CLIP = 5.0

    def __call__(self, pixels: Array, close_ups: tuple[Array, ...] | list[Array] = ()) -> Array:
        """Amounts ``(len(AMOUNTS),)`` of a picture ``(3, h, w)`` and its close-ups, together."""
        amounts = self.of_views(fixed_views(pixels))
        return amounts + np.float32(self.close_up) * self.of_views(list(close_ups)) if close_ups else amounts

    def shift(self, amounts: Array) -> Array:
        """How far the embedding moves along good - bad for amounts ``(n, len(AMOUNTS))``."""
        moved: Array = ((self.expected - amounts) @ self.weight).astype(np.float32)
        return moved

    def of_measures(self, measures: Array) -> Array:
        """Amounts ``(n, len(AMOUNTS))``, each 0 to `MOST`, of measures ``(n, m)``."""
        z = np.clip((measures - self.mean) / self.scale, -self.CLIP, self.CLIP)
        return np.clip(perceptron(self.layers, z), 0, MOST)

    def of_views(self, views: list[Array]) -> Array:
        """Amounts ``(len(AMOUNTS),)`` of the picture that the views ``(3, s, s)`` are of.

        As sharp as its sharpest view, for a background may be meant to blur; of noise and compression the mean.
        """
        found = self.of_measures(np.stack([measure_fine(view) for view in views]))
        amounts: Array = found.mean(0)
        amounts[AMOUNTS.index("blur")] = found[:, AMOUNTS.index("blur")].min()
        return amounts


def fixed_views(pixels: Array) -> list[Array]:
    """Squares of `VIEW` pixels on the grid of blocks, or as large as the picture ``(3, h, w)`` allows; no overlap."""
    places = [_places(size) for size in pixels.shape[1:]]
    side = min(VIEW, *pixels.shape[1:])
    return [pixels[:, top : top + side, left : left + side] for top, left in product(*places)]


def _places(size: int) -> list[int]:
    """Where views begin along a side."""
    count = max(1, min(ACROSS, size // VIEW))
    room = max(0, size - VIEW)
    middles = [room // 2] if count == 1 else [round(room * k / (count - 1) * 0.5 + room * 0.25) for k in range(count)]
    if count > 1 and middles[1] - middles[0] < VIEW:
        middles = [0, room]
    return [place // BLOCK * BLOCK for place in middles]


def to_state(fine: FineDetail) -> dict[str, NDArray[Any]]:
    """Arrays for a safetensors file."""
    cost = {"weight": fine.weight, "expected": fine.expected, "close_up": np.array(fine.close_up, np.float32)}
    return {"mean": fine.mean, "scale": fine.scale} | cost | layers_state(fine.layers)


def from_state(state: dict[str, NDArray[Any]]) -> FineDetail:
    """What `to_state` gave.

    Raises:
        KeyError: an array is missing.
        ValueError: it was made for other measures.
    """
    arrays = dict(state)
    layers = pop_layers(arrays)
    weight, expected = arrays.pop("weight"), arrays.pop("expected")
    if weight.ndim == expected.ndim == 0:  # models made before 0.2 was out had one weight, and the sum of the amounts
        weight, expected = np.repeat(weight, len(AMOUNTS)), np.repeat(expected / np.float32(len(AMOUNTS)), len(AMOUNTS))
    fine = FineDetail(arrays.pop("mean"), arrays.pop("scale"), layers, weight, expected, float(arrays.pop("close_up")))
    of_kinds = [weight.shape, expected.shape, *(bias.shape[-1:] for _, bias in layers[-1:])]
    if fine.mean.shape != (len(MEASURES),) or not layers or set(of_kinds) != {(len(AMOUNTS),)}:
        raise ValueError("it was made for other measures")
    return fine
