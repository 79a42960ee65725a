"""What the map is learned from: clean photographs, distorted whole or in one rectangle by what hurts locally.

``grepq_iqa/explain/quality_map.safetensors`` is made here, without any human score. Item ``k`` is a pure function of
the seed and ``k``. The network tells a severity for every cell, and the variance that it is wrong by.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grepq_iqa.data.traces import LUMA
from grepq_iqa.encoders.perceptron import layers_of
from grepq_iqa.explain.local_measures import CELL, local_measures
from grepq_iqa.explain.network import GROUPS
from grepq_iqa.explain.quality_map import LocalNetwork
from grepq_iqa.training.data.distortions import Picture, distort
from grepq_iqa.training.data.pictures import clean_start
from grepq_iqa.training.reasons import GOOD_QUALITIES, SHRINK, saved

LOCAL_GROUPS = ("sharpness", "noise", "compression", "over_sharpening", "upscaling")
CLEAN, PARTIAL = 0.25, 0.5  # how often nothing is distorted; of the others, how often one rectangle only
SAVED = 0.5
CELLS = 120  # drawn of an item
HIDDEN = (64, 32)


def make_local_item(photographs: list[Path], index: int, seed: int) -> tuple[Picture, NDArray[np.float32]]:
    """The picture of item ``index`` and the severity of each of its cells ``(rows, columns)``."""
    rng = np.random.default_rng((seed, 1, index))
    clean = clean_start(photographs[index % len(photographs)], rng.uniform(*SHRINK))
    height, width = clean.shape[:2]
    mask = np.zeros((height, width), np.float32)
    picture = clean
    severity = 0.0
    if rng.random() >= CLEAN:
        group = str(rng.choice(LOCAL_GROUPS))
        severity = float(rng.uniform(0.3, 5))
        distorted = distort(clean, str(rng.choice(GROUPS[group])), severity, rng)
        box = (slice(0, height), slice(0, width))
        if rng.random() < PARTIAL:
            box = tuple(_part(size, rng) for size in (height, width))  # type: ignore[assignment]
        picture = clean.copy()
        picture[box] = distorted[box]
        mask[box] = 1
    if rng.random() < SAVED:
        picture = saved(picture, int(rng.integers(*GOOD_QUALITIES)))
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.pad(mask, ((0, rows * CELL - height), (0, columns * CELL - width)), mode="symmetric")
    covered = padded.reshape(rows, CELL, columns, CELL).mean((1, 3))
    return np.round(picture * 255) / np.float32(255), severity * covered


def make_cells(photographs: list[Path], indices: Iterable[int], seed: int) -> tuple[NDArray[np.float32], ...]:
    """Local measures ``(n, m)`` and severities ``(n,)`` of some cells of every item."""
    measures, severities = [], []
    for index in indices:
        picture, severity = make_local_item(photographs, index, seed)
        of_cells = local_measures(np.ascontiguousarray(picture * np.float32(255)) @ LUMA)
        rng = np.random.default_rng((seed, 2, index))
        chosen = rng.choice(severity.size, min(CELLS, severity.size), replace=False)
        measures.append(of_cells.reshape(severity.size, -1)[chosen])
        severities.append(severity.ravel()[chosen])
    return np.concatenate(measures), np.concatenate(severities)


def fit_local(
    measures: NDArray[np.float32], severities: NDArray[np.float32], *, epochs: int = 15, seed: int = 0
) -> LocalNetwork:
    """Train by the likelihood of a Gaussian whose mean and variance the network tells (Nix and Weigend, 1994)."""
    mean, scale = measures.mean(0), measures.std(0) + 1e-4
    x = torch.from_numpy(np.clip((measures - mean) / scale, -LocalNetwork.CLIP, LocalNetwork.CLIP)).float()
    y = torch.from_numpy(severities).float()
    torch.manual_seed(seed)
    sizes = (x.shape[1], *HIDDEN, 2)
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    network = nn.Sequential(*modules[:-1])
    batch = 512
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * (len(x) // batch))
    for _ in range(epochs):
        for index in torch.split(torch.randperm(len(x)), batch)[: len(x) // batch]:
            loss = _negative_log_likelihood(network(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return LocalNetwork(mean, scale, layers_of([network]))


def _negative_log_likelihood(told: Tensor, severity: Tensor) -> Tensor:
    expected, log_variance = told[:, 0], told[:, 1].clamp(-3, 3)
    return ((severity - expected).square() * torch.exp(-log_variance) + log_variance).mean() / 2


def _part(size: int, rng: np.random.Generator) -> slice:
    length = int(rng.uniform(0.3, 0.8) * size)
    start = int(rng.integers(0, size - length + 1))
    return slice(start, start + length)
