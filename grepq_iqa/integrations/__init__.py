"""Other people's tools: one callable for frameworks that map over batches, a metric, and file formats.

>>> from grepq_iqa.integrations import Scorer

Nothing here imports a framework before it is used, and `Scorer` needs none at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grepq_iqa.integrations.scorer import Scorer
    from grepq_iqa.integrations.torchmetrics_metric import GRepQMetric

__all__ = ["GRepQMetric", "Scorer"]

_HOMES = {
    "GRepQMetric": "grepq_iqa.integrations.torchmetrics_metric",
    "Scorer": "grepq_iqa.integrations.scorer",
}


def __getattr__(name: str) -> object:
    # what one of them needs is not imported for the other
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
