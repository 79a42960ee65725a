"""Scores, features and predictions of the example photographs, as they were stored: moves of code must not change them.

Run this file to store them anew, which only a change of the model justifies::

    python tests/test_stored_numbers.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
STORED = {"compact": DATA / "stored_numbers.npz", "compact@0.1": DATA / "stored_numbers_0.1.npz"}
"""By model; the second one's are of the weights of version 0.1, which never change again."""
TOLERANCE = 1e-5
# Amounts of light distortions count coefficients and blocks below limits, and some lie so near to these that a
# processor's rounding decides (seen: .0007 of an amount of 4.4 between AVX2 and AVX-512); scores follow them.
AMOUNTS, OF_AMOUNTS = 5e-3, 1e-3
CORNERS = [(y, x) for y in (0, 100) for x in (0, 150, 300)]


def numbers(model, photos: list[Path]) -> dict[str, np.ndarray]:
    """Everything that is compared; labels of the fit are fixed numbers, so that nothing else enters."""
    from grepq_iqa.data.images import load_image

    scores = model.score(photos)
    crops = [load_image(photo)[:, y : y + 160, x : x + 160] for photo in photos for y, x in CORNERS]
    labels = 3 + np.cos(np.arange(len(crops)) * 1.7)
    prediction = model.fit(crops, labels, prior="none").predict(photos, confidence=0.8)
    return {
        "scores": np.array([[s.value, s.low_level, s.high_level, s.percentile] for s in scores]),
        "features": model.features(photos),
        "predictions": np.stack([prediction.mos, prediction.low, prediction.high]),
    }


@pytest.mark.parametrize("name", ["scores", "features", "predictions"])
def test_numbers_are_those_stored(name, found, photos):
    model, numbers_found, has_amounts = found
    with np.load(STORED[model]) as stored:
        assert list(stored["names"]) == [photo.name for photo in photos]
        wanted = stored[name]
    apart = np.abs(numbers_found[name] - wanted) / np.maximum(1, np.abs(wanted))
    if has_amounts and name == "features":
        assert apart[:, -3:].max() < AMOUNTS
        apart = apart[:, :-3]
    assert apart.max() < (OF_AMOUNTS if has_amounts and name != "features" else TOLERANCE)


@pytest.fixture(scope="module", params=STORED)
def found(photos, request):
    from grepq_iqa import GRepQ

    model = GRepQ.from_pretrained(request.param, engine="torch", device="cpu", dtype="float32")
    return request.param, numbers(model, photos), "fine_detail" in model.config


if __name__ == "__main__":
    from grepq_iqa import GRepQ

    folder = Path(__file__).parents[1] / "examples" / "photos"
    examples = [folder / str(name) for name in np.load(STORED["compact"])["names"]]
    model = GRepQ.from_pretrained(device="cpu", dtype="float32")
    np.savez_compressed(STORED["compact"], names=[photo.name for photo in examples], **numbers(model, examples))
