"""Ensembles of small perceptrons in NumPy: how they are evaluated, and how they lie in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float32]
Layers = tuple[tuple[Array, Array], ...]
"""Weights ``(networks, inputs, outputs)`` and biases ``(networks, 1, outputs)`` of each layer of an ensemble."""


def perceptron(layers: Layers, x: Array) -> Array:
    """The mean of an ensemble's outputs ``(n, outputs)`` for inputs ``(n, inputs)``, with rectifiers between layers."""
    hidden = x[None]
    for index, (weight, bias) in enumerate(layers):
        hidden = hidden @ weight + bias
        if index < len(layers) - 1:
            hidden = np.maximum(hidden, 0)
    result: Array = hidden.mean(0)
    return result


def layers_state(layers: Layers) -> dict[str, NDArray[Any]]:
    """Arrays of layers for a file; weights as float16."""
    state: dict[str, NDArray[Any]] = {}
    for index, (weight, bias) in enumerate(layers):
        # safetensors writes memory as it lies, whatever the strides
        state[f"layers.{index}.weight"] = np.ascontiguousarray(weight, dtype=np.float16)
        state[f"layers.{index}.bias"] = bias.astype(np.float32)
    return state


def pop_layers(state: dict[str, NDArray[Any]]) -> Layers:
    """The layers that `layers_state` wrote, taken out of ``state``."""
    count = sum(name.startswith("layers.") and name.endswith(".weight") for name in state)
    return tuple(
        (state.pop(f"layers.{i}.weight").astype(np.float32), state.pop(f"layers.{i}.bias")) for i in range(count)
    )


def layers_of(networks: Sequence[nn.Sequential]) -> Layers:
    """Weights and biases of equally built networks of torch."""
    linear = [[module for module in network if hasattr(module, "in_features")] for network in networks]
    return tuple(
        (
            np.stack([one.weight.detach().numpy().T for one in same]),
            np.stack([one.bias.detach().numpy()[None] for one in same]),
        )
        for same in zip(*linear, strict=True)
    )
