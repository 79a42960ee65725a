"""Rows of `grepq predict` in FiftyOne and in Label Studio, and ratings made there as labels for `grepq fit`.

Neither tool is needed to run this: it writes the files that they open. Run: python examples/other_tools.py [FOLDER]
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from grepq_iqa.integrations import fiftyone, label_studio

photos = Path(__file__).parent / "photos"
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
rows = folder / "predictions.csv"
command = [sys.executable, "-m", "grepq_iqa", "predict", str(photos), "--output", str(rows), "--max-side", "256"]
subprocess.run(command, check=True)

# FiftyOne: fo.Dataset.from_dir(folder / "fiftyone", dataset_type=fo.types.FiftyOneDataset)
count = fiftyone.write_dataset(rows, folder / "fiftyone")
print(f"{count} samples in {folder / 'fiftyone'}")

# Label Studio: a project with this labeling interface, then import tasks.json. It shows the pictures if it runs with
# LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<photos>.
(folder / "interface.xml").write_text(label_studio.INTERFACE)
tasks = label_studio.tasks(rows, label_studio.local_file_url(photos))
(folder / "tasks.json").write_text(json.dumps(tasks, indent=1))
print(f"{len(tasks)} tasks in {folder / 'tasks.json'}")

# And back, once people have rated: export as JSON. Here everybody agrees with the prediction.
for task in tasks:
    task["annotations"] = [{"result": task["predictions"][0]["result"]}]
(folder / "export.json").write_text(json.dumps(tasks))
with (folder / "labels.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["path", "mos"])
    writer.writerows(label_studio.labels(folder / "export.json"))
print(f"labels for grepq fit in {folder / 'labels.csv'}")
