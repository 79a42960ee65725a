"""Learning a rank of FSIM from copies whose source is known, and 0 from photographs of which nothing is known.

No human score is used. A series is a crop of a clean photograph, three families of distortion at three severities each,
and a few mixtures; FSIM with the crop says how much each copy has lost, and ranks over all series make that one scale
for unlike families and contents. Ranking copies across contents by full-reference measures in the place of people
follows DUBMA (IJCAI 2025), which trains a whole tower so. Unlabeled photographs, as they are and shrunk, are told apart
by the same networks: they pull the answer to 0 wherever a picture looks more like a photograph than like a copy, and so
leave the order of photographs to what else the score reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from grepq_iqa.encoders.fine_detail import FineDetail
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.perceptron import layers_of
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.encoders.predicted_fsim import PredictedFsim
from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.distorted_copies import FAMILIES
from grepq_iqa.training.data.distortions import Picture, compose
from grepq_iqa.training.data.pictures import clean_start, crop_at_random, read_picture, rounded, shrunk
from grepq_iqa.training.data.severity_series import KEY_FAMILIES
from grepq_iqa.training.similarity.fsim import fsim_matrix
from grepq_iqa.training.small_networks import train_small

SHRINK = (0.55, 0.85)  # of clean photographs, which are JPEG files themselves
SHRINK_UNLABELED = 0.4  # at most
CHAINS, SEVERITIES, MIXTURES = 3, 3, 4
PICTURES = 1 + CHAINS * SEVERITIES + MIXTURES
MILDEST, WORST, WORST_MIXED = 0.15, 5.0, 3.0
HIDDEN = (32, 16)
NETWORKS = 3
JITTER = 0.1  # noise on standardized inputs, against learning single pictures
UNTOUCHED = 4  # what the crop itself counts beside a copy; else light noise is taken for a surer sign of a good copy
MARGIN, ORDER = 0.02, 0.04
"""By how much a stronger copy of a chain is to have less, and the weight of that beside the squared error."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Read:
    """What networks read of pictures, and FSIM of those whose source is known.

    Attributes:
        series: ``(n, PICTURES, m)``; the crop first, then chains of rising severity, then mixtures.
        fsim: ``(n, PICTURES)`` with the crop.
        unlabeled: ``(k, m)``.
    """

    series: Array
    fsim: Array
    unlabeled: Array


class Reader:
    """Makes ``(m,)`` of a picture: what the distortion head and the full-resolution branch tell of it."""

    def __init__(self, encoder: HighLevelEncoder, fine: FineDetail | None) -> None:
        assert isinstance(encoder.tower, PooledEfficientNet) and encoder.tower.distortion_head  # the caller has looked
        self.encoder, self.tower, self.head, self.fine = (
            encoder.eval(),
            encoder.tower,
            encoder.tower.distortion_head,
            fine,
        )

    @torch.inference_mode()
    def __call__(self, picture: Picture) -> Array:
        """Of a picture ``(H, W, 3)`` in [0, 1]."""
        pixels = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
        told = self.head(self.tower.distortion_map(self.encoder.normalize(torch.from_numpy(pixels)[None])))[0].numpy()
        return told if self.fine is None else np.concatenate([told, self.fine(pixels)])


def read_series(reader: Reader, clean: list[Path], members: Iterable[int], crop: int, seed: int) -> tuple[Array, Array]:
    """Of series by index, each a pure function of it and the seed: what is read, and FSIM."""
    read, similar = [], []
    for index in members:
        rng = np.random.default_rng((seed, index))
        start = crop_at_random(clean_start(clean[index % len(clean)], rng.uniform(*SHRINK)), crop, rng)
        noise_seed = int(rng.integers(1 << 31))  # noise of a chain is the same noise, only stronger
        pictures = [rounded(compose(start, step, np.random.default_rng(noise_seed))) for step in draw_steps(rng)]
        read.append(np.stack([reader(picture) for picture in pictures]))
        copies = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        similar.append(fsim_matrix(copies)[0].numpy())
    return np.stack(read), np.stack(similar).astype(np.float32)


def read_unlabeled(
    reader: Reader, photographs: list[Path], members: Iterable[int], crop: int, max_side: int | None, seed: int
) -> Array:
    """Of unlabeled photographs by index: even ones as they are, odd ones shrunk and cut."""
    read = []
    for index in members:
        picture = read_picture(photographs[index], max_side=max_side)
        if index % 2:
            rng = np.random.default_rng((seed, index))
            least = crop // 2
            factor = max(rng.uniform(SHRINK_UNLABELED, 1), min(1.0, least / min(picture.shape[:2])))
            picture = crop_at_random(shrunk(picture, factor, 1), crop, rng)
        read.append(reader(rounded(picture)))
    return np.stack(read)


def draw_steps(rng: np.random.Generator) -> list[Steps]:
    """What is done to each picture of a series: nothing, families at rising severities, mixtures of milder ones."""
    first = str(rng.choice(KEY_FAMILIES))  # what most photographs suffer from
    others = rng.choice([name for name in FAMILIES if name != first], CHAINS - 1, replace=False)
    steps: list[Steps] = [[]]
    for family in (first, *map(str, others)):
        steps += [[(family, severity)] for severity in np.sort(rng.uniform(MILDEST, WORST, SEVERITIES)).tolist()]
    for _ in range(MIXTURES):
        mixture = sorted(rng.choice(len(FAMILIES), int(rng.integers(2, 4)), replace=False).tolist())
        steps.append([(FAMILIES[i], float(rng.uniform(MILDEST, WORST_MIXED))) for i in mixture])
    return steps


def fit_predicted_fsim(read: Read, *, epochs: int = 60, batch: int = 8, seed: int = 0) -> PredictedFsim:
    """An ensemble of small networks: ranks by squared error, and the order within chains by a margin.

    Returns:
        What reads ``read``'s inputs in their order, and moves nothing; `export` knows the rest.
    """
    everything = np.concatenate([read.series.reshape(-1, read.series.shape[-1]), read.unlabeled])
    mean, scale = everything.mean(0), everything.std(0) + np.float32(1e-4)
    series, unlabeled = (
        torch.from_numpy(np.clip((x - mean) / scale, -PredictedFsim.CLIP, PredictedFsim.CLIP))
        for x in (read.series, read.unlabeled)
    )
    ranks = torch.from_numpy((rankdata(read.fsim).reshape(read.fsim.shape) / read.fsim.size - 0.5).astype(np.float32))
    networks = [_train(series, ranks, unlabeled, epochs, batch, seed + k) for k in range(NETWORKS)]
    layers = tuple((weight.astype(np.float16).astype(np.float32), bias) for weight, bias in layers_of(networks))
    return PredictedFsim(np.arange(len(mean)), mean, scale, layers)


def _train(series: Tensor, ranks: Tensor, unlabeled: Tensor, epochs: int, batch: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Linear(series.shape[-1], HIDDEN[0]), nn.ReLU()),
        *(nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU()),
        nn.Linear(HIDDEN[1], 1),
    )

    counts = torch.ones(PICTURES)
    counts[0] = UNTOUCHED
    counts /= counts.mean()

    def answer(x: Tensor) -> Tensor:
        told: Tensor = network(x + JITTER * torch.randn_like(x))[..., 0]
        return told

    def loss_of(index: Tensor) -> Tensor:
        found = answer(series[index])
        some = torch.randint(len(unlabeled), (found.numel(),))  # as many as copies
        error = ((found - ranks[index]).square() * counts).mean() + answer(unlabeled[some]).square().mean()
        chains = found[:, 1 : 1 + CHAINS * SEVERITIES].reshape(-1, CHAINS, SEVERITIES)
        rising = torch.cat([found[:, :1, None].expand(-1, CHAINS, 1), chains], dim=2)
        order = nn.functional.softplus((MARGIN + rising.diff(dim=2)) / MARGIN).mean()
        return 10 * (error + ORDER * order)

    return train_small(network, len(series), loss_of, epochs=epochs, batch=batch, highest_rate=4e-3, weight_decay=0.02)
