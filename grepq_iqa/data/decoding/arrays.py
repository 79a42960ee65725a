"""Arrays and tensors that the caller has decoded: ranges checked, alpha on white, gray made RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grepq_iqa.data.decoding.finish import fitted
from grepq_iqa.data.decoding.job import Job, Pixels
from grepq_iqa.errors import ImageError


def from_array(array: NDArray[Any], job: Job) -> Pixels:
    """``(H, W)`` or ``(H, W, C)`` -> float32 ``(3, H, W)``.

    Raises:
        ImageError: the shape or the range is not a picture's.
    """
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
    values = array.transpose(2, 0, 1).astype(np.float32, order="C")
    return _finish(values / np.float32(scale), job)


def from_tensor(tensor: Any, job: Job) -> Pixels:
    """A tensor ``(H, W)`` or ``(C, H, W)`` -> float32 ``(3, H, W)``.

    Raises:
        ImageError: the shape or the range is not a picture's.
    """
    name = job.name
    if tensor.ndim == 4 and len(tensor) == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 2, 3, 4):
        hint = "channels go first, (C, H, W)"
        raise ImageError(name, f"a tensor of shape {tuple(tensor.shape)} is not an image", hint)
    scale = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}.get(str(tensor.dtype).removeprefix("torch."))
    if not tensor.is_floating_point() and scale is None:
        raise ImageError(name, f"cannot tell the range of {tensor.dtype}", "use uint8, or floats in 0..1")
    values = tensor.detach().cpu().float().numpy()
    return _finish(values / np.float32(scale or 1), job)


def _finish(pixels: Pixels, job: Job) -> Pixels:
    """Range check, alpha on white, gray to RGB, for ``(C, H, W)`` floats."""
    channels, height, width = pixels.shape
    name = job.name
    job.check_size(width, height)
    low, high = float(pixels.min()), float(pixels.max())  # both are NaN where one pixel is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(name, "has pixels that are NaN or infinite")
    if low < -1e-3 or high > 1 + 1e-3:  # resampling overshoots by a hair; anything more is another range
        raise ImageError(name, f"has values from {low:g} to {high:g}", "floats must be in 0..1: divide by 255?")
    pixels = np.clip(pixels, 0, 1)
    if channels in (2, 4):
        alpha = pixels[-1:]
        pixels = pixels[:-1] * alpha + (1 - alpha)
    return np.ascontiguousarray(pixels if len(pixels) == 3 else np.repeat(pixels, 3, axis=0))


def shrink(pixels: Pixels, max_side: int | None) -> Pixels:
    """``(3, H, W)`` with its longer side at most ``max_side``."""
    height, width = pixels.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return pixels
    size = fitted((width, height), max_side)
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in pixels]
    return np.clip(np.stack([np.asarray(plane, np.float32) for plane in planes]), 0, 1)
