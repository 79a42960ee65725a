"""What FSIM would say of a picture against its undistorted source, told without that source.

The high-level projection is linear, so it can't weigh distortions of unlike families against each other well: a person
minds much of one more than a little of three. A few small networks read what the distortion head and the
full-resolution branch tell and answer a rank of FSIM (Zhang et al. 2011): .5 is untouched, -.5 the worst copy in
training, and 0 what the networks take for a photograph as photographs are. It is NumPy, so that every engine answers
the same. ``python -m grepq_iqa.training predicted-fsim`` trains it, without human scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.encoders.perceptron import Layers, layers_state, perceptron, pop_layers

Array = NDArray[np.float32]

PREDICTED_FSIM = "predicted_fsim.safetensors"


@dataclass(frozen=True)
class PredictedFsim:
    """A small ensemble, and what its answer is worth.

    Attributes:
        inputs: positions in a feature vector of what it reads, ``(m,)``.
        mean, scale: of these in training, ``(m,)``.
        layers: of the ensemble.
        weight: how far an answer of 1 moves the embedding along good - bad.
        expected: the answer that moves it nowhere, the mean over in-the-wild images.
    """

    inputs: NDArray[np.int64]
    mean: Array
    scale: Array
    layers: Layers
    weight: float = 0.0
    expected: float = 0.0

    CLIP = 5.0

    def __call__(self, features: Array) -> Array:
        """Ranks of FSIM ``(n,)``, about -.5 to .5, of feature vectors ``(n, d)``."""
        return self.of_inputs(features[:, self.inputs])

    def of_inputs(self, read: Array) -> Array:
        """The same of what is read ``(n, m)``."""
        z = np.clip((read - self.mean) / self.scale, -self.CLIP, self.CLIP)
        return perceptron(self.layers, z)[:, 0]

    def shift(self, features: Array) -> Array:
        """How far embeddings move along good - bad, ``(n,)``, for feature vectors ``(n, d)``."""
        moved: Array = np.float32(self.weight) * (self(features) - np.float32(self.expected))
        return moved


def to_state(predicted: PredictedFsim) -> dict[str, NDArray[Any]]:
    """Arrays for a safetensors file."""
    state: dict[str, NDArray[Any]] = {name: getattr(predicted, name) for name in ("inputs", "mean", "scale")}
    worth = {name: np.array(getattr(predicted, name), np.float32) for name in ("weight", "expected")}
    return state | worth | layers_state(predicted.layers)


def from_state(state: dict[str, NDArray[Any]]) -> PredictedFsim:
    """What `to_state` gave.

    Raises:
        KeyError: an array is missing.
        ValueError: arrays do not fit each other.
    """
    arrays = dict(state)
    layers = pop_layers(arrays)
    inputs = arrays.pop("inputs").astype(np.int64)
    mean, scale = (arrays.pop(name).astype(np.float32) for name in ("mean", "scale"))
    shapes = {inputs.shape, mean.shape, scale.shape, *(weight.shape[1:2] for weight, _ in layers[:1])}
    if not layers or len(shapes) != 1 or layers[-1][1].shape[-1] != 1:
        raise ValueError("its arrays do not fit each other")
    return PredictedFsim(inputs, mean, scale, layers, float(arrays.pop("weight")), float(arrays.pop("expected")))
