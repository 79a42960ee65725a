"""What computes the encoders: one narrow interface, NumPy in and NumPy out, so that scoring need not know which it is.

`grepq_iqa.encoders.torch_engine` computes by torch on any device, `grepq_iqa.encoders.onnx_engine` by ONNX Runtime on
the CPU, without importing torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

ENGINES = ("auto", "torch", "onnx")


class Encoded(NamedTuple):
    """Features of a batch of B images, float32.

    Attributes:
        high: ``(B, feature_dim)`` of the high-level encoder; its embedding follows from them
            (`grepq_iqa.encoders.projection`).
        low: ``(B, 128)`` of the low-level encoder, of whole images.
        patches: of each image its patches' features, in chunks ``(n, 128)`` that may be computed as they are asked for.
    """

    high: Array
    low: Array
    patches: tuple[Iterable[Array], ...]


class Engine(Protocol):
    """Computes both encoders.

    Attributes:
        name: "torch" or "onnx".
        device: where, as torch names devices.
        dtype: the number format of the encoders; its ``str``, less "torch.", is what records name it.
        features_hash: 64 hex digits that change with the weights and with whatever else makes this engine's features
            others than torch's float32 ones; for torch that is the weights' hash itself.
        agreement: how far its features lie from torch's float32 ones, the root mean square in standard deviations of
            each feature; None for torch.
        batch_pixels: how many pixels of equally large images are worth one pass.
    """

    name: str
    device: Any
    dtype: Any
    features_hash: str
    agreement: float | None
    batch_pixels: int

    def encode(self, images: Array) -> Encoded:
        """Features of images ``(B, 3, H, W)`` in [0, 1], each side at least that of a patch."""
        ...


def describe(engine: Engine) -> str:
    """Engine and number format in two words, such as "torch float32"; what records and files name it."""
    return f"{engine.name} {str(engine.dtype).removeprefix('torch.')}"
