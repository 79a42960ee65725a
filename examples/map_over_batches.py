"""Score a table of pictures with Hugging Face `datasets`, with Spark's function for pandas, and in a plain loop.

Run: pip install datasets pandas && python examples/map_over_batches.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import pandas as pd

from grepq_iqa.integrations import Scorer, spark

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos"
photos = sorted(folder.glob("*.jpg"))
scorer = Scorer(max_side=256)  # small, so that the example is quick; leave it out for real work

# A plain loop: columns in, columns out, here 2 pictures at a time.
for start in range(0, len(photos), 2):
    batch = {"path": [str(photo) for photo in photos[start : start + 2]]}
    rows = scorer(batch)
    for path, score, error in zip(rows["path"], rows["score"], rows["error"], strict=True):
        print(f"loop      {Path(path).name:28} {error or round(score, 3)}")

# Hugging Face: the same object. Image(decode=False) hands over the files' bytes, which keeps EXIF and color profiles.
table = datasets.Dataset.from_dict({"image": [str(photo) for photo in photos]})
table = table.cast_column("image", datasets.Image(decode=False))
scored = table.map(scorer, batched=True, batch_size=2, load_from_cache_file=False)
for row in scored:
    print(f"datasets  {Path(row['image']['path']).name:28} {row['error'] or round(row['score'], 3)}")

# Spark: frames.mapInPandas(spark.in_pandas(scorer), spark.schema(scorer)); here the function on a frame of its own.
frame = pd.DataFrame({"path": [str(photo) for photo in photos], "bytes": [photo.read_bytes() for photo in photos]})
for found in spark.in_pandas(scorer)([frame]):
    for row in found.itertuples():
        print(f"spark     {Path(row.path).name:28} {row.error or round(row.score, 3)}")
