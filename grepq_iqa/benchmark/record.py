"""Figures of a benchmark, written into the provenance of the model that was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from grepq_iqa.benchmark.result import BenchmarkResult
from grepq_iqa.weights.config import read_config, write_config

DIGITS = 4


def record_scores(directory: Path, dataset: str, result: BenchmarkResult) -> None:
    """Write SRCC of a benchmark into ``config.json`` of a model directory, as model cards read it.

    Args:
        directory: of the model.
        dataset: what the data set is called; figures under the same name are replaced.
        result: of the benchmark with this model.

    Raises:
        WeightsError: the config cannot be read.
    """
    config = read_config(str(directory), directory / "config.json")
    provenance = config.setdefault("provenance", {})
    scores: list[dict[str, Any]] = [s for s in provenance.get("scores", []) if s["dataset"] != dataset]
    common = {"dataset": dataset, "images": result.images, "dtype": result.model["dtype"], "metric": "srcc"}
    for method in ("Q", "Q_L", "Q_H"):
        value = round(result.zero_shot[method].srcc, DIGITS)
        scores.append(common | {"split": f"zero-shot, {method}", "value": value})
    for row in result.few_labels:
        split = f"median over {len(row.srcc)} seeded splits, 20 % test"
        scores.append(common | {"split": split, "labels": row.labels, "value": round(row.median_srcc, DIGITS)})
    # JSON has no NaN, which constant scores have for a correlation
    provenance["scores"] = [score for score in scores if math.isfinite(score["value"])]
    write_config(directory / "config.json", config)
