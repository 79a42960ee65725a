"""Arrays and tensors that the caller has decoded: ranges checked, alpha on white, gray made RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.decoding.finish import fitted
from grepq_iqa.data.decoding.job import Job
from grepq_iqa.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor


def from_array(array: NDArray[Any], job: Job) -> Tensor:
    """``(H, W)`` or ``(H, W, C)`` -> float32 ``(3, H, W)``.

    Raises:
        ImageError: the shape or the range is not a picture's.
    """
    import torch

    name = job.name
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4):
        hint = "channels go last, (H, W) or (H, W, C)"
        raise ImageError(name, f"an array of shape {array.shape} is not an image", hint)
    scale = {"b": 1.0, "u": float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else 0.0, "f": 1.0}.get(
        array.dtype.kind
    )
    if scale is None or (array.dtype.itemsize > 2 and array.dtype.kind == "u"):
        raise ImageError(name, f"cannot tell the range of {array.dtype}", "use uint8, uint16, or floats in 0..1")
    values = np.ascontiguousarray(array).astype(np.float32)
    return _finish(torch.from_numpy(values).permute(2, 0, 1) / scale, job)


def from_tensor(tensor: Tensor, job: Job) -> Tensor:
    """``(H, W)`` or ``(C, H, W)`` -> float32 ``(3, H, W)``.

    Raises:
        ImageError: the shape or the range is not a picture's.
    """
    import torch

    name = job.name
    if tensor.ndim == 4 and len(tensor) == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 2, 3, 4):
        hint = "channels go first, (C, H, W)"
        raise ImageError(name, f"a tensor of shape {tuple(tensor.shape)} is not an image", hint)
    scales = {torch.bool: 1.0, torch.uint8: 255.0, torch.uint16: 65535.0}
    if not tensor.is_floating_point() and tensor.dtype not in scales:
        raise ImageError(name, f"cannot tell the range of {tensor.dtype}", "use uint8, or floats in 0..1")
    return _finish(tensor.detach().to("cpu", torch.float32) / scales.get(tensor.dtype, 1.0), job)


def _finish(pixels: Tensor, job: Job) -> Tensor:
    """Range check, alpha on white, gray to RGB, for ``(C, H, W)`` floats."""
    import torch

    channels, height, width = pixels.shape
    name = job.name
    job.check_size(width, height)
    if not torch.isfinite(pixels).all():
        raise ImageError(name, "has pixels that are NaN or infinite")
    low, high = pixels.min().item(), pixels.max().item()
    if low < -1e-3 or high > 1 + 1e-3:  # resampling overshoots by a hair; anything more is another range
        raise ImageError(name, f"has values from {low:g} to {high:g}", "floats must be in 0..1: divide by 255?")
    pixels = pixels.clamp(0, 1)
    if channels in (2, 4):
        alpha = pixels[-1:]
        pixels = pixels[:-1] * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).contiguous()


def shrink(pixels: Tensor, max_side: int | None) -> Tensor:
    """``(3, H, W)`` with its longer side at most ``max_side``."""
    height, width = pixels.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return pixels
    width, height = fitted((width, height), max_side)
    from torch.nn import functional as F

    return F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)
