"""Photographs as training pictures: decoded by the one loader, cut and shrunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.data.images import load_image
from grepq_iqa.training.data.distortions import Picture

SQUARE = 512
"""Longest side of a central square, in pixels."""


def read_picture(path: Path, *, max_side: int | None = None) -> Picture:
    """A photograph as float32 ``(H, W, 3)`` in [0, 1], with the pixels that scoring sees.

    Args:
        path: of the photograph.
        max_side: shrink so that the longer side has at most this many pixels; None keeps the native size.

    Raises:
        ImageError: it cannot be read.
    """
    return np.ascontiguousarray(load_image(path, max_side=max_side).permute(1, 2, 0).numpy())


def clean_start(path: Path, factor: float) -> Picture:
    """A photograph shrunk by ``factor``, float32 ``(H, W, 3)`` in [0, 1]."""
    return shrunk(read_picture(path), factor, least=1)


def crop_at_random(picture: Picture, side: int, rng: np.random.Generator) -> Picture:
    """A random ``side`` x ``side`` square, or the whole picture where ``side`` is 0 or does not fit."""
    height, width = picture.shape[:2]
    if not side or side > min(height, width):
        return picture
    y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return np.ascontiguousarray(picture[y : y + side, x : x + side])


def shrink_at_random(picture: Picture, least: int, rng: np.random.Generator) -> Picture:
    """Four times in ten shrunk by up to 0.45, since people look at the same photograph at several sizes."""
    if rng.random() >= 0.4:
        return picture
    factor = max(rng.uniform(0.45, 0.9), least / min(picture.shape[:2]))
    if factor >= 1:
        return picture
    return shrunk(picture, factor, least)


def shrunk(picture: Picture, factor: float, least: int) -> Picture:
    """Sides times ``factor``, but no side below ``least``."""
    height, width = picture.shape[:2]
    size = (max(least, round(width * factor)), max(least, round(height * factor)))
    small = Image.fromarray(np.round(picture * 255).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    result: Picture = np.asarray(small, dtype=np.float32) / np.float32(255)
    return result


def rounded(picture: Picture) -> Picture:
    """In 256 levels, as files are."""
    levels: Picture = np.round(np.clip(picture, 0, 1) * 255) / np.float32(255)
    return levels


def central_square(path: Path) -> Tensor:
    """The middle of a photograph, ``(3, S, S)`` with S at most `SQUARE`; small ones are not enlarged.

    Raises:
        ImageError: it cannot be read.
    """
    image = load_image(path)
    side = min(image.shape[-2:])
    top, left = ((size - side) // 2 for size in image.shape[-2:])
    square = image[:, top : top + side, left : left + side]
    if side > SQUARE:
        square = F.interpolate(square[None], (SQUARE, SQUARE), mode="bicubic", antialias=True)[0].clamp_(0, 1)
    return torch.as_tensor(square)
