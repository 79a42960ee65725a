# %% [markdown]
# # Your own scale from a few labels
#
# The whole loop: choose what to label, label it, fit, ask how good the fit is, predict with intervals, save, load.
# Each cell also runs as part of a plain script: `python examples/fit_your_own.py [MODEL]`. No network is needed.

# %%
from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

from grepq_iqa import GRepQ
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.validation import cross_validate, learning_curve
from grepq_iqa.data.labels import read_labels
from grepq_iqa.labeling.selection import select
from grepq_iqa.metrics import largest

MODEL = sys.argv[1] if len(sys.argv) > 1 else None  # None: the bundled model
PHOTOS = Path(__file__).parent / "photos"
WORK = Path(tempfile.mkdtemp(prefix="grepq-"))
model = GRepQ.from_pretrained(MODEL)

# %% [markdown]
# ## A folder of photographs
#
# Here the forty example photographs that come with labels (`examples/photos/README.md`). Yours would be a folder that
# you have, without any.

# %%
known = read_labels(PHOTOS / "labels.csv")
images = list(known.paths)
print(f"{len(images)} images in {PHOTOS}")

# %% [markdown]
# ## Which to label
#
# Features and zero-shot scores come from one pass. On the command line: `grepq select FOLDER -n 24 -o to-label.csv`.

# %%
scores, features = model.score_and_features(images)
chosen = select(
    features,
    [float(score) for score in scores],
    24,
    feature_mean=model.feature_mean,
    feature_scale=model.feature_scale,
)

# %% [markdown]
# ## Label them
#
# You would type ratings into the table, or into the page that `grepq select --html` writes. So that this script runs
# alone, a stand-in for a person rates as the examples' table does, not always the same.

# %%
person = np.random.default_rng(0)
table = WORK / "labels.csv"
with table.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["path", "mos"])
    for i in chosen:
        writer.writerow([images[i].resolve(), f"{known.mos[i] + person.normal(0, 0.2):.2f}"])
labels = read_labels(table)
print(f"{len(labels)} labels from {labels.mos.min()} to {labels.mos.max()}")

# %% [markdown]
# ## Fit, and ask how good it is
#
# All of this is `grepq fit --csv labels.csv -o my-model --plot fit.png`.

# %%
labeled = features[chosen]
model.fit(features=labeled, mos=labels.mos)

regressor = MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)
result = cross_validate(regressor, labeled, labels.mos)
for name in ("srcc", "plcc", "rmse"):
    estimate = getattr(result, name)
    print(f"{name.upper()} {estimate.value:.3f}, 90 % range {estimate.low:.3f} to {estimate.high:.3f}")

curve = learning_curve(regressor, labeled, labels.mos)
for n, srcc in zip(curve.labels, curve.srcc, strict=True):
    print(f"{n:4d} labels: SRCC {srcc:.3f}")

for i in largest(np.abs(labels.mos - result.predicted), 3):
    print(f"worth a second look: {labels.paths[i].name} given {labels.mos[i]:.1f}, predicted {result.predicted[i]:.1f}")

# %% [markdown]
# ## Predict the others, save, load
#
# `low` and `high` hold the true score in nine of ten cases. The labels here are a measure's, not a person's, so take
# the figures as a demonstration: with labels of your own they mean what they say.

# %%
others = [i for i in range(len(images)) if i not in set(chosen.tolist())]
prediction = model.predict(features=features[others], confidence=0.9)
for i, mos, low, high in zip(others, prediction.mos, prediction.low, prediction.high, strict=True):
    print(f"{images[i].name:20} {mos:5.2f}  [{low:5.2f}, {high:5.2f}]")

model.save_pretrained(WORK / "my-model")
again = GRepQ.from_pretrained(WORK / "my-model")
first = images[others[0]]
print(f"loaded again: {again.predict(first).mos:.2f} for {first.name}")
