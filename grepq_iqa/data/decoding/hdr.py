"""High dynamic range on an ordinary screen: PQ and HLG to light in which 1 is the white of paper.

A score needs some picture, and there is no one right one. This is the plainest that has a source: reference white, 203
cd/m2 (ITU-R BT.2408-7, table 1), becomes the white of sRGB, what is darker keeps its light, and what is brighter is
white. HLG is shown on the reference display of 1,000 cd/m2, by the system gamma of 1.2 (ITU-R BT.2100-3, table 5); PQ
holds absolute light (table 4).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"

PQ, HLG = 16, 18
"""Transfer characteristics of H.273."""
NAMES = {PQ: "PQ", HLG: "HLG"}

REFERENCE_WHITE = 203.0
"""cd/m2 of diffuse white (BT.2408, table 1)."""

_PQ_PEAK = 10_000.0
_HLG_PEAK, _HLG_GAMMA = 1_000.0, 1.2
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_LUMA = np.array([0.2627, 0.6780, 0.0593])  # of BT.2100, in which HLG's gamma is defined


def warning(transfer: int) -> str:
    """What is said of a picture that was shown so."""
    return (
        f"is a high dynamic range picture ({NAMES[transfer]}), tone-mapped: what is brighter than "
        f"{REFERENCE_WHITE:g} cd/m2 was cut to white"
    )


def to_light(values: Floats, transfer: int) -> Floats:
    """Coded values to displayed light of the same primaries, 1 being reference white; the brightest is over 1.

    Args:
        values: (H, W, 3) in [0, 1].
        transfer: :data:`PQ` or :data:`HLG`.
    """
    signal = values.astype(np.float64)
    if transfer == PQ:
        root = signal ** (1 / _M2)
        light = _PQ_PEAK * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    else:
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)
        luma = (scene @ _LUMA)[..., None]
        light = _HLG_PEAK * luma ** (_HLG_GAMMA - 1) * scene
    return np.asarray(light / REFERENCE_WHITE, np.float32)
