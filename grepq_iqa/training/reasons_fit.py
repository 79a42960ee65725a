"""Fitting the network of reasons: an ensemble on all photographs, thresholds on photographs no fold had seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grepq_iqa.encoders.perceptron import layers_of, perceptron
from grepq_iqa.explain.network import GROUPS, OUTPUTS, STEPS, Network
from grepq_iqa.training.reasons import Items
from grepq_iqa.training.small_networks import train_small

FOLDS = 5
HIDDEN = (128, 64)
FAMILY_WEIGHT = 0.3  # in the loss: families only tell the kind
JITTER = 0.1  # noise on standardized measures, against learning single photographs
CLEAN = 0.4
"""Severity below which nothing shall be named: a good JPEG has up to 0.3."""
SEVERE = 3.0
FALSE_ALARMS = 0.11
"""Share of unseen clean photographs on which something may be named; the aim is at most 0.1 on others."""
FALSE_FURTHER = 0.1  # for each reason, of photographs with another, that it may be named besides
LEAST, LEAST_FURTHER = 0.8, 0.25
"""No threshold is lower: milder things do not show on a phone. Beside another reason less evidence will do."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How long and how many."""

    networks: int = 3
    epochs: int = 100
    batch: int = 256
    seed: int = 0


def fit_reasons(items: Items, in_the_wild: Array, settings: Settings | None = None) -> Network:
    """The network of reasons.

    Args:
        items: of clean photographs with known distortions.
        in_the_wild: measures ``(n, m)`` of unlabeled photographs, for the quantiles.
        settings: of training.
    """
    settings = settings or Settings()
    mean, scale = items.measures.mean(0), items.measures.std(0) + np.float32(1e-4)
    x = np.clip((items.measures - mean) / scale, -Network.CLIP, Network.CLIP)
    unseen = np.empty((len(x), len(GROUPS)), np.float32)
    for fold in range(FOLDS):
        inside = items.photographs % FOLDS == fold
        network = _train(x[~inside], items.severities[~inside], settings, seed=settings.seed + 100 + fold)
        unseen[inside] = perceptron(layers_of([network]), x[inside])[:, : len(GROUPS)]
    truth = items.severities[:, : len(GROUPS)]
    first = first_thresholds(unseen, truth)
    further = further_thresholds(unseen, truth, first)
    networks = [_train(x, items.severities, settings, seed=settings.seed + k) for k in range(settings.networks)]
    layers = tuple((weight.astype(np.float16).astype(np.float32), bias) for weight, bias in layers_of(networks))
    z = np.clip((in_the_wild - mean) / scale, -Network.CLIP, Network.CLIP)
    found = np.clip(perceptron(layers, z)[:, : len(GROUPS)], 0, 5)
    quantiles = np.quantile(found, np.linspace(0, 1, STEPS), axis=0).T.astype(np.float32)
    return Network(
        mean,
        scale,
        layers,
        first=dict(zip(GROUPS, first.tolist(), strict=True)),
        further=dict(zip(GROUPS, further.tolist(), strict=True)),
        quantiles=dict(zip(GROUPS, quantiles, strict=True)),
    )


def first_thresholds(found: Array, truth: Array) -> Array:
    """Thresholds ``(groups,)`` that spend the allowed false alarms where they find most.

    Starting without any false alarm, thresholds are lowered one at a time, always the one that raises the sum of the
    logarithms of the shares found (of severe single distortions) most for each further clean photograph that is
    named. The logarithm looks after the reasons that are found least.

    Args:
        found: severities ``(n, groups)`` by networks that had not seen the photographs.
        truth: likewise, as they are.
    """
    clean = found[truth.max(1) < CLEAN]
    severe = []
    for group in range(found.shape[1]):
        others = np.delete(truth, group, axis=1).max(1)
        severe.append(np.sort(found[(others < CLEAN) & (truth[:, group] >= SEVERE), group]))
    thresholds = np.maximum(clean.max(0), LEAST)
    alarm = (clean > thresholds).any(1)
    allowed = FALSE_ALARMS * len(clean)
    step = max(1, len(clean) // 400)
    while True:
        best: tuple[float, int, float] | None = None
        for group in range(found.shape[1]):
            if thresholds[group] <= LEAST:
                continue
            below = np.sort(clean[clean[:, group] <= thresholds[group], group])[::-1]
            lower = max(LEAST, float(below[min(step, len(below) - 1)]))
            costs = int((~alarm & (clean[:, group] > lower)).sum())
            if alarm.sum() + costs > allowed:
                continue
            shares = [float((severe[group] > at).mean()) + 1e-3 for at in (thresholds[group], lower)]
            gain = (np.log(shares[1]) - np.log(shares[0]) + 1e-6) / (costs + 0.1)
            if best is None or gain > best[0]:
                best = gain, group, lower
        if best is None:
            return np.asarray(thresholds, np.float32)
        thresholds[best[1]] = best[2]
        alarm |= clean[:, best[1]] > best[2]


def further_thresholds(found: Array, truth: Array, first: Array) -> Array:
    """Thresholds ``(groups,)`` of what may be named besides, by how often it would be where it is not there."""
    single = ((truth >= CLEAN).sum(1) == 1) & (truth.max(1) >= SEVERE / 2)
    thresholds = []
    for group in range(found.shape[1]):
        absent = single & (truth[:, group] < CLEAN)
        seldom = float(np.quantile(found[absent, group], 1 - FALSE_FURTHER))
        thresholds.append(min(float(first[group]), max(LEAST_FURTHER, seldom)))
    return np.array(thresholds, np.float32)


def _train(x: Array, severities: Array, settings: Settings, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(severities).float()
    weight = torch.ones(len(OUTPUTS))
    weight[len(GROUPS) :] = FAMILY_WEIGHT
    network = nn.Sequential(
        *(nn.Linear(x.shape[1], HIDDEN[0]), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Dropout(0.05)),
        nn.Linear(HIDDEN[1], len(OUTPUTS)),
    )

    def loss_of(index: Tensor) -> Tensor:
        noisy = inputs[index] + JITTER * torch.randn(len(index), x.shape[1])
        errors = nn.functional.smooth_l1_loss(network(noisy), targets[index], reduction="none")
        return (errors * weight).mean()

    cycle = {"epochs": settings.epochs, "batch": settings.batch}
    return train_small(network, len(x), loss_of, highest_rate=4e-3, weight_decay=0.02, **cycle)
