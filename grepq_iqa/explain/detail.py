"""What fine detail tells: the spectrum, noise, edges, and traces of interpolation, as numbers of one view of a picture.

Everything takes luma, float32 ``(h, w)`` on 0..255 with both sides at least `LEAST_SIDE`, and gives finite numbers for
any content, flat or random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from grepq_iqa.data.traces import BLOCK, Plane, immerkaer

LEAST_SIDE = 96
"""Smaller views are reflected up to this side before they are measured."""
PATCH, MOST_PATCHES = 64, 96  # of the spectrum
BANDS = 12
"""Rings of the spectrum, the last ones at the Nyquist frequency."""
FLAT_SHARE = 0.1  # of blocks that noise is read from
IMPULSE = 40.0  # how far a pixel stands out from its neighbors' median, in 8-bit levels
EDGES, PROFILE = 1500, 10  # edges looked at in each direction, and pixels on each side of one
LEAST_STEP = 20.0  # height of an edge in 8-bit levels
_EPS = 1e-3

SPECTRUM_NAMES = (
    *(f"power_{band}" for band in range(BANDS)),
    *(f"floor_{band}" for band in range(BANDS)),
    *(f"texture_{band}" for band in range(BANDS)),
    *(f"direction_{part}" for part in range(3)),
)
NOISE_NAMES = ("noise_flat", "noise_median", "noise_dark", "noise_bright", "noise_correlation", "impulses", "dead")
EDGE_NAMES = ("edge_width", "edge_width_sharpest", "overshoot", "overshoot_strong", "edge_count")
PERIOD_NAMES = ("period_rows", "period_columns", "period_frequency", "period_two", "period_four", "period_eight")


def spectrum(luma: Plane) -> list[float]:
    """Log power in `BANDS` rings of 64-pixel patches, its floor over patches, that of texture, and its directions."""
    patches = _patches(luma)
    window = np.hanning(PATCH).astype(np.float32)
    centered = patches - patches.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(centered * window[:, None] * window)) ** 2 / PATCH**2
    rings, sectors = _rings()
    per_patch = np.stack([power[:, rings == band].mean(1) for band in range(BANDS)], axis=1)
    log_power = np.log10(per_patch + _EPS)
    strongest = np.argsort(per_patch[:, 1:4].sum(1))[-max(1, len(patches) // 4) :]
    whole = power.mean(0)
    directions = []
    for inner, outer in ((1, 3), (3, 6), (6, 11)):
        inside = (rings >= inner) & (rings < outer)
        by_sector = [whole[inside & (sectors == sector)].mean() for sector in range(8)]
        directions.append(float(np.log10((max(by_sector) + _EPS) / (min(by_sector) + _EPS))))
    return [
        *np.log10(per_patch.mean(0) + _EPS).tolist(),
        *np.percentile(log_power, 10, axis=0).tolist(),
        *np.log10(per_patch[strongest].mean(0) / (per_patch[strongest, 1].mean() + _EPS) + 1e-6).tolist(),
        *directions,
    ]


def noise(luma: Plane) -> list[float]:
    """Log noise by Immerkaer's filter (CVIU 64(2), 1996) where the picture is flattest, and how it is distributed."""
    residual = immerkaer(luma)
    smooth = ndimage.uniform_filter(luma, 3)
    rows, columns = (size // BLOCK for size in residual.shape)
    cut = (slice(0, rows * BLOCK), slice(0, columns * BLOCK))
    sigma = np.sqrt(np.pi / 2) * _blocks(np.abs(residual)[cut]).mean(1)
    below = _blocks(smooth[1:-1, 1:-1][cut])
    level = below.mean(1)
    structure = below.std(1)
    usable = (level > 4) & (level < 251)  # clipped blocks hide their noise
    if usable.sum() < 16:
        usable = np.ones_like(usable)
    flat = usable & (structure <= np.quantile(structure[usable], FLAT_SHARE))
    middle = np.median(level[usable])
    near = usable & (structure <= np.quantile(structure[usable], 0.4))
    halves = [near & (level <= middle), near & (level > middle)]
    median = ndimage.median_filter(luma, 3)
    difference = np.abs(luma - median)
    return [
        *(_log_median(sigma[part]) for part in (flat, usable, *halves)),
        _correlation(luma - smooth),
        float(np.log10((difference > IMPULSE).mean() + 1e-4)),
        float((sigma[usable] < 0.3).mean()),
    ]


def _log_median(sigma: Plane) -> float:
    return float(np.log10(np.median(sigma) + 0.05)) if len(sigma) else -1.3


def edges(luma: Plane) -> list[float]:
    """Width and overshoot of strong edges, from profiles across them, in pixels and in shares of their height.

    Width is from 10 to 90 per cent of the step (Marziliano et al., ICIP 2002, measured it from extreme to extreme).
    """
    both = [_profiles(luma), _profiles(luma.T)]
    profiles = np.concatenate(both)
    if len(profiles) < 20:
        return [float(np.log2(2 * PROFILE)), float(np.log2(2 * PROFILE)), 0.0, 0.0, float(np.log10(len(profiles) + 1))]
    low = np.median(profiles[:, :4], axis=1, keepdims=True)
    high = np.median(profiles[:, -4:], axis=1, keepdims=True)
    step = (profiles - low) / (high - low)
    inside = ((step > 0.1) & (step < 0.9)).sum(1) + 1.0
    over = np.maximum(step.max(1) - 1, 0) + np.maximum(-step.min(1), 0)
    return [
        float(np.log2(np.median(inside))),
        float(np.log2(np.percentile(inside, 15))),
        float(np.median(over)),
        float(np.percentile(over, 80)),
        float(np.log10(len(profiles))),
    ]


def periods(luma: Plane) -> list[float]:
    """Periodic traces of interpolation in the second differences (Gallagher, CRV 2005), as log peak over median."""
    found = [_period(luma), _period(luma.T)]
    at_fractions = (np.array(found[0][2]) + found[1][2]) / 2
    return [found[0][0], found[1][0], max(found)[1], *at_fractions.tolist()]


def _period(luma: Plane) -> tuple[float, float, list[float]]:
    """Log peak over median, its frequency, and the same at periods of 2, 4 and 8 pixels."""
    second = np.log1p(np.abs(luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:])).mean(0)
    second = second - ndimage.uniform_filter1d(second, 9)
    power = np.abs(np.fft.rfft(second * np.hanning(len(second)))) ** 2
    frequency = np.arange(len(power)) / (2 * (len(power) - 1))
    # Blocks of 8 pixels have peaks of their own at multiples of an eighth.
    of_blocks = np.abs(frequency * 8 - np.round(frequency * 8)) < 0.04
    usable = (frequency > 0.08) & ~of_blocks
    peak = int(np.argmax(np.where(usable, power, 0)))
    floor = float(np.median(power[usable])) + 1e-9
    fractions = [
        float(np.log10((power[np.abs(frequency - f) < 0.01].max() + 1e-9) / floor)) for f in (0.5, 0.25, 0.125)
    ]
    return float(np.log10((power[peak] + 1e-9) / floor)), float(frequency[peak]), fractions


def _profiles(luma: Plane) -> Plane:
    """Profiles ``(n, 2 * PROFILE + 1)`` across the strongest edges along rows, rising, only where steps are clean."""
    smooth = ndimage.uniform_filter1d(luma, 3, axis=0)
    gradient = smooth[:, 2:] - smooth[:, :-2]
    strength = np.abs(gradient)
    inner = strength[:, PROFILE : -PROFILE - 2]
    peak = (inner >= strength[:, PROFILE - 1 : -PROFILE - 3]) & (inner > strength[:, PROFILE + 1 : -PROFILE - 1])
    rows, columns = np.nonzero(peak & (inner > 4))
    if not len(rows):
        return np.empty((0, 2 * PROFILE + 1), np.float32)
    strongest = np.argsort(-inner[rows, columns])[: 4 * EDGES]
    rows, columns = rows[strongest], columns[strongest] + PROFILE + 1
    offsets = np.arange(-PROFILE, PROFILE + 1)
    profiles = smooth[rows[:, None], columns[:, None] + offsets]
    falling = profiles[:, -1] < profiles[:, 0]
    profiles[falling] = profiles[falling, ::-1]
    # A step: both ends are calm beside its height.
    height = np.median(profiles[:, -4:], axis=1) - np.median(profiles[:, :4], axis=1)
    calm = np.maximum(np.ptp(profiles[:, :4], axis=1), np.ptp(profiles[:, -4:], axis=1)) < 0.3 * height
    clean: Plane = profiles[(height > LEAST_STEP) & calm][:EDGES]
    return clean


def _patches(luma: Plane) -> Plane:
    height, width = luma.shape
    tops = _positions(height)
    lefts = _positions(width)
    all_of_them = [(top, left) for top in tops for left in lefts]
    chosen = all_of_them[:: max(1, len(all_of_them) // MOST_PATCHES)]
    return np.stack([luma[top : top + PATCH, left : left + PATCH] for top, left in chosen])


def _positions(size: int) -> NDArray[np.int64]:
    count = max(1, (size - PATCH) // (PATCH * 3 // 4) + 1)
    return np.linspace(0, size - PATCH, count).astype(np.int64)


def _rings() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ring (-1 outside) and sector of every cell of the half spectrum of a patch."""
    vertical = np.fft.fftfreq(PATCH)[:, None]
    horizontal = np.fft.rfftfreq(PATCH)[None]
    radius = np.hypot(vertical, horizontal)
    rings = np.floor(radius * 2 * BANDS).astype(np.int64)
    rings[(rings >= BANDS) & (radius < 0.6)] = BANDS - 1
    rings[(radius >= 0.6) | (radius == 0)] = -1
    angle = np.arctan2(vertical, horizontal + 0 * vertical) / np.pi + 0.5
    return rings, np.clip((angle * 8).astype(np.int64), 0, 7)


def _blocks(plane: Plane) -> Plane:
    """``(n, BLOCK * BLOCK)`` of a plane whose sides are multiples of `BLOCK`."""
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    split = plane.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
    flat: Plane = split.reshape(rows * columns, BLOCK * BLOCK)
    return flat


def _correlation(residual: Plane) -> float:
    power = float((residual**2).mean())
    return float((residual[:, 1:] * residual[:, :-1]).mean()) / (power + _EPS)
