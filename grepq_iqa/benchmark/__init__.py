"""The field's public data sets, its protocol, its older methods, and a report: ``grepq benchmark`` from Python.

Example:
    >>> from grepq_iqa import GRepQ                                        # doctest: +SKIP
    >>> from grepq_iqa.benchmark import read, run
    >>> images = read("kadid-10k", "/data/kadid10k")                       # doctest: +SKIP
    >>> result = run(images, GRepQ.from_pretrained(), label_counts=(50, 100))   # doctest: +SKIP
    >>> result.zero_shot["Q"].srcc                                         # doctest: +SKIP

The measures alone, on plain arrays, are in `grepq_iqa.benchmark.protocol`.
"""

from grepq_iqa.benchmark.datasets.labeled_images import LabelledImages
from grepq_iqa.benchmark.datasets.registry import CATALOGUE, DatasetEntry, read
from grepq_iqa.benchmark.protocol import Agreement, FewLabels, agreement, few_labels
from grepq_iqa.benchmark.run import BenchmarkResult, run

__all__ = [
    "CATALOGUE",
    "Agreement",
    "BenchmarkResult",
    "DatasetEntry",
    "FewLabels",
    "LabelledImages",
    "agreement",
    "few_labels",
    "read",
    "run",
]
