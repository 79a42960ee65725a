"""Planes of more than eight bits -> upright sRGB on white, of the size that was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grepq_iqa.data.close_ups import Box
from grepq_iqa.data.decoding.job import Job, Pixels
from grepq_iqa.data.decoding.management import PLAIN, Signal, managed, signaled
from grepq_iqa.data.decoding.orientation import turned

_LEAST_OPACITY = np.float32(1e-6)


def finish_values(
    values: NDArray[np.float32],
    alpha: NDArray[np.float32] | None,
    job: Job,
    profile: bytes | None,
    signal: Signal = PLAIN,
    orientation: int = 1,
) -> Pixels:
    """``(H, W, 1 or 3)`` of more than eight bits -> sRGB ``(3, H, W)`` on white."""
    planes = [np.ascontiguousarray(values[..., channel]) for channel in range(values.shape[-1])]
    if alpha is not None:
        planes.append(np.ascontiguousarray(alpha))
    height, width = planes[0].shape
    job.check_size(width, height)
    if orientation > 1 or not any(job.size):
        job.size = (height, width) if orientation >= 5 else (width, height)
    native = planes[:-1] if alpha is not None else planes
    shrinks = bool(job.max_side and max(height, width) > job.max_side)
    if alpha is not None and shrinks:  # a hidden color must not bleed into what is seen beside it
        planes = [*(plane * planes[-1] for plane in native), planes[-1]]
    planes = [_resized(plane, job.max_side, orientation) for plane in planes]
    opacity = planes.pop() if alpha is not None else None
    if opacity is not None and shrinks:
        planes = [np.clip(plane / np.maximum(opacity, _LEAST_OPACITY), 0, 1) for plane in planes]
    colors = np.stack(planes if len(planes) == 3 else planes[:1] * 3)
    if signal:
        colors = signaled(colors, signal, job)
    elif profile:
        colors = managed(colors, profile, gray=len(planes) == 1)
    if opacity is not None:
        colors = colors * opacity + (1 - opacity)
    if orientation == 1:
        job.take_close_ups(colors, (width, height), lambda box: _cut(native, box))
    return np.ascontiguousarray(colors, dtype=np.float32)


def _cut(planes: list[NDArray[np.float32]], box: Box) -> Pixels:
    left, top, right, bottom = box
    cuts = [np.clip(plane[top:bottom, left:right], 0, 1) for plane in planes]
    return np.stack(cuts if len(cuts) == 3 else cuts[:1] * 3)


def _resized(plane: NDArray[np.float32], max_side: int | None, orientation: int) -> NDArray[np.float32]:
    height, width = plane.shape
    if not (max_side and max(height, width) > max_side) and orientation == 1:
        return plane
    image = turned(Image.fromarray(plane), orientation)
    if max_side and max(image.size) > max_side:
        image = image.resize(fitted(image.size, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.clip(np.asarray(image, np.float32), 0, 1)


def fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """``size`` with its longer side shrunk to ``max_side``, and at least one pixel each way."""
    ratio = max_side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
