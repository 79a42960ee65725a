"""From measures to severities: what the small networks tell, in which order, and how they are evaluated in NumPy.

``python -m grepq_iqa.training reasons`` writes the file that is read here. No human score goes into it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.encoders.perceptron import Layers, layers_state, perceptron, pop_layers
from grepq_iqa.errors import WeightsError
from grepq_iqa.explain.measures import MEASURES

Array = NDArray[np.float32]

GROUPS: dict[str, tuple[str, ...]] = {
    "sharpness": ("gaussian_blur", "defocus", "motion_blur", "smear"),
    "noise": ("white_noise", "sensor_noise", "impulse_noise"),
    "compression": ("jpeg", "jpeg2000", "webp", "quantization"),
    "dark": ("underexposure",),
    "bright": ("overexposure",),
    "contrast": ("low_contrast", "haze"),
    "color_cast": ("color_cast",),
    "dull": ("desaturation",),
    "garish": ("oversaturation",),
    "over_sharpening": ("oversharpening",),
    "upscaling": ("rescale",),
}
"""What can be wrong, and the families of distortions by which it is learned. Saturation has two sides."""
FAMILIES = tuple(family for members in GROUPS.values() for family in members)
OUTPUTS = (*GROUPS, *(family for family in FAMILIES if family not in GROUPS))
"""Severities 0 to 5 of the groups, then of the families, which only tell the kind."""
WORST = 5.0
FILE = Path(__file__).with_name("reasons.safetensors")
STEPS = 101  # of the stored quantiles


@dataclass(frozen=True)
class Severities:
    """What the networks say of one view.

    Attributes:
        groups: severity by name of `GROUPS`, 0 to 5.
        kinds: of every group the family that it looks most like.
    """

    groups: dict[str, float]
    kinds: dict[str, str]


@dataclass(frozen=True)
class Network:
    """Means of the measures, an ensemble of perceptrons, and where each severity stands among photographs.

    Attributes:
        mean, scale: ``(m,)`` of the measures in training.
        layers: of the ensemble.
        first: thresholds ``(groups,)`` above which something is named.
        further: likewise, where something else is named already.
        quantiles: ``(groups, STEPS)``, of severities of unlabeled in-the-wild photographs.
    """

    mean: Array
    scale: Array
    layers: Layers
    first: dict[str, float]
    further: dict[str, float]
    quantiles: dict[str, Array]

    CLIP = 5.0

    def outputs(self, measures: Array) -> Array:
        """Severities ``(n, len(OUTPUTS))`` of measures ``(n, m)``, before they are limited to 0..5."""
        x = np.clip((measures - self.mean) / self.scale, -self.CLIP, self.CLIP)
        return perceptron(self.layers, x)

    def severities(self, measures: Array) -> Severities:
        """Of one view's measures ``(m,)``."""
        found = dict(zip(OUTPUTS, np.clip(self.outputs(measures[None])[0], 0, WORST).tolist(), strict=True))
        kinds = {group: max(members, key=lambda family: found[family]) for group, members in GROUPS.items()}
        return Severities({group: found[group] for group in GROUPS}, kinds)

    def named(self, groups: dict[str, float]) -> list[str]:
        """Names of the groups that stand out, most severe first."""
        first = [name for name, severity in groups.items() if severity > self.first[name]]
        if not first:
            return []
        further = [name for name, severity in groups.items() if severity > self.further[name]]
        return sorted({*first, *further}, key=lambda name: (name not in first, -groups[name]))

    def percentile(self, group: str, severity: float) -> float:
        """The share of in-the-wild photographs in which this is less severe, 0 to 100."""
        return float(np.interp(severity, self.quantiles[group], np.linspace(0, 100, STEPS)))


def to_state(network: Network) -> dict[str, NDArray[Any]]:
    """Arrays for a safetensors file; weights as float16."""
    state = {"mean": network.mean, "scale": network.scale} | layers_state(network.layers)
    for name in ("first", "further", "quantiles"):
        state[name] = np.stack([np.asarray(getattr(network, name)[group], np.float32) for group in GROUPS])
    return state


def metadata() -> dict[str, str]:
    """What a file must say to fit this code: the names of its inputs and outputs."""
    return {"measures": json.dumps(MEASURES), "outputs": json.dumps(OUTPUTS)}


def read_network_file(path: Path, said: dict[str, str]) -> tuple[dict[str, NDArray[Any]], Layers]:
    """Arrays of a network's file, and its layers apart.

    Args:
        path: to read.
        said: what its metadata must hold.

    Raises:
        WeightsError: the file is missing, damaged, or made for other measures.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stream:
            found = stream.metadata() or {}
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", path.name, path.name) from error
    if any(found.get(key) != value for key, value in said.items()):
        raise WeightsError(f"{path} was made for other measures; install grepq-iqa again", path.name, path.name)
    layers = pop_layers(state)
    return state, layers


@cache
def load_network(path: Path = FILE) -> Network:
    """Read what `to_state` and `metadata` wrote.

    Raises:
        WeightsError: the file is missing, damaged, or made for other measures.
    """
    state, layers = read_network_file(path, metadata())
    first, further = (dict(zip(GROUPS, state[name].tolist(), strict=True)) for name in ("first", "further"))
    quantiles = dict(zip(GROUPS, state["quantiles"], strict=True))
    return Network(state["mean"], state["scale"], layers, first, further, quantiles)
