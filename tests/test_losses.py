"""Losses against loops that read like docs/method.md, sections 4 and 5."""

from __future__ import annotations

import math

import pytest
import torch

from grepq_iqa.training.losses.distortion import DistortionLoss
from grepq_iqa.training.losses.gcl import GroupContrastiveLoss, select_extremes
from grepq_iqa.training.losses.qcl import QualityContrastiveLoss
from grepq_iqa.training.losses.ranking import SeverityRankingLoss


def cos(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_qcl_equals_the_loop(copies):
    torch.manual_seed(0)
    a, b = torch.randn(3, copies, 16, dtype=torch.float64), torch.randn(3, copies, 16, dtype=torch.float64)
    fsim = torch.rand(3, copies, copies, dtype=torch.float64)
    fsim = (fsim + fsim.transpose(1, 2)) / 2
    fsim[:, range(copies), range(copies)] = 1
    total = 0.0
    for image in range(3):
        e = [[math.exp(cos(a[image, i], b[image, j]) / 0.5) for j in range(copies)] for i in range(copies)]
        w = [[2 - 2 / (1 + float(fsim[image, i, j]) ** 2) for j in range(copies)] for i in range(copies)]
        for i in range(copies):
            row = sum(w[i][j] * e[i][j] for j in range(copies)) / sum(e[i])
            column = sum(w[j][i] * e[j][i] for j in range(copies)) / sum(e[j][i] for j in range(copies))
            total -= (math.log(row) + math.log(column)) / copies
    assert QualityContrastiveLoss()(a, b, fsim).item() == pytest.approx(total / 3, abs=1e-5)


def test_qcl_without_likeness_stays_finite_and_passes_gradients():
    a, b = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 4, 8, requires_grad=True)
    loss = QualityContrastiveLoss()(a, b, torch.eye(4).expand(2, 4, 4))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(a.grad).all() and a.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="positive"):
        QualityContrastiveLoss(0)


def test_gcl_equals_the_loop():
    torch.manual_seed(0)
    best, worst = torch.randn(4, 12), torch.randn(4, 12)
    losses = []
    for own, other in ((best, worst), (worst, best)):
        for i in range(4):
            p = sum(cos(own[i], own[j]) for j in range(4) if j != i) / 3
            negatives = sum(math.exp(cos(own[i], other[k]) / 0.5) for k in range(4))
            losses.append(-math.log(math.exp(p / 0.5) / (math.exp(p / 0.5) + negatives)))
    assert GroupContrastiveLoss()(best, worst).item() == pytest.approx(sum(losses) / 8, abs=1e-5)


def test_extremes_are_the_best_and_the_worst():
    quality = torch.tensor([0.3, 0.9, 0.1, 0.5, 0.8, 0.2])
    best, worst = select_extremes(quality, 2)
    assert set(best.tolist()) == {1, 4} and set(worst.tolist()) == {2, 5}
    with pytest.raises(ValueError, match="batch"):
        select_extremes(quality, 4)


def test_ranking_equals_the_loop():
    torch.manual_seed(0)
    scores, strength = torch.randn(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)
    terms = []
    for row in range(3):
        for i in range(5):
            for j in range(5):
                difference = float(strength[row, i] - strength[row, j])
                if difference >= 0.01:
                    violation = float(scores[row, i] - scores[row, j]) + 2 * difference
                    terms.append(0.3 * math.log1p(math.exp(violation / 0.3)))
    loss = SeverityRankingLoss(margin=2, temperature=0.3)(scores, strength)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-9)
    assert SeverityRankingLoss()(scores, torch.zeros(3, 5)).item() == 0


def test_distortion_loss_equals_the_loop():
    torch.manual_seed(0)
    found, distance, severity = torch.randn(3, 4, 6), torch.rand(3, 4), torch.rand(3, 4, 5)
    distance[:, 0], severity[:, 0] = 0, 0
    clean = torch.tensor([True, False, True])

    def huber(error: float) -> float:
        return (error**2 / 2 if abs(error) < 0.1 else 0.1 * (abs(error) - 0.05)) / 0.1

    distances, severities, orders = [], [], []
    for one in range(3):
        start = torch.zeros(6) if clean[one] else found[one, 0]
        for i in range(4):
            distances.append(huber(float(found[one, i, 0] - start[0] - distance[one, i])))
            severities += [huber(float(found[one, i, 1 + k] - start[1 + k] - severity[one, i, k])) for k in range(5)]
            for j in range(4):
                more = float(distance[one, i] - distance[one, j])
                if more >= 0.005:
                    violation = float(found[one, j, 0] - found[one, i, 0]) + more
                    # log(1 + e^x) without overflow
                    x = violation / 0.02
                    orders.append(0.02 * (max(x, 0) + math.log1p(math.exp(-abs(x)))))
    want = [sum(terms) / len(terms) for terms in (distances, severities, orders)]
    loss, figures = DistortionLoss(2.0, 4.0, 10.0)(found, distance, severity, clean)
    assert list(figures.values()) == pytest.approx(want, abs=1e-5)
    assert loss.item() == pytest.approx(2 * want[0] + 4 * want[1] + 10 * want[2], abs=1e-4)


@pytest.mark.parametrize("loss", ["qcl", "gcl", "ranking", "distortion"])
def test_gradients_are_those_of_finite_differences(loss, monkeypatch):
    # the losses compute in float32 on purpose; here they may keep the float64 that gradcheck needs
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    torch.manual_seed(0)
    a = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    likeness = torch.rand(2, 3, 3, dtype=torch.float64)
    known = (likeness[..., 0], likeness, torch.tensor([True, False]))
    functions = {
        "qcl": lambda: torch.autograd.gradcheck(lambda x, y: QualityContrastiveLoss()(x, y, likeness), (a, b)),
        "gcl": lambda: torch.autograd.gradcheck(GroupContrastiveLoss(), (a[0], b[0])),
        "distortion": lambda: torch.autograd.gradcheck(lambda x: DistortionLoss()(x, *known)[0], (a,)),
        "ranking": lambda: torch.autograd.gradcheck(lambda x: SeverityRankingLoss()(x, likeness[..., 0]), (a[..., 0],)),
    }
    assert functions[loss]()
