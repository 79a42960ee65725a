"""The encoders by torch, on any device and in any of its number formats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grepq_iqa.data.patches import iter_patches
from grepq_iqa.devices import autocast, choose_device, choose_dtype, chosen_threads, one_blas_thread
from grepq_iqa.encoders.engine import Encoded
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.inference import prepare_for_inference
from grepq_iqa.encoders.low_level import LowLevelEncoder

Array = NDArray[np.float32]

BATCH_PIXELS_CPU, BATCH_PIXELS = 1 << 18, 1 << 22
"""Images of one size share a forward pass up to this many pixels. On a CPU that makes pictures of 96 pixels some three
times faster and those of 512 no faster, so those go alone."""


class TorchEngine:
    """Both encoders as torch modules, which it changes for inference; see `grepq_iqa.encoders.engine.Engine`.

    Args:
        low_level, high_level: in evaluation mode.
        features_hash: of the weights.
        patch, stride: of the patches in pixels.
        dense: take patches' features from the map of the whole image.
        device, dtype: by name or torch's own.

    Raises:
        UsageError: an unknown device or dtype.
    """

    name = "torch"
    agreement: float | None = None

    def __init__(
        self,
        low_level: LowLevelEncoder,
        high_level: HighLevelEncoder,
        features_hash: str,
        *,
        patch: int,
        stride: int,
        dense: bool,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        if (threads := chosen_threads()) is not None:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.features_hash = features_hash
        self.batch_pixels = BATCH_PIXELS_CPU if self.device.type == "cpu" else BATCH_PIXELS
        self._low, self._high = low_level, high_level
        self._patch, self._stride, self._dense = patch, stride, dense
        for encoder in (low_level, high_level):
            prepare_for_inference(encoder, self.device, self.dtype)

    def encode(self, images: Array) -> Encoded:
        """As `grepq_iqa.encoders.engine.Engine`."""
        with torch.inference_mode(), autocast(self.device, self.dtype), one_blas_thread():
            batch = self._transferred(images)
            patches: tuple[Iterator[Array], ...]
            if self._dense:
                low, windows = self._low.whole_and_windows(batch, self._patch)
                patches = tuple(iter([one]) for one in _array(windows))
            else:
                low = self._low(batch)
                patches = tuple(self._exact(image) for image in batch)
            return Encoded(_array(self._high(batch).features), _array(low), patches)

    def _transferred(self, images: Array) -> Tensor:
        batch = torch.from_numpy(images)
        if self.device.type == "cuda":  # pinned memory is read by the device itself, while the processor goes on
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=self.device.type == "cuda")
        return batch.contiguous(memory_format=torch.channels_last)

    def _exact(self, image: Tensor) -> Iterator[Array]:
        for patches in iter_patches(image, self._patch, self._stride):
            # Entered anew for every chunk: what asks for the next one may be anywhere.
            with torch.inference_mode(), autocast(self.device, self.dtype), one_blas_thread():
                features = _array(self._low(patches.contiguous(memory_format=torch.channels_last)))
            yield features


def _array(tensor: Tensor) -> Array:
    result: Array = tensor.float().cpu().numpy()
    return result
