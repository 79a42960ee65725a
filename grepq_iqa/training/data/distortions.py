"""Synthetic distortions: named families with five severities each, and all between them.

Every distortion maps an RGB picture, float32 ``(H, W, 3)`` in [0, 1], to one of the same shape and range. Severity 1
is just visible on a phone, 3 annoying, 5 ruined; the scales of the families were laid out to look alike at the same
severity. A random generator is passed in, so equal seeds give equal pictures.

Example:
    >>> rng = np.random.default_rng(0)
    >>> distort(np.full((64, 64, 3), 0.5, np.float32), "white_noise", severity=3, rng=rng).shape
    (64, 64, 3)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from grepq_iqa.data.images import load_image

Picture = NDArray[np.float32]
SEVERITIES = (1, 2, 3, 4, 5)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Distortion:
    """A family of distortions.

    Attributes:
        name: what recipes and captions call it.
        levels: six values of its parameter: one that leaves a picture as it is, or nearly, then severities 1 to 5.
        apply: ``(picture, level, rng) -> picture``, before clipping.
        noun: how a caption names it, "motion blur".
    """

    name: str
    noun: str
    levels: tuple[float, ...]
    apply: Callable[[Picture, float, np.random.Generator], NDArray[np.floating]]


DISTORTIONS: dict[str, Distortion] = {}


def distort(picture: Picture, name: str, severity: float, rng: np.random.Generator) -> Picture:
    """Distort ``picture`` by the distortion ``name`` at ``severity``, above 0 and up to 5; between levels linearly.

    Raises:
        KeyError: no distortion has this name.
        ValueError: the severity is out of range.
    """
    if not 0 < severity <= SEVERITIES[-1]:
        raise ValueError(f"severity must be above 0 and at most 5, got {severity}")
    distortion = DISTORTIONS[name]
    level = float(np.interp(severity, (0, *SEVERITIES), distortion.levels))
    distorted = distortion.apply(picture, level, rng)
    result: Picture = np.clip(distorted, 0, 1).astype(np.float32)
    return result


def compose(picture: Picture, steps: Sequence[tuple[str, float]], rng: np.random.Generator) -> Picture:
    """Several distortions one after the other, as cameras and websites do."""
    for name, severity in steps:
        picture = distort(picture, name, severity, rng)
    return picture


Apply = Callable[[Picture, float, np.random.Generator], NDArray[np.floating]]


def _register(name: str, noun: str, levels: tuple[float, ...]) -> Callable[[Apply], Apply]:
    def decorate(function: Apply) -> Apply:
        DISTORTIONS[name] = Distortion(name, noun, levels, function)
        return function

    return decorate


# --- blur -----------------------------------------------------------------------------------------------------------


@_register("gaussian_blur", "blur", (0, 0.7, 1.2, 2.0, 3.2, 5.0))
def _gaussian_blur(x: Picture, sigma: float, rng: np.random.Generator) -> NDArray[np.floating]:
    result: NDArray[np.floating] = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="mirror", truncate=3)
    return result


@_register("defocus", "defocus blur", (0.5, 1.2, 2.0, 3.2, 5.0, 8.0))
def _defocus(x: Picture, radius: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return _convolve(x, _disk(radius))


@_register("motion_blur", "motion blur", (0, 3, 6, 10, 16, 25))
def _motion_blur(x: Picture, length: float, rng: np.random.Generator) -> NDArray[np.floating]:
    size = int(length) // 2 * 2 + 3
    t = np.linspace(-length / 2, length / 2, 4 * size)
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((size, size), np.float32)
    rows, columns = size // 2 + t * np.sin(angle), size // 2 + t * np.cos(angle)
    for dy in (0, 1):  # bilinear splatting keeps short and diagonal streaks smooth
        for dx in (0, 1):
            y, z = np.floor(rows).astype(int) + dy, np.floor(columns).astype(int) + dx
            weight = np.abs(1 - dy - rows + np.floor(rows)) * np.abs(1 - dx - columns + np.floor(columns))
            inside = (y >= 0) & (y < size) & (z >= 0) & (z < size)
            np.add.at(kernel, (y[inside], z[inside]), weight[inside])
    return _convolve(x, kernel / kernel.sum())


@_register("rescale", "pixelated upscaling", (1, 1.5, 2.0, 3.0, 4.5, 7.0))
def _rescale(x: Picture, factor: float, rng: np.random.Generator) -> NDArray[np.floating]:
    height, width = x.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    down, up = (Image.Resampling.BICUBIC, rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]))
    return _from_pil(_to_pil(x).resize(small, down).resize((width, height), Image.Resampling(int(up))))


@_register("smear", "smeared detail", (1, 3, 5, 7, 9, 13))
def _smear(x: Picture, size: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """The look of strong noise reduction: a median wipes fine texture and keeps edges."""
    return np.stack([ndimage.median_filter(x[..., c], size=int(size), mode="mirror") for c in range(3)], axis=-1)


# --- noise ----------------------------------------------------------------------------------------------------------


@_register("white_noise", "noise", (0, 0.015, 0.03, 0.06, 0.11, 0.2))
def _white_noise(x: Picture, sigma: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return x + sigma * rng.standard_normal(x.shape, dtype=np.float32)


@_register("sensor_noise", "grainy sensor noise", (0, 0.02, 0.04, 0.075, 0.13, 0.22))
def _sensor_noise(x: Picture, gain: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Shot and read noise in linear light, blurred a little as demosaicking does."""
    linear = x**2.2
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    noise = 1.6 * ndimage.gaussian_filter(noise, (0.6, 0.6, 0), mode="mirror", truncate=2)
    noisy = linear + gain * noise * np.sqrt(0.35 * linear + 0.02)
    result: NDArray[np.floating] = np.clip(noisy, 0, 1) ** (1 / 2.2)
    return result


@_register("impulse_noise", "salt and pepper noise", (0, 0.002, 0.006, 0.016, 0.04, 0.1))
def _impulse_noise(x: Picture, density: float, rng: np.random.Generator) -> NDArray[np.floating]:
    hit = rng.random(x.shape[:2], dtype=np.float32)
    x = x.copy()
    x[hit < density / 2] = 0
    x[hit > 1 - density / 2] = 1
    return x


# --- compression ----------------------------------------------------------------------------------------------------


@_register("jpeg", "JPEG blocking artifacts", (95, 45, 28, 16, 9, 4))
def _jpeg(x: Picture, quality: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return through_file(x, "JPEG", quality=int(quality))


@_register("jpeg2000", "JPEG 2000 ringing", (5, 24, 45, 80, 140, 240))
def _jpeg2000(x: Picture, ratio: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return through_file(x, "JPEG2000", quality_mode="rates", quality_layers=[float(ratio)])


@_register("webp", "compression artifacts", (90, 40, 22, 12, 5, 0))
def _webp(x: Picture, quality: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return through_file(x, "WEBP", quality=int(quality), method=1)


@_register("quantization", "color banding", (64, 20, 12, 8, 5, 3))
def _quantization(x: Picture, steps: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return np.round(x * (steps - 1)) / (steps - 1)


# --- light and color -----------------------------------------------------------------------------------------------


@_register("overexposure", "overexposed highlights", (1, 1.35, 1.7, 2.2, 3.0, 4.5))
def _overexposure(x: Picture, gain: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return (gain * x**2.2) ** (1 / 2.2)


@_register("underexposure", "dark underexposed light", (1, 0.62, 0.4, 0.22, 0.1, 0.04))
def _underexposure(x: Picture, gain: float, rng: np.random.Generator) -> NDArray[np.floating]:
    dark = (gain * x**2.2) ** (1 / 2.2)
    return np.round(dark * 255) / 255  # the codes that are lost do not come back


@_register("low_contrast", "low contrast", (1, 0.75, 0.58, 0.43, 0.3, 0.18))
def _low_contrast(x: Picture, factor: float, rng: np.random.Generator) -> NDArray[np.floating]:
    mean = float((x @ LUMA).mean())
    return mean + factor * (x - mean)


@_register("haze", "haze", (0, 0.18, 0.32, 0.48, 0.64, 0.8))
def _haze(x: Picture, density: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Atmospheric veil, thicker towards the top of the picture (Koschmieder's law with depth rising upwards)."""
    depth = np.linspace(1.2, 0.8, len(x), dtype=np.float32)[:, None, None]
    veil = np.clip(density * depth, 0, 0.95)
    result: NDArray[np.floating] = x * (1 - veil) + 0.86 * veil
    return result


@_register("color_cast", "a color cast", (0, 0.12, 0.22, 0.34, 0.48, 0.65))
def _color_cast(x: Picture, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    gains = 1 + strength * np.roll([1.0, 0.0, -1.0], int(rng.integers(3))) * rng.choice([-1, 1])
    result: NDArray[np.floating] = x * gains.astype(np.float32)
    return result


@_register("desaturation", "dull washed-out colors", (1, 0.65, 0.45, 0.28, 0.12, 0.0))
def _desaturation(x: Picture, factor: float, rng: np.random.Generator) -> NDArray[np.floating]:
    gray = (x @ LUMA)[..., None]
    return gray + factor * (x - gray)


@_register("oversaturation", "garish colors", (1, 1.5, 1.9, 2.5, 3.4, 5.0))
def _oversaturation(x: Picture, factor: float, rng: np.random.Generator) -> NDArray[np.floating]:
    gray = (x @ LUMA)[..., None]
    return gray + factor * (x - gray)


@_register("oversharpening", "oversharpened halos", (0, 0.8, 1.5, 2.6, 4.2, 7.0))
def _oversharpening(x: Picture, amount: float, rng: np.random.Generator) -> NDArray[np.floating]:
    result: NDArray[np.floating] = x + amount * (
        x - ndimage.gaussian_filter(x, (1.2, 1.2, 0), mode="mirror", truncate=3)
    )
    return result


# --- helpers --------------------------------------------------------------------------------------------------------


def _disk(radius: float) -> NDArray[np.float32]:
    """An anti-aliased disk that sums to one."""
    half = int(np.ceil(radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    result: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return result


def _convolve(x: Picture, kernel: NDArray[np.float32]) -> Picture:
    """Mirror-padded convolution by FFT, whose cost does not grow with the kernel."""
    from scipy.signal import fftconvolve

    pad = kernel.shape[0] // 2
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    result: Picture = fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)).astype(np.float32)
    return result


def _to_pil(x: Picture) -> Image.Image:
    return Image.fromarray(np.round(np.clip(x, 0, 1) * 255).astype(np.uint8))


def _from_pil(image: Image.Image) -> Picture:
    result: Picture = np.asarray(image, dtype=np.float32) / np.float32(255)
    return result


def through_file(x: Picture, format: str, **options: object) -> Picture:
    """The picture after it was saved in one of Pillow's formats and read again."""
    buffer = io.BytesIO()
    _to_pil(x).save(buffer, format, **options)
    return np.ascontiguousarray(load_image(buffer.getvalue()).permute(1, 2, 0).numpy())
