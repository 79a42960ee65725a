"""What people said of other photographs, as one function: an expected opinion before any label of one's own.

Trained by ``python -m grepq_iqa.training ratings`` and kept in ``ratings.safetensors`` of a model directory. With
standardized features ``z`` limited to ``[-clip, clip]`` and the zero-shot score's high-level part ``Q_H``::

    m(x) = intercept + z coef + score_coef Q_H + sum_j dual_j exp(-|z basis - point_j| / width) + networks(z)
                                                          expected opinion, 0 the worst and 100 the best
    |opinion - m(x)| <= the c-quantile of the absolute held-out residuals of photographs with a similar m(x)

The sum is a kernel ridge on few principal components, one term a rated photograph: it asks which of them are alike,
where the linear part asks what they have in common; ``networks``, the mean of a few perceptrons of one hidden layer, is
0 in files of version 0.1. The last line is split-conformal with residuals of models that had not seen the photograph;
quantiles are kept for several parts of the range of m, because opinions part most at its lower end. Nothing that Q
reads depends on this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open
from safetensors.numpy import save

from grepq_iqa.encoders.perceptron import Layers, layers_state, perceptron, pop_layers
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import write_atomically

Array = NDArray[np.float64]

RATINGS = "ratings.safetensors"
LOWEST, HIGHEST = 0.0, 100.0
"""Ends of the scale of an expected opinion."""

COMMON = 0.8
"""Level of the residual quantile that stands for the spread of opinions."""


@dataclass(frozen=True)
class RatingsPredictor:
    """A ridge, a kernel ridge and small networks of rated photographs, with what intervals and a head start need.

    Attributes:
        coef: ``(d,)``, one weight a standardized feature.
        mean, scale: ``(d,)``, statistics of features over unlabeled in-the-wild images.
        clip: standardized features are limited to ``[-clip, clip]``; ``(1,)``.
        intercept: ``(1,)``.
        score_coef: weight of Q_H, ``(1,)``.
        basis: principal components of standardized features, ``(d, p)``.
        points: rated photographs in that basis, ``(n, p)``.
        dual: weight of each, ``(n,)``.
        width: distance at which likeness has fallen to 1/e, ``(1,)``.
        expected: mean and standard deviation of m over unlabeled photographs, ``(2,)``.
        centers: middle of every part of the range of m, rising, ``(k,)``.
        quantiles: of the absolute residuals in every part, at equal steps from 0 to 1, ``(k, levels)``.
        counts: photographs behind every part, ``(k,)``.
        networks: an ensemble with d inputs and one output; () has none.
    """

    coef: Array
    mean: Array
    scale: Array
    clip: Array
    intercept: Array
    score_coef: Array
    basis: Array
    points: Array
    dual: Array
    width: Array
    expected: Array
    centers: Array
    quantiles: Array
    counts: Array
    networks: Layers = ()

    def __post_init__(self) -> None:
        # As the file stores them, so that a predictor is the same before it is written and after.
        for name in _ARRAYS:
            values = np.asarray(getattr(self, name), dtype=_stored_type(name)).astype(np.float64)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "networks", pop_layers(layers_state(self.networks)))

    def opinion(self, features: ArrayLike, high_level: ArrayLike) -> Array:
        """Expected opinion ``(n,)`` of features ``(n, d)`` and Q_H ``(n,)``, not limited to 0..100.

        Raises:
            UsageError: features of another shape or not finite.
        """
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.coef):
            raise UsageError(f"features have shape {rows.shape} where (n, {len(self.coef)}) is expected")
        if not np.isfinite(rows).all():
            raise UsageError("features hold values that are not finite")
        z = np.clip((rows - self.mean) / self.scale, -self.clip, self.clip)
        linear = z @ self.coef + self.score_coef * np.asarray(high_level, dtype=np.float64) + self.intercept
        result: Array = linear + likeness(z @ self.basis, self.points, float(self.width[0])) @ self.dual
        return result + perceptron(self.networks, z.astype(np.float32))[:, 0] if self.networks else result

    def interval(self, opinion: ArrayLike, confidence: float = 0.9) -> tuple[Array, Array]:
        """Where the opinions lie that are expected at ``opinion (n,)``: lower and upper ends, within 0..100.

        Raises:
            UsageError: confidence is not from 0.5 up to, not including, 1.
        """
        if not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be at least 0.5 and below 1, got {confidence}")
        middle = np.asarray(opinion, dtype=np.float64)
        levels = np.linspace(0, 1, self.quantiles.shape[1])
        # The rank ceil(c (n + 1)) of n residuals, as a level; beyond the last residual the scale itself is the limit.
        wanted = confidence * (self.counts + 1) / self.counts
        whole = HIGHEST - LOWEST
        widths = [
            np.interp(level, levels, row) if level <= 1 else whole
            for level, row in zip(wanted, self.quantiles, strict=True)
        ]
        width = np.interp(middle, self.centers, widths)
        return np.clip(middle - width, LOWEST, HIGHEST), np.clip(middle + width, LOWEST, HIGHEST)

    @property
    def spread(self) -> Array:
        """Expected opinions, rising, and how far opinions commonly lie from them there: ``(2, k)``."""
        level = round(COMMON * (self.quantiles.shape[1] - 1))
        result: Array = np.stack([self.centers, np.maximum(self.quantiles[:, level], 1e-3)])
        return result

    @property
    def hash(self) -> str:
        """64 hex digits that change with any number of the predictor."""
        digest = hashlib.sha256()
        for key, values in sorted(self.state().items()):
            digest.update(key.encode() + values.tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, NDArray[np.floating]]:
        """Every attribute as float32, the large ones as float16, ready for safetensors."""
        arrays = {name: np.ascontiguousarray(getattr(self, name), _stored_type(name)) for name in _ARRAYS}
        return arrays | layers_state(self.networks)


_ARRAYS = tuple(field.name for field in fields(RatingsPredictor) if field.name != "networks")


def likeness(rows: Array, points: Array, width: float) -> Array:
    """``exp(-|row - point| / width)``, ``(m, n)``, for rows ``(m, p)`` and points ``(n, p)``."""
    squared = (rows**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * rows @ points.T
    result: Array = np.exp(-np.sqrt(squared.clip(min=0)) / width)
    return result


def _stored_type(name: str) -> type[np.floating]:
    return np.float16 if name in ("basis", "points") else np.float32


def write_ratings(path: Path, predictor: RatingsPredictor, encoder_hash: str) -> None:
    """Write ``ratings.safetensors`` whole, bound to the encoders whose features it reads.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, save(predictor.state(), metadata={"encoder_hash": encoder_hash}))


def read_ratings(path: Path, encoder_hash: str, name: str) -> RatingsPredictor:
    """The predictor that `write_ratings` left.

    Raises:
        WeightsError: it is damaged, or reads the features of other encoders.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            notes = stored.metadata() or {}
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # safetensors raises its own type, OSError or ValueError
        raise WeightsError(f"{path} cannot be read: {error}", name, RATINGS) from error
    if notes.get("encoder_hash") != encoder_hash:
        found = str(notes.get("encoder_hash"))[:12]
        raise WeightsError(
            f"{RATINGS} of {name!r} reads the features of other encoders ({found}, not {encoder_hash[:12]})",
            name,
            RATINGS,
            "train it again: python -m grepq_iqa.training ratings",
        )
    return RatingsPredictor(**_checked(state, name))


def _checked(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    state = dict(state)
    networks = pop_layers(state)
    d, parts = np.size(state.get("coef", ())), np.size(state.get("centers", ()))
    levels = np.shape(state.get("quantiles", ()))[-1]
    n, p = np.size(state.get("dual", ())), np.shape(state.get("basis", ()))[-1]
    one = ("clip", "intercept", "score_coef", "width")
    all_features, all_parts = ("coef", "mean", "scale"), ("centers", "counts")
    wanted: dict[str, tuple[int, ...]] = {"expected": (2,), "quantiles": (parts, levels)}
    wanted |= {"basis": (d, p), "points": (n, p), "dual": (n,)}
    wanted |= dict.fromkeys(one, (1,)) | dict.fromkeys(all_features, (d,)) | dict.fromkeys(all_parts, (parts,))
    if problems := sorted(wanted.keys() ^ state.keys()):
        raise WeightsError(f"{RATINGS} of {name!r} lacks or has unexpected {', '.join(problems)}", name, RATINGS)
    for key, shape in wanted.items():
        values = np.asarray(state[key])
        if values.shape != shape or not np.isfinite(values).all():
            raise WeightsError(
                f"{RATINGS} of {name!r}: {key} has shape {values.shape} where {shape} is expected, or is not finite",
                name,
                RATINGS,
            )
    if (np.asarray(state["scale"]) <= 0).any() or not parts or min(state["expected"][1], state["width"][0]) <= 0:
        raise WeightsError(f"{RATINGS} of {name!r} holds scales that are not positive", name, RATINGS)
    if networks and not _fit_together(networks, d):
        raise WeightsError(f"{RATINGS} of {name!r}: its networks do not fit {d} features", name, RATINGS)
    return state | {"networks": networks}


def _fit_together(layers: Layers, inputs: int) -> bool:
    """Whether each layer takes what the one before answers, the first ``inputs``, and the last answers one number."""
    widths = [inputs, *(weight.shape[-1] for weight, _ in layers)]
    return widths[-1] == 1 and all(
        weight.shape == (len(layers[0][0]), before, after)
        and bias.shape == (len(layers[0][0]), 1, after)
        and bool(np.isfinite(weight).all() and np.isfinite(bias).all())
        for (weight, bias), before, after in zip(layers, widths[:-1], widths[1:], strict=True)
    )
