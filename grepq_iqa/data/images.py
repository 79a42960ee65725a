"""Any image a person has -> an RGB tensor with the right pixels. The only place that decodes.

"Right" means: upright (EXIF), in sRGB (embedded ICC profile), composited on white where transparent, and converted by
value where the file has fewer or more than eight bits. Files come from strangers, so every fault of a decoder ends in
an :class:`~grepq_iqa.errors.ImageError` that names the file.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded; the limit at which Pillow itself suspects a bomb."""

EXTENSIONS = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jpx",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
"""What a folder is searched for, in lower case. A file that is named directly may have any name."""

_ALPHA_MODES = {"LA", "La", "RGBA", "RGBa", "PA"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
_SRGB = ImageCms.createProfile("sRGB")
# Pillow warns of bombs through the process-wide warning filters, which are not safe to change from two threads at once.
_OPEN_LOCK = threading.Lock()


def load_image(source: ImageSource, *, max_side: int | None = None) -> Tensor:
    """Decode ``source`` to float32 ``(3, H, W)`` in [0, 1].

    Args:
        source: a path, encoded bytes, a binary file object, a PIL image, an array or a tensor. Arrays are ``(H, W)`` or
            ``(H, W, C)`` and tensors ``(C, H, W)``, with C of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha);
            bool, uint8, uint16, or floats in [0, 1].
        max_side: shrink so that the longer side has at most this many pixels; None keeps the native size.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, not finite or out of range.
    """
    name = describe_source(source)
    if isinstance(source, Tensor):
        return _shrink(_from_tensor(source, name), max_side)
    if isinstance(source, np.ndarray):
        return _shrink(_from_array(source, name), max_side)
    if isinstance(source, Image.Image):
        return _decode(source, name, max_side)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_and_decode(io.BytesIO(source), name, max_side)
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), max_side)
    if hasattr(source, "read"):
        return _open_and_decode(source, name, max_side)
    raise ImageError(
        name, f"cannot read an image from {type(source).__name__}", "give a path, bytes, PIL image, array or tensor"
    )


def describe_source(source: object) -> str:
    """What messages call ``source``: its path or name where it has one, else ``<type>``."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if not isinstance(os.fspath(source), bytes) else os.fsdecode(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"


def split_batch(images: Any) -> tuple[list[Any], bool]:
    """``(sources, is_single)``: one image or a sequence or ``(B, C, H, W)`` tensor of them, as a list.

    Raises:
        ImageError: an array with a leading batch axis, whose meaning would be a guess.
    """
    if isinstance(images, Tensor) and images.ndim == 4:
        return list(images), False
    if isinstance(images, np.ndarray) and images.ndim == 4:
        raise ImageError("<ndarray>", "has four axes", "pass list(array) of (H, W, C) images")
    if isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview)):
        return list(images), False
    if isinstance(images, Iterator) and not hasattr(images, "read"):
        return list(images), False
    return [images], True


# --- files ----------------------------------------------------------------------------------------------------------


def _load_path(path: Path, max_side: int | None) -> Tensor:
    try:
        if path.is_dir():
            raise ImageError(str(path), "is a folder, not an image")
        with path.open("rb") as file:
            return _open_and_decode(file, str(path), max_side)
    except FileNotFoundError:
        reason = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise ImageError(str(path), reason) from None
    except PermissionError:
        raise ImageError(str(path), "permission denied", "check the file's permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name; ImageError passes, being raised below
        if isinstance(error, ImageError):
            raise
        raise ImageError(str(path), f"cannot be opened: {_reason_of(error)}") from error


def _open_and_decode(file: Any, name: str, max_side: int | None) -> Tensor:
    try:
        with _OPEN_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(file)
    except UnidentifiedImageError:
        raise ImageError(name, _why_unidentified(file)) from None
    except Image.DecompressionBombError:
        raise ImageError(name, f"has more than {MAX_PIXELS / 1e6:.0f} megapixels", "shrink it first") from None
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(name, f"cannot be decoded: {_reason_of(error)}") from error
    with image:
        return _decode(image, name, max_side)


def _decode(image: Image.Image, name: str, max_side: int | None) -> Tensor:
    width, height = image.size
    if width <= 0 or height <= 0:
        raise ImageError(name, f"has no pixels ({width}x{height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            name, f"has {width * height / 1e6:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}", "shrink it first"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _to_tensor(image, name, max_side)
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(name, f"is truncated or damaged: {_reason_of(error)}") from error


def _to_tensor(image: Image.Image, name: str, max_side: int | None) -> Tensor:
    if getattr(image, "is_animated", False):
        image.seek(0)
    if max_side and image.format == "JPEG":
        image.draft(None, (max_side, max_side))  # decodes at 1/2, 1/4 or 1/8, never below max_side
    image.load()
    profile = image.info.get("icc_profile")
    image = _upright(image)
    if image.mode in _SIXTEEN_BIT_MODES or image.mode in {"I", "F"}:
        return _shrink(_from_array(_wide_values(image, name), name), max_side)

    if image.mode in {"1", "P"} or image.mode in {"PA", "La", "RGBa"}:
        transparent = image.mode != "1" and (image.mode in _ALPHA_MODES or "transparency" in image.info)
        image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
    elif image.mode in {"L", "RGB"} and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if max_side and max(image.size) > max_side:
        image = image.resize(_fitted(image.size, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    alpha = image.getchannel("A") if image.mode in _ALPHA_MODES else None
    pixels = _unit(_to_srgb(image, profile))
    if alpha is not None:
        opacity = _unit(alpha)
        pixels = pixels * opacity + (1 - opacity)
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a damaged EXIF block must not cost the picture
        return ImageOps.exif_transpose(image)
    return image


def _wide_values(image: Image.Image, name: str) -> np.ndarray:
    """16-bit, 32-bit integer and float pictures as values in [0, 1], scaled by their range and never clipped."""
    values = np.asarray(image)
    if image.mode in _SIXTEEN_BIT_MODES:
        return values.astype(np.float32) / 65535
    if values.size and not np.isfinite(values).all():
        raise ImageError(name, "has pixels that are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    if image.mode == "I":  # Pillow's name for 16-bit PNG and PGM in its older releases, and for 32-bit TIFF
        scale = 65535.0 if high <= 65535 else 2.0**32 - 1
    else:  # Pillow's float pictures are 0..255 when made from 8 bits, 0..1 in most TIFF files
        scale = 1.0 if high <= 1 else 255.0
    if low < 0 or high > scale:
        raise ImageError(name, f"has values from {low:g} to {high:g}", "scale them to 0..1")
    return (values / scale).astype(np.float32)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colour-managed RGB without alpha; an unusable profile is ignored, as browsers do."""
    mode = {"LA": "L", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, _SRGB, outputMode="RGB") or image.convert("RGB")
    flat = image if image.mode == mode else image.convert(mode)
    if profile and mode in {"L", "RGB", "CMYK"}:
        with suppress(Exception):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                managed = ImageCms.profileToProfile(flat, source, _SRGB, outputMode="RGB")
                if managed is not None:
                    return managed
    return flat.convert("RGB")


def _unit(image: Image.Image) -> Tensor:
    """An 8-bit picture as ``(C, H, W)`` in [0, 1].

    By NumPy, which stays in the calling thread: torch would start threads of its own for every thread that decodes, and
    those then wait on the cores where the model computes, which cost a fifth of a picture's time.
    """
    values = np.asarray(image, dtype=np.uint8)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    pixels = np.empty(values.shape, dtype=np.float32)
    return torch.from_numpy(np.divide(values, np.float32(255), out=pixels))


def _why_unidentified(file: Any) -> str:
    with suppress(Exception):
        file.seek(0)
        if not file.read(1):
            return "is empty"
    return "is not an image, or of a format that Pillow cannot read"


def _reason_of(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# --- arrays and tensors ---------------------------------------------------------------------------------------------


def _from_array(array: np.ndarray, name: str) -> Tensor:
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
    return _finish(torch.from_numpy(values).permute(2, 0, 1) / scale, name)


def _from_tensor(tensor: Tensor, name: str) -> Tensor:
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
    return _finish(tensor.detach().to("cpu", torch.float32) / scales.get(tensor.dtype, 1.0), name)


def _finish(pixels: Tensor, name: str) -> Tensor:
    """Range check, alpha on white, gray to RGB, for ``(C, H, W)`` floats."""
    channels, height, width = pixels.shape
    if height == 0 or width == 0:
        raise ImageError(name, f"has no pixels ({width}x{height})")
    if height * width > MAX_PIXELS:
        raise ImageError(name, f"has {height * width / 1e6:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}")
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


def _shrink(pixels: Tensor, max_side: int | None) -> Tensor:
    height, width = pixels.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return pixels
    width, height = _fitted((width, height), max_side)
    return F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)


def _fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    ratio = max_side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
