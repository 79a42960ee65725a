"""Score the example photographs with the bundled model, best first. No network is needed.

Run: python examples/score_photos.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from grepq_iqa import GRepQ

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos"
photos = sorted(folder.glob("*.jpg"))

model = GRepQ.from_pretrained()  # the bundled model "compact"
scores = model.score(photos)  # a list in, a list out

print(f"{'photograph':28} {'score':>6}  percentile")
for photo, score in sorted(zip(photos, scores, strict=True), key=lambda pair: -float(pair[1])):
    print(f"{photo.name:28} {float(score):6.3f}  {score.percentile:10.0f}")
