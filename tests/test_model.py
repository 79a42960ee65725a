"""The facade with the bundled model, on real photographs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from grepq_iqa import GRepQ, Score
from grepq_iqa.data.images import load_image
from grepq_iqa.data.patches import reflect_up_to
from grepq_iqa.errors import ImageError, LabelsError, NotFittedError, UsageError, WeightsError


def test_one_in_one_out_many_in_many_out(compact, photos):
    single = compact.score(photos[0])
    assert isinstance(single, Score) and float(single) == single.value
    many = compact.score(photos)
    assert isinstance(many, list) and len(many) == len(photos)
    assert compact.score([]) == [] and compact.features([]).shape == (0, compact.feature_dim)


def test_scores_keep_their_ranges(compact, photos):
    for score in compact.score(photos):
        assert 0 < score.low_level <= 0.5 and 0 < score.high_level < 1
        assert score.value == pytest.approx(score.low_level + score.high_level)
        assert 0 <= score.percentile <= 100 and score.warnings == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.value = 1


def test_the_untouched_photograph_is_best_and_the_dark_noisy_one_worst(compact, photos):
    order = [p.stem for p in sorted(photos, key=lambda p: -float(compact.score(p)))]
    assert order[0] == "osprey" and order[-1] == "lake_dark_noisy"


def test_scores_do_not_depend_on_company(compact, photos):
    small = load_image(photos[0])[:, :100, :150]
    mixed = [photos[0], small, photos[1], photos[2], Image.open(photos[3])]
    together, features = compact.score_and_features(mixed)
    for index, source in enumerate(mixed):
        alone = compact.score(source)
        assert abs(alone.value - together[index].value) < 1e-4
        np.testing.assert_allclose(compact.features([source])[0], features[index], atol=1e-3, rtol=1e-3)


def test_exact_and_formula_agree(compact, photos):
    """Q_L, Q_H and Q as docs/method.md section 2 states them, from encoder outputs taken one picture at a time."""
    parts = compact._components
    low, high = compact.config["low_level"], compact.config["high_level"]
    image = load_image(photos[2])[None]
    with torch.no_grad():
        f = parts.high_level(image).embedding[0].double().numpy()
    axis = parts.prompts["good"] - parts.prompts["bad"]
    amounts = parts.fine_detail(image[0].numpy())
    f += parts.fine_detail.weight @ (parts.fine_detail.expected - amounts) * axis / np.linalg.norm(axis)
    f += float(parts.predicted_fsim.shift(compact.features([photos[2]]))[0]) * axis / np.linalg.norm(axis)
    with torch.no_grad():
        fmap = parts.low_level.trunk(image)
        rows, columns = fmap.shape[2] - 2, fmap.shape[3] - 2
        windows = [fmap[0, :, y : y + 3, x : x + 3].mean((1, 2)) for y in range(rows) for x in range(columns)]
        patches = np.stack([parts.low_level.head(w).double().numpy() for w in windows])
    cos = [f @ t / np.linalg.norm(f) / np.linalg.norm(t) for t in (parts.prompts["good"], parts.prompts["bad"])]
    q_high = 1 / (1 + np.exp(-high["logit_scale"] * (cos[0] - cos[1])))
    down, across = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    weights = np.exp(-(down**2 + across**2) / (2 * low.get("center", np.inf) ** 2)).ravel()
    effective = weights.sum() ** 2 / (weights**2).sum()
    own = effective / (effective + low["prior_patches"])
    pooled = (
        own * np.cov(patches.T, aweights=weights) + (1 - own) * parts.pristine_covariance + low["ridge"] * np.eye(128)
    )
    inverse = np.linalg.inv(pooled)
    distances = [np.sqrt((p - parts.pristine_mean) @ inverse @ (p - parts.pristine_mean)) for p in patches]
    assert low["pooling"] == "median"
    rising = np.argsort(distances)
    middles = np.cumsum(weights[rising]) - weights[rising] / 2  # of the weights, laid side by side
    d = np.interp(weights.sum() / 2, middles, np.array(distances)[rising])
    q_low = 1 - 1 / (1 + np.exp(-d / low["distance_scale"]))
    score = compact.score(photos[2])
    assert score.high_level == pytest.approx(q_high, abs=1e-4)
    assert score.low_level == pytest.approx(q_low, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (30, 20), (96, 96), (97, 300)])
def test_small_images_are_scored_and_flagged(compact, shape):
    score = compact.score(np.random.default_rng(0).random((*shape, 3)))
    assert np.isfinite(score.value)
    assert any(w.startswith("tiny") for w in score.warnings) == (min(shape) < 96)


def test_flat_and_noise_images_are_flagged_and_finite(compact):
    flat = compact.score(np.full((120, 120, 3), 128, np.uint8))
    noise = compact.score(np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8))
    assert flat.warnings[0].startswith("flat") and noise.warnings[0].startswith("noise")
    assert np.isfinite([flat.value, noise.value]).all()


def test_padding_is_what_the_small_image_is_scored_with(compact, photos):
    tiny = load_image(photos[0])[:, :60, :70]
    assert compact.score(tiny).value == pytest.approx(compact.score(reflect_up_to(tiny, 96)).value, abs=1e-6)


def test_an_unusable_image_is_named(compact, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        compact.score([tmp_path / "gone.jpg"])


def test_save_and_load_again(compact, photos, tmp_path):
    directory = compact.save_pretrained(tmp_path / "copy")
    again = GRepQ.from_pretrained(directory, device="cpu", dtype="float32")
    assert again.encoder_hash == compact.encoder_hash
    assert again.score(photos[0]) == compact.score(photos[0])
    (directory / "ratings.safetensors").unlink()
    without_ratings = GRepQ.from_pretrained(directory, device="cpu", dtype="float32")
    with pytest.raises(NotFittedError):
        without_ratings.predict(photos)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        compact.save_pretrained(tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(UsageError, match="no model"):
        compact.save_pretrained(tmp_path / "full")


@pytest.fixture(scope="module")
def labeled(compact, photos):
    """Crops of the examples with a made-up MOS that follows the score."""
    crops = [load_image(p)[:, y : y + 128, x : x + 128] for p in photos for y in (0, 200) for x in (0, 250, 500)]
    mos = np.array([1 + 4 * float(s) for s in compact.score(crops)])
    return crops, mos


def test_fit_predict_save_load(compact, labeled, tmp_path):
    crops, mos = labeled
    model = GRepQ.from_pretrained(device="cpu", dtype="float32").fit(crops, mos)
    prediction = model.predict(crops[:3], confidence=0.8)
    assert prediction.mos.shape == (3,) and (prediction.low <= prediction.high).all()
    one = model.predict(crops[0])
    assert isinstance(one.mos, float) and one.low <= one.mos <= one.high
    by_features = model.predict(features=model.features(crops[:3]), confidence=0.8)
    np.testing.assert_allclose(by_features.mos, prediction.mos, atol=1e-6)
    again = GRepQ.from_pretrained(model.save_pretrained(tmp_path / "mine"), device="cpu", dtype="float32")
    np.testing.assert_array_equal(again.predict(crops[:3], confidence=0.8).low, prediction.low)
    with pytest.raises(UsageError, match="confidence"):
        model.predict(crops, confidence=1.5)


@pytest.mark.parametrize(("fitted_with", "remembered"), [(48, 48), (0, None), (None, 1024)])
def test_a_fitted_model_sees_pictures_as_its_fit_did(labeled, tmp_path, fitted_with, remembered):
    crops, mos = labeled
    model = GRepQ.from_pretrained(device="cpu", dtype="float32", max_side=fitted_with).fit(crops, mos)
    directory = model.save_pretrained(tmp_path / "mine")
    again = GRepQ.from_pretrained(directory, device="cpu", dtype="float32")
    assert again.max_side == model.max_side == remembered
    assert again.predict(crops[0]).mos == pytest.approx(model.predict(crops[0]).mos)
    assert GRepQ.from_pretrained(directory, max_side=200).max_side == 200


def test_a_fitted_file_of_other_encoders_is_refused(compact, labeled, tmp_path):
    crops, mos = labeled
    directory = GRepQ.from_pretrained(device="cpu").fit(crops, mos).save_pretrained(tmp_path / "mine")
    config = json.loads((directory / "config.json").read_text())
    config["max_side"] = 64
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="other encoders"):
        GRepQ.from_pretrained(directory)


def test_labels_that_cannot_work_are_refused(compact, labeled):
    crops, mos = labeled
    with pytest.raises(LabelsError, match=r"^6 images but 24 labels$"):
        compact.fit(crops[:6], mos)
    for bad in ([1.0, 2.0], [3.0] * 6, [1, 2, float("nan"), 4, 5, 6]):
        with pytest.raises((LabelsError, ValueError)):
            compact.fit(features=compact.features(crops[: len(bad)]), mos=bad)
    assert not hasattr(compact, "regressor_")


def test_loading_names_what_does_not_fit(compact, tmp_path):
    from safetensors.torch import load_file, save_file

    directory = compact.save_pretrained(tmp_path / "broken")
    tensors = load_file(directory / "low_level.safetensors")
    tensors["encoder.surplus"] = tensors.pop("encoder.head.2.bias")
    save_file(tensors, directory / "low_level.safetensors")
    with pytest.raises(WeightsError, match=r"missing encoder\.head\.2\.bias; unexpected encoder\.surplus"):
        GRepQ.from_pretrained(directory)
    (directory / "high_level.safetensors").write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match=r"high_level\.safetensors"):
        GRepQ.from_pretrained(directory)


def test_wrong_devices_and_dtypes_are_named():
    for option in ({"device": "abacus"}, {"dtype": "int3"}):
        with pytest.raises(UsageError, match=next(iter(option.values()))):
            GRepQ.from_pretrained(**option)


def test_bfloat16_stays_close_to_float32(compact, photos):
    half = GRepQ.from_pretrained(device="cpu", dtype="bfloat16")
    for a, b in zip(half.score(photos), compact.score(photos), strict=True):
        assert abs(a.value - b.value) < 0.03
