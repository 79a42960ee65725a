"""Metrics slowly, as their definitions read, and data to compare on."""

from __future__ import annotations

import itertools
import math

import numpy as np


def slow_ranks(values):
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def slow_pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return xy / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def slow_spearman(x, y):
    return slow_pearson(slow_ranks(x), slow_ranks(y))


def slow_tau_b(x, y):
    agree = ties_x = ties_y = pairs = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        agree += a * b
        ties_x, ties_y, pairs = ties_x + (a == 0), ties_y + (b == 0), pairs + 1
    return agree / math.sqrt((pairs - ties_x) * (pairs - ties_y))


def slow_rmse(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x))


def sample(n: int, ties: bool, seed: int = 0):
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n)
    scores = 0.3 * mos + rng.normal(size=n)
    return (np.round(scores), np.round(mos)) if ties else (scores, mos)
