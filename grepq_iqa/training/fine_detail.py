"""Learning amounts of light distortions from crops with known blur, noise or compression, one stronger than the other.

No human score is used. Every item is a short series: a crop as it is, and copies with more and more of one thing, down
to what a person hardly sees; the network tells the amounts and, above all, their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from grepq_iqa.encoders.fine_detail import AMOUNTS, VIEW, FineDetail
from grepq_iqa.encoders.fine_measures import measure_fine
from grepq_iqa.encoders.perceptron import layers_of
from grepq_iqa.training.data.distortions import Picture, through_file
from grepq_iqa.training.data.pictures import clean_start, crop_at_random, read_picture, rounded
from grepq_iqa.training.small_networks import train_small

STEPS = 4
"""Copies of a crop in a series, beside the crop as it is."""
SHRINK = (0.45, 0.85)  # of clean photographs, which are JPEG files themselves
SAVED, SAVED_QUALITIES = 0.3, (86, 98)
DISTORTED = 0.25  # share of crops that have a little of something else, too
BLUR, NOISE, QUALITY = (0.3, 6.0), (0.7, 40.0), (15.0, 96.0)
HIDDEN = (64, 32)
MARGIN, ORDER = 0.1, 0.1
"""By how much a stronger copy is to have more, and the weight of that beside the error of amounts."""
JITTER = 0.03  # noise on standardized measures, against learning single crops
NETWORKS = 3

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FineSeries:
    """Measures of series.

    Attributes:
        measures: ``(n, 1 + STEPS, m)``, of rising strength.
        amounts: ``(n, 1 + STEPS, len(AMOUNTS))``; NaN where the crop's own distortions is not known.
        kind: ``(n,)``, index in `AMOUNTS` of what rises.
    """

    measures: Array
    amounts: Array
    kind: NDArray[np.int64]


def amount_of_blur(sigma: float) -> float:
    """2 log2(1 + sigma), sigma in pixels: 0.4 is 1, 1.5 is 2.6, 5 is 5.2."""
    return float(2 * np.log2(1 + sigma))


def amount_of_noise(sigma: float) -> float:
    """log2(1 + sigma), sigma in 8-bit levels: 2 is 1.6, 8 is 3.2, 32 is 5."""
    return float(np.log2(1 + sigma))


def amount_of_compression(quality: float) -> float:
    """log2(1 + (100 - quality) / 5): JPEG quality 95 is 1, 70 is 2.8, 30 is 3.9."""
    return float(np.log2(1 + (100 - quality) / 5))


def make_series(clean: list[Path], unlabeled: list[Path], indices: Iterable[int], seed: int) -> FineSeries:
    """Series by index, a pure function of it and the seed: even ones start from clean photographs, odd ones do not."""
    measures, amounts, kinds = [], [], []
    for index in indices:
        rng = np.random.default_rng((seed, index))
        known = index % 2 == 0
        photographs = clean if known else unlabeled
        path = photographs[int(rng.integers(len(photographs)))]
        picture = clean_start(path, rng.uniform(*SHRINK)) if known else read_picture(path)
        side = min(VIEW, *picture.shape[:2])
        start = crop_at_random(picture, side, rng)
        own = np.zeros(len(AMOUNTS)) if known else np.full(len(AMOUNTS), np.nan)
        kind = index // 2 % len(AMOUNTS)
        if known and rng.random() < DISTORTED:
            other = int(rng.choice([one for one in range(len(AMOUNTS)) if one != kind]))
            start, own[other] = _distorted(start, other, rng.uniform(0, 0.6), rng)
        if kind != 2 and rng.random() < SAVED:
            quality = int(rng.integers(*SAVED_QUALITIES))
            start = through_file(start, "JPEG", quality=quality)
            own[2] = max(own[2], amount_of_compression(quality)) if known else own[2]
        start = rounded(start)
        noise = rng.standard_normal(start.shape).astype(np.float32)
        saves_as = "JPEG" if rng.random() < 0.85 else "WEBP"
        rows, told = [measure_fine(_channels_first(start))], [own]
        for strength in np.sort(rng.uniform(0, 1, STEPS)):
            copy, amount = _distorted(start, kind, float(strength), rng, noise=noise, saves_as=saves_as)
            rows.append(measure_fine(_channels_first(rounded(copy))))
            of_copy = own.copy()
            of_copy[kind] = amount
            told.append(of_copy)
        measures.append(np.stack(rows))
        amounts.append(np.stack(told))
        kinds.append(kind)
    return FineSeries(np.stack(measures), np.stack(amounts).astype(np.float32), np.array(kinds))


def fit_fine_detail(series: FineSeries, *, epochs: int = 60, batch: int = 128, seed: int = 0) -> FineDetail:
    """An ensemble of small networks: amounts by absolute error, their order within a series by a margin."""
    flat = series.measures.reshape(-1, series.measures.shape[-1])
    mean, scale = flat.mean(0), flat.std(0) + np.float32(1e-4)
    x = torch.from_numpy(np.clip((series.measures - mean) / scale, -FineDetail.CLIP, FineDetail.CLIP))
    amounts, kind = torch.from_numpy(series.amounts), torch.from_numpy(series.kind)
    networks = [_train(x, amounts, kind, epochs, batch, seed + k) for k in range(NETWORKS)]
    layers = tuple((weight.astype(np.float16).astype(np.float32), bias) for weight, bias in layers_of(networks))
    return FineDetail(mean, scale, layers)


def _train(x: Tensor, amounts: Tensor, kind: Tensor, epochs: int, batch: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Linear(x.shape[-1], HIDDEN[0]), nn.ReLU()),
        *(nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU()),
        nn.Linear(HIDDEN[1], len(AMOUNTS)),
    )
    known = ~amounts.isnan()

    def loss_of(index: Tensor) -> Tensor:
        found = network(x[index] + JITTER * torch.randn_like(x[index]))
        error = nn.functional.smooth_l1_loss(found, amounts[index].nan_to_num(), reduction="none")
        loss = (error * known[index]).sum() / known[index].sum()
        of_kind = torch.gather(found, 2, kind[index][:, None, None].expand(-1, found.shape[1], 1))[..., 0]
        total = found.sum(2)
        for rising in (of_kind, total):  # what the score takes is the sum
            loss = loss + nn.functional.softplus((MARGIN - rising.diff(dim=1)) / MARGIN).mean() * ORDER
        return loss

    return train_small(network, len(x), loss_of, epochs=epochs, batch=batch, highest_rate=4e-3, weight_decay=0.02)


def _distorted(
    x: Picture,
    kind: int,
    strength: float,
    rng: np.random.Generator,
    noise: Picture | None = None,
    saves_as: str = "JPEG",
) -> tuple[Picture, float]:
    """``x`` with blur, noise or compression of ``strength`` 0 to 1 between the bounds, and the amount of it."""
    if AMOUNTS[kind] == "blur":
        sigma = _between(BLUR, strength)
        return ndimage.gaussian_filter(x, (sigma, sigma, 0)), amount_of_blur(sigma)
    if AMOUNTS[kind] == "noise":
        sigma = _between(NOISE, strength)
        noise = rng.standard_normal(x.shape).astype(np.float32) if noise is None else noise
        return x + noise * np.float32(sigma / 255), amount_of_noise(sigma)
    quality = round(100 - _between((100 - QUALITY[1], 100 - QUALITY[0]), strength))
    return through_file(x, saves_as, quality=quality), amount_of_compression(quality)


def _between(bounds: tuple[float, float], share: float) -> float:
    """On a logarithmic scale, since what is light is to be told finely."""
    return float(bounds[0] * (bounds[1] / bounds[0]) ** share)


def _channels_first(x: Picture) -> Picture:
    return np.ascontiguousarray(x.transpose(2, 0, 1), dtype=np.float32)
