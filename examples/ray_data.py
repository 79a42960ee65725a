"""Score pictures in a Ray Data pipeline of your own. For whole buckets there is `grepq score-many`.

Run: pip install "grepq-iqa[ray]" && python examples/ray_data.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from grepq_iqa.integrations import Scorer

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos"

ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
pictures = ray.data.read_binary_files(str(folder), include_paths=True)  # columns bytes and path
scores = pictures.map_batches(
    Scorer(max_side=256),  # sent to the workers, each of which loads the model once; max_side keeps the example quick
    batch_size=2,
    num_cpus=1,
)
for row in sorted(scores.take_all(), key=lambda row: row["path"]):
    print(f"{Path(row['path']).name:28} {row['error'] or round(row['score'], 3)}")
ray.shutdown()
