"""Color management: what a file says of its colors, by profile or by numbers, applied to its pixels."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from grepq_iqa.data.decoding import hdr
from grepq_iqa.data.decoding.color import is_srgb_profile, to_srgb
from grepq_iqa.data.decoding.job import Job, Pixels, reason_of

_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True)
class Signal:
    """Colors by numbers instead of by a profile."""

    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    cicp: tuple[int, int, int, int] | None = None
    bit_depth: int = 8

    def __bool__(self) -> bool:
        return not (self.gamma is None and self.chromaticities is None and self.cicp is None)

    @property
    def is_hdr(self) -> bool:
        """Whether light beyond an ordinary screen's is coded."""
        return self.cicp is not None and self.cicp[1] in hdr.NAMES


PLAIN = Signal()


def signaled(pixels: Pixels, signal: Signal, job: Job) -> Pixels:
    """Colors that the file describes by gamma, chromaticities or code points, in sRGB: ``(3, H, W)``."""
    try:
        converted = to_srgb(
            np.ascontiguousarray(pixels.transpose(1, 2, 0)),
            gamma=signal.gamma,
            chromaticities=signal.chromaticities,
            cicp=signal.cicp,
            bit_depth=signal.bit_depth,
        )
    except ValueError as error:
        job.warnings.append(f"names colors that are not known, and was taken as sRGB: {reason_of(error)}")
        return pixels
    if signal.cicp and signal.is_hdr:
        job.warnings.append(hdr.warning(signal.cicp[1]))
    return np.ascontiguousarray(converted.transpose(2, 0, 1), dtype=np.float32)


def managed(pixels: Pixels, profile: bytes, *, gray: bool) -> Pixels:
    """``(3, H, W)`` of more than eight bits through an embedded profile; an unusable one is ignored, as browsers do."""
    if is_srgb_profile(profile):
        return pixels
    with suppress(ValueError):
        converted = to_srgb(np.ascontiguousarray(pixels.transpose(1, 2, 0)), icc=profile)
        return np.ascontiguousarray(converted.transpose(2, 0, 1))
    if not gray:
        return pixels
    # One curve: what the profile makes of 256 steps, and straight lines between them.
    steps = unit_of(icc_to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), profile))[1, 0]
    through: Pixels = np.interp(pixels, np.linspace(0, 1, 256), steps).astype(np.float32)
    return through


def icc_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Color-managed RGB without alpha; an unusable profile is ignored, as browsers do."""
    mode = {"LA": "L", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, _SRGB, outputMode="RGB") or image.convert("RGB")
    if mode == "L" and profile and profile[16:20] == b"RGB ":  # a color picture made gray that kept its profile
        mode = "RGB"
    flat = image if image.mode == mode else image.convert(mode)
    if profile and mode in {"L", "RGB", "CMYK"}:
        with suppress(Exception):
            if not is_srgb_profile(profile):
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                converted = ImageCms.profileToProfile(flat, source, _SRGB, outputMode="RGB")
                if converted is not None:
                    return converted
    return flat.convert("RGB")


def unit_of(image: Image.Image) -> Pixels:
    """An 8-bit picture as ``(C, H, W)`` in [0, 1].

    By NumPy, which stays in the calling thread: torch would start threads of its own for every thread that decodes, and
    those then wait on the cores where the model computes, which cost a fifth of a picture's time.
    """
    values = np.asarray(image, dtype=np.uint8)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    pixels: Pixels = np.empty(values.shape, dtype=np.float32)
    np.divide(values, np.float32(255), out=pixels)
    return pixels


def flat_rgb(image: Image.Image) -> Image.Image:
    """As RGB, without a copy where it is."""
    return image if image.mode == "RGB" else image.convert("RGB")
