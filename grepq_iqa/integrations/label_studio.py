"""Rows of `grepq score` or `grepq predict` as tasks for Label Studio, and its ratings back as labels for `grepq fit`.

Label Studio is not needed: the files are those of its import and export in JSON. Formats:
https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grepq_iqa.errors import LabelsError
from grepq_iqa.integrations.result_rows import NUMBERS, read_rows

CONTROL, PICTURE = "mos", "image"
"""Names of the tags in the labeling interface that answers refer to."""

INTERFACE = f"""<View>
  <Image name="{PICTURE}" value="${PICTURE}"/>
  <Number name="{CONTROL}" toName="{PICTURE}" min="0" max="100"/>
</View>
"""
"""The labeling interface of a project that takes the tasks: a number from 0, the worst, to 100."""


def local_file_url(root: str | os.PathLike[str]) -> Callable[[str], str]:
    """Addresses under which a Label Studio on this machine serves files below ``root``.

    It must run with ``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`` and ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``
    set to ``root``.
    """
    folder = Path(root).absolute()

    def address(path: str) -> str:
        return "/data/local-files/?d=" + quote(Path(os.path.relpath(path, folder)).as_posix())

    return address


def tasks(
    rows: str | os.PathLike[str], address: Callable[[str], str], *, model_version: str = "grepq-iqa"
) -> list[dict[str, Any]]:
    """Tasks for Label Studio's import, JSON-ready; files that could not be scored are left out.

    Args:
        rows: CSV or TSV of `grepq score` or `grepq predict`. Predicted MOS from 0 to 100 becomes the prediction that a
            person corrects; scores stand beside the picture, for sorting.
        address: from a file's absolute path to the address that Label Studio shows it by, such as `local_file_url`.
        model_version: what Label Studio calls the predictions.

    Raises:
        LabelsError: the rows cannot be read.
    """
    made = []
    for row in read_rows(rows):
        if "error" in row:
            continue
        data = {PICTURE: address(row["path"]), "path": row["path"]}
        data |= {f"grepq_{name}": row[name] for name in (*NUMBERS, "warnings") if name in row}
        task: dict[str, Any] = {"data": data}
        if "mos" in row:
            value = {"number": round(row["mos"], 2)}
            result = {"from_name": CONTROL, "to_name": PICTURE, "type": "number", "value": value}
            task["predictions"] = [{"model_version": model_version, "result": [result]}]
        made.append(task)
    return made


def labels(export: str | os.PathLike[str]) -> list[tuple[str, float]]:
    """Paths and ratings of an export in Label Studio's JSON, a row for each person's answer, for a table of labels.

    Skipped tasks and answers without a number are left out.

    Raises:
        LabelsError: the file cannot be read, or its tasks are not those of :func:`tasks`.
    """
    name = os.fspath(export)
    try:
        content = json.loads(Path(export).read_text(encoding="utf-8"))
        found = []
        for task in content:
            for annotation in task.get("annotations", []):
                if annotation.get("was_cancelled"):
                    continue
                for result in annotation["result"]:
                    number = result["value"].get("number") if result.get("from_name") == CONTROL else None
                    if number is not None and math.isfinite(number):
                        found.append((str(task["data"]["path"]), float(number)))
    except OSError as error:
        raise LabelsError(f"{name}: {error.strerror or error}", name) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelsError(f"{name} is not an export, as JSON, of tasks made by grepq-iqa ({error!r})", name) from error
    return found
