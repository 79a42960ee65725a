"""Rows of `grepq score` or `grepq predict` as a dataset that FiftyOne opens. FiftyOne is not needed to write it.

Example:
    >>> write_dataset("scores.csv", "for-fiftyone")  # doctest: +SKIP
    >>> import fiftyone as fo  # doctest: +SKIP
    >>> dataset = fo.Dataset.from_dir("for-fiftyone", dataset_type=fo.types.FiftyOneDataset)  # doctest: +SKIP

The format is that of ``FiftyOneDataset`` without a version in its metadata, which FiftyOne reads by its importer for
datasets written by hand (``fiftyone/utils/data/importers.py``, ``LegacyFiftyOneDatasetImporter``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.files import write_atomically
from grepq_iqa.integrations.result_rows import NUMBERS, read_rows
from grepq_iqa.text import MARK

UNUSABLE = "grepq_unusable"
"""Tag of a sample whose file could not be scored; ``grepq_error`` says why."""


def write_dataset(rows: str | os.PathLike[str], folder: str | os.PathLike[str]) -> int:
    """Write ``metadata.json`` and ``samples.json`` into a folder; returns the number of samples.

    Args:
        rows: CSV or TSV of `grepq score` or `grepq predict`. Each row becomes a sample with ``filepath``, absolute, and
            fields ``grepq_score``, ``grepq_percentile``, ``grepq_mos`` and so on.
        folder: made where it is missing.

    Raises:
        LabelsError: the rows cannot be read.
        UsageError: the folder holds a dataset that is not ours.
        OSError: it cannot be written.
    """
    target = Path(folder)
    metadata = target / "metadata.json"
    if metadata.exists() and MARK not in metadata.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{target} holds a dataset of someone else; give another folder")
    samples = []
    for row in read_rows(rows):
        fields = {f"grepq_{name}": row[name] for name in (*NUMBERS, "warnings", "error") if name in row}
        samples.append({"filepath": row["path"], "tags": [UNUSABLE] if "error" in row else [], **fields})
    info = {"generator": f"{MARK} {__version__}", "rows": str(Path(rows).absolute())}
    write_atomically(target / "samples.json", json.dumps({"samples": samples}, indent=1, ensure_ascii=False) + "\n")
    write_atomically(metadata, json.dumps({"media_type": "image", "info": info}, indent=1) + "\n")
    return len(samples)
