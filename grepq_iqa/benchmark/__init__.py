"""The field's public data sets, its protocol, its older methods, and a report: ``grepq benchmark`` from Python.

Example:
    >>> from grepq_iqa import GRepQ                                        # doctest: +SKIP
    >>> from grepq_iqa.benchmark import read, run
    >>> images = read("kadid-10k", "/data/kadid10k")                       # doctest: +SKIP
    >>> result = run(images, GRepQ.from_pretrained(), label_counts=(50, 100))   # doctest: +SKIP
    >>> result.zero_shot["Q"].srcc                                         # doctest: +SKIP

The metrics alone, on plain arrays, are in `grepq_iqa.metrics` and `grepq_iqa.benchmark.correlation`.
"""

from grepq_iqa.benchmark.correlation import CorrelationMetrics, correlation_metrics
from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages
from grepq_iqa.benchmark.datasets.registry import REGISTRY, DatasetEntry, read
from grepq_iqa.benchmark.few_labels import FewLabels, few_labels
from grepq_iqa.benchmark.result import BenchmarkResult
from grepq_iqa.benchmark.run import run

__all__ = [
    "REGISTRY",
    "BenchmarkResult",
    "CorrelationMetrics",
    "DatasetEntry",
    "FewLabels",
    "LabeledImages",
    "correlation_metrics",
    "few_labels",
    "read",
    "run",
]
