"""Pillow's images -> pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from grepq_iqa.data.decoding.finish import finish_values, fitted
from grepq_iqa.data.decoding.job import Job, Pixels
from grepq_iqa.data.decoding.management import PLAIN, Signal, flat_rgb, icc_to_srgb, signaled, unit_of
from grepq_iqa.data.decoding.orientation import orientation_of, turned
from grepq_iqa.data.decoding.ranges import unit_range
from grepq_iqa.data.formats import pillow_formats
from grepq_iqa.errors import ImageError

SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
MOST_NATIVE_PIXELS = 60_000_000
"""Larger pictures are looked at reduced where that can be: their own pixels would take seconds and gigabytes."""
REDUCING_GAP, WHOLE_GAP = 3.0, 2.0
"""Of Pillow: a picture is first reduced by whole numbers to so many times what is wanted; less where all of it was
decoded, for speed."""
_ALPHA_MODES = {"LA", "La", "RGBA", "RGBa", "PA"}


def decode_opened(
    image: Image.Image,
    job: Job,
    signal: Signal = PLAIN,
    orientation: int | None = None,
    keep_alpha: bool = True,
    is_callers: bool = False,
) -> Pixels:
    """An opened image -> upright sRGB ``(3, H, W)`` on white; without ``keep_alpha`` its fourth channel is no alpha.

    An image that ``is_callers`` is left as it is, at its size and its frame.
    """
    _check_opened(image, job)
    width, height = image.size
    photograph = image.format in ("JPEG", "MPO")
    if is_callers or not (photograph and job.max_side):
        job.check_size(width, height, reducible=photograph)
    opens_as_shown = image.format in ("PSD", "HEIF")
    if not (is_callers or opens_as_shown) and getattr(image, "is_animated", False):
        image.seek(0)
    whole = job.close_up is not None and width * height <= MOST_NATIVE_PIXELS
    if job.max_side and photograph and isinstance(image, ImageFile.ImageFile) and not (whole or is_callers):
        image.draft(None, (job.max_side, job.max_side))  # decodes at 1/2, 1/4 or 1/8, never below max_side
        job.check_size(*image.size)
    tiles = getattr(image, "tile", None)
    frame = tiles[0][1] if image.format == "GIF" and tiles else None
    # Before its EXIF is asked for: that loads a PNG, and a second time a damaged one loads without complaint.
    image.load()
    if image.format == "TIFF":  # newer Pillow turns these while it loads them, and takes the tag away
        width, height = image.size
    if orientation is None:
        orientation = orientation_of(image)
    job.size = (height, width) if orientation >= 5 else (width, height)
    inverted = image.format == "PSD" and image.mode == "1"  # Photoshop's bitmaps hold 1 for black
    profile = image.info.get("icc_profile")
    transparency = image.info.get("transparency")
    image = turned(image, orientation)
    if not keep_alpha and image.mode == "RGBA":
        image = image.convert("RGB")
    if image.mode in SIXTEEN_BIT_MODES or image.mode in {"I", "F"}:
        values, alpha = _wide_values(image, job), None
        if isinstance(transparency, int) and image.mode != "F":
            alpha = (np.asarray(image) != transparency).astype(np.float32)
        return finish_values(values[..., None], alpha, job, profile, signal)

    if image.mode == "1":
        image = image.convert("L")
        if inverted:
            image = ImageOps.invert(image)
        if isinstance(transparency, int):
            image.info["transparency"] = transparency
    elif image.mode in {"P", "PA", "La", "RGBa"}:
        transparent = image.mode in _ALPHA_MODES or transparency is not None
        image = image.convert("RGBA" if transparent else "RGB")
    if image.mode in {"L", "RGB"} and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if frame and tuple(frame) != (0, 0, *image.size):
        image = _on_white(image, tuple(frame))
    native = image
    if job.max_side and max(image.size) > job.max_side:
        gap = WHOLE_GAP if whole else REDUCING_GAP
        image = image.resize(fitted(image.size, job.max_side), Image.Resampling.LANCZOS, reducing_gap=gap)
    alpha_image = image.getchannel("A") if image.mode in _ALPHA_MODES else None
    pixels = signaled(unit_of(flat_rgb(image)), signal, job) if signal else unit_of(icc_to_srgb(image, profile))
    if alpha_image is not None:
        opacity = unit_of(alpha_image)
        pixels = pixels * opacity + (1 - opacity)
    # Color management changes no noise, no blur and no grid of blocks, so cuts go without.
    job.take_close_ups(pixels, native.size, lambda box: unit_of(flat_rgb(native.crop(box))))
    return pixels


def _check_opened(image: Image.Image, job: Job) -> None:
    """Refuse a picture that the caller opened by one of Pillow's decoders that start other programs."""
    is_loaded = not getattr(image, "tile", None) and not isinstance(image, ImageFile.StubImageFile)
    is_pillows = isinstance(image, ImageFile.ImageFile) and type(image).__module__.startswith("PIL.")
    if is_pillows and not is_loaded and image.format not in (*pillow_formats(), "MPO"):
        raise ImageError(job.name, f"is of the format {image.format}, which is not read", "export it as PNG or JPEG")


def _on_white(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """White outside of ``box``, the part of the canvas that the first frame covers."""
    canvas = Image.new(image.mode, image.size, "white")
    canvas.paste(image.crop(box), box[:2])
    return canvas


def _wide_values(image: Image.Image, job: Job) -> NDArray[np.float32]:
    """16-bit, 32-bit integer and float pictures as values in [0, 1], scaled by their range."""
    values = np.asarray(image)
    if image.mode in SIXTEEN_BIT_MODES:
        return np.asarray(values.astype(np.float32) / np.float32(65535), np.float32)
    # "I" is Pillow's name for 16-bit PNG and PGM in its older releases, and for 32-bit TIFF. Its float pictures are
    # 0..255 when made from 8 bits, 0..1 in most TIFF files.
    unit, said = unit_range(values, 32, job.name)
    job.warnings += said
    return unit
