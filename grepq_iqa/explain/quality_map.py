"""Where a picture is damaged: severity of what hurts locally (blur, noise, compression), over the picture.

Every cell of 16 pixels is judged by a small network from measures of its detail, noise and blocks, and says how sure it
is: a flat cell cannot tell blur from sky. Cells lend their judgement to neighbors by how sure they are (normalized
convolution, Knutsson and Westin, CVPR 1993), so a sky takes that of its surroundings, as MDFS weighs windows by their
contrast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from grepq_iqa.data.traces import LUMA
from grepq_iqa.encoders.perceptron import Layers, perceptron
from grepq_iqa.explain.local_measures import LOCAL_MEASURES, local_measures
from grepq_iqa.explain.network import WORST, read_network_file

Array = NDArray[np.float32]

FILE = Path(__file__).with_name("quality_map.safetensors")
NEAR, FAR = 1.5, 6.0
"""Standard deviations in cells over which judgements are shared: first among neighbors, then with the wider region."""
FAR_SHARE = 0.05
"""Weight of the wider region: it decides only where all neighbors are unsure."""
DOUBT = 0.05
"""Weight of "nothing is wrong", in precisions: a picture without any detail stays dark."""
COARSEST, LEAST_DETAIL = "band_3_7", 0.05
"""Mean detail of 4 to 8 pixels, in 8-bit levels, below which a neighborhood is empty and its cells say nothing."""
MARKED = 0.4
"""Value from which a place counts as damaged: severity 2, between visible and annoying."""


@dataclass(frozen=True)
class LocalNetwork:
    """Means of the local measures and the perceptron that tells severity and the log of its variance."""

    mean: Array
    scale: Array
    layers: Layers

    CLIP = 5.0

    def judge(self, measures: Array) -> tuple[Array, Array]:
        """Severity and precision ``(...,)`` of measures ``(..., m)``."""
        flat = measures.reshape(-1, measures.shape[-1])
        x = np.clip((flat - self.mean) / self.scale, -self.CLIP, self.CLIP)
        severity, log_variance = perceptron(self.layers, x).T
        shape = measures.shape[:-1]
        precision = np.exp(-np.clip(log_variance, -3, 3))
        return np.clip(severity, 0, WORST).reshape(shape), precision.reshape(shape)


def quality_map(pixels: Array) -> Array:
    """``(h, w)`` float32 in 0..1, 1 is worst, of sRGB ``(h, w, 3)`` in [0, 1]."""
    cells = cell_map(pixels)
    height, width = pixels.shape[:2]
    resized = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, dtype=np.float32), 0, 1)


def cell_map(pixels: Array) -> Array:
    """The same, one value a cell of 16 pixels."""
    luma = np.ascontiguousarray(pixels * np.float32(255)) @ LUMA
    measures = local_measures(luma)
    severity, precision = load_local_network().judge(measures)
    empty = measures[..., LOCAL_MEASURES.index(COARSEST)] < np.log10(LEAST_DETAIL)
    precision[empty] = 0
    return (shared(severity, precision) / WORST).astype(np.float32)


def shared(severity: Array, precision: Array) -> Array:
    """Severities after sure cells have lent theirs to unsure neighbors."""
    votes = np.zeros_like(severity)
    weights = np.full_like(severity, DOUBT)
    for sigma, share in ((NEAR, 1.0), (FAR, FAR_SHARE)):
        votes += share * ndimage.gaussian_filter(severity * precision, sigma, mode="nearest", truncate=3)
        weights += share * ndimage.gaussian_filter(precision, sigma, mode="nearest", truncate=3)
    return votes / weights


def local_metadata() -> dict[str, str]:
    """What a file must say to fit this code."""
    return {"measures": json.dumps(LOCAL_MEASURES)}


@cache
def load_local_network(path: Path = FILE) -> LocalNetwork:
    """Read what ``python -m grepq_iqa.training reasons`` wrote.

    Raises:
        WeightsError: the file is missing, damaged, or made for other measures.
    """
    state, layers = read_network_file(path, local_metadata())
    return LocalNetwork(state["mean"], state["scale"], layers)
