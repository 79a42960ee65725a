"""The mean zero-shot quality of many images as a torchmetrics ``Metric``, for training and evaluation loops.

Needs the extra ``torchmetrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from grepq_iqa.data.images import ImageSource, split_batch
from grepq_iqa.errors import UsageError
from grepq_iqa.integrations.scorer import Scorer

try:
    from torchmetrics import Metric
except ImportError as error:
    raise UsageError(f"GRepQMetric needs torchmetrics ({error}): pip install 'grepq-iqa[torchmetrics]'") from error

_UNITS = 1 << 32


class GRepQMetric(Metric):
    """Mean Q of the images seen since the last reset, over all processes; higher is better.

    It measures images and trains nothing: no gradient passes through it.

    Example:
        >>> metric = GRepQMetric()
        >>> metric.update(torch.rand(2, 3, 96, 96))
        >>> 0 < float(metric.compute()) < 1.5
        True

    Args:
        model: as for :meth:`grepq_iqa.GRepQ.from_pretrained`.
        reduction: "mean", or "none" for the score of every image, ``(n,)``, whose state grows with n.
        scorer: settings of `Scorer` beside the model, such as ``engine``, ``device`` and ``max_side``. Threads of the
            process stay as they are unless ``threads`` is given.
        kwargs: torchmetrics' own, such as ``sync_on_compute``.

    Raises:
        UsageError: another reduction.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.5

    total: Tensor
    count: Tensor
    scores: list[Tensor]

    def __init__(
        self,
        model: str | None = None,
        reduction: Literal["mean", "none"] = "mean",
        *,
        scorer: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reduction not in ("mean", "none"):
            raise UsageError(f"unknown reduction {reduction!r}: use mean or none")
        self.reduction = reduction
        self._scorer = Scorer(model, **({"threads": None} | (scorer or {})))
        if reduction == "mean":
            # In units of 2**-32: exact whatever the order, and there are devices without float64.
            self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        else:
            self.add_state("scores", [], dist_reduce_fx="cat")

    def update(self, images: ImageSource | Sequence[ImageSource]) -> None:
        """Score further images.

        Args:
            images: ``(B, 3, H, W)`` or ``(3, H, W)``, uint8 or floats in [0, 1]; or whatever
                :meth:`grepq_iqa.GRepQ.score` takes.

        Raises:
            ImageError: an image cannot be used, such as floats in another range; nothing of the batch is counted then.
        """
        found = [one.score for one in self._scorer.load().score(split_batch(images)[0])]
        if self.reduction == "mean":
            self.total = self.total + sum(round(score * _UNITS) for score in found)
            self.count = self.count + len(found)
        else:
            self.scores.append(torch.tensor(found, dtype=torch.float32, device=self.device))

    def compute(self) -> Tensor:
        """The mean, float32 without axes, nan of no images; or the scores ``(n,)``."""
        if self.reduction == "mean":
            mean = self.total.cpu().double() / _UNITS / self.count.cpu()
            return mean.float().to(self.device)
        held = self.scores if isinstance(self.scores, list) else [self.scores]
        return torch.cat(held).float() if held else torch.empty(0, device=self.device)
