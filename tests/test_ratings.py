"""The ratings predictor: trained by its command, answering before any fit, and out of Q's sight."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from grepq_iqa import GRepQ
from grepq_iqa.calibration.ratings import RatingsPredictor, likeness, read_ratings, write_ratings
from grepq_iqa.errors import LabelsError, NotFittedError, UsageError, WeightsError
from grepq_iqa.feature_cache import FeatureCache, model_key
from grepq_iqa.training.rated_copies import features_of_copies, mirrored_cut
from grepq_iqa.training.ratings import _fit_kernel, fit_ratings
from grepq_iqa.training.ratings_network import fit_networks
from grepq_iqa.training.recipe import RatingsRecipe, load_recipe
from grepq_iqa.weights.model_card import model_card

RECIPE = RatingsRecipe(score_share=0.15, parts=4)
WITH_NETWORKS = dataclasses.replace(RECIPE, network_share=0.6, networks=2, hidden=8, epochs=80)


@pytest.fixture(scope="module")
def rated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, Q_H and opinions of made-up photographs: bad ones are disputed, good ones are not."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(800, 12))
    score = rng.uniform(size=800)
    better = 50 + 10 * features[:, 0] + 8 * features[:, 1] + 20 * (score - 0.5)
    return features, score, np.clip(better + rng.normal(size=800) * np.interp(better, [30, 70], [8, 2]), 0, 100)


def fitted(rated, recipe: RatingsRecipe = RECIPE) -> RatingsPredictor:
    features, score, opinions = (part[:500] for part in rated)
    return fit_ratings(features, score, opinions, recipe, mean=np.zeros(12), scale=np.ones(12))[0]


@pytest.mark.parametrize("recipe", [RECIPE, WITH_NETWORKS], ids=["plain", "networks"])
def test_opinions_of_new_photographs(rated, recipe):
    predictor = fitted(rated, recipe)
    features, score, opinions = (part[500:] for part in rated)
    expected = predictor.opinion(features, score)
    assert np.corrcoef(expected, opinions)[0, 1] > 0.85 and abs(np.mean(expected - opinions)) < 1.5
    # the formula of the docstring, by hand
    z = np.clip(features[0], -3, 3)
    by_hand = sum(z * predictor.coef) + predictor.score_coef[0] * score[0] + predictor.intercept[0]
    for point, dual in zip(predictor.points, predictor.dual, strict=True):
        by_hand += dual * np.exp(-np.linalg.norm(z @ predictor.basis - point) / predictor.width[0])
    if recipe.network_share:
        (first, first_bias), (last, last_bias) = predictor.networks
        assert first.shape == (2, 12, 8)
        for k in range(2):
            hidden = [max(0.0, float(z @ first[k, :, unit] + first_bias[k, 0, unit])) for unit in range(8)]
            by_hand += (float(np.dot(hidden, last[k, :, 0])) + float(last_bias[k, 0, 0])) / 2
    assert expected[0] == pytest.approx(by_hand, rel=1e-5)


def test_networks_bend_where_a_line_cannot_and_never_saw_what_they_are_judged_on(rated):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(400, 4))
    y = 50 + 10 * np.abs(Z[:, 0]) + rng.normal(size=400)
    recipe = dataclasses.replace(WITH_NETWORKS, hidden=32, epochs=200)
    found = fit_networks(Z, y, recipe)
    assert np.corrcoef(found.unseen_predictions, y)[0, 1] > 0.6 and abs(np.mean(found.unseen_predictions - y)) < 2
    changed = y.copy()
    changed[7] = 500
    again = fit_networks(Z, changed, recipe)
    assert again.unseen_predictions[7] == found.unseen_predictions[7]
    assert (again.unseen_predictions != found.unseen_predictions).sum() >= 200
    for one, other in zip(found.layers, fit_networks(Z, y, recipe).layers, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_copies_teach_the_networks_and_are_left_out_with_their_photograph(rated):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(60, 40))
    y = 50 + 10 * Z[:, 0]
    # Copies say what the few photographs cannot: which of many features counts.
    of = np.repeat(np.arange(60), 8)
    copies = rng.normal(size=(480, 40))
    copies[:, 0] = Z[of, 0]
    recipe = dataclasses.replace(WITH_NETWORKS, hidden=32, epochs=100)
    alone, taught = fit_networks(Z, y, recipe), fit_networks(Z, y, recipe, copies=(copies, of))
    apart = [np.abs(found.unseen_predictions - y).mean() for found in (alone, taught)]
    assert apart[1] < 0.8 * apart[0]
    changed = y.copy()
    changed[7] = 500
    again = fit_networks(Z, changed, recipe, copies=(copies, of))
    assert again.unseen_predictions[7] == taught.unseen_predictions[7]
    with_copies = fit_ratings(
        rated[0][:500], rated[1][:500], rated[2][:500], WITH_NETWORKS, mean=np.zeros(12), scale=np.ones(12),
        copies=(rated[0][:500], np.arange(500)),
    )[0]  # fmt: skip
    plain = fitted(rated, WITH_NETWORKS)
    np.testing.assert_allclose(with_copies.dual / with_copies.dual[0], plain.dual / plain.dual[0], rtol=1e-5)
    assert not np.array_equal(with_copies.networks[0][0], plain.networks[0][0])


def test_a_copy_is_a_mirrored_part_drawn_by_content(photos, compact, tmp_path):
    picture = torch.arange(3 * 40 * 60.0).reshape(3, 40, 60)
    for seed in range(20):
        cut = mirrored_cut(picture, np.random.default_rng(seed))
        height, width = cut.shape[1:]
        assert 30 <= height <= 39 and 45 <= width <= 58
        top, left = divmod(int(cut[0, 0, -1]), 60)
        assert torch.equal(cut.flip(2), picture[:, top : top + height, left : left + width])
    renamed = shutil.copy(photos[1], tmp_path / "other name.jpg")
    cache = FeatureCache(tmp_path / "cache", model_key(compact))
    features, of = features_of_copies(compact, [photos[0], renamed], 2, cache)
    assert features.shape == (4, compact.feature_dim) and of.tolist() == [0, 0, 1, 1]
    assert len({row.tobytes() for row in features}) == 4
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")}
    again, _ = features_of_copies(compact, [photos[1]], 2, cache)
    np.testing.assert_array_equal(again, features[2:])
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npz")} == stored
    least = tmp_path / "least.png"
    Image.new("L", (1, 1)).save(least)
    assert features_of_copies(compact, [least], 1)[0].shape == (1, compact.feature_dim)
    (tmp_path / "broken.png").write_bytes(least.read_bytes()[:40])
    with pytest.raises(LabelsError, match=r"broken\.png"):
        features_of_copies(compact, [tmp_path / "broken.png"], 1)


@pytest.mark.parametrize("recipe", [RECIPE, WITH_NETWORKS], ids=["plain", "networks"])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_intervals_hold_in_every_part_of_the_range(rated, confidence, recipe):
    predictor = fitted(rated, recipe)
    features, score, opinions = (part[500:] for part in rated)
    expected = predictor.opinion(features, score)
    low, high = predictor.interval(expected, confidence)
    held = (low <= opinions) & (opinions <= high)
    assert abs(held.mean() - confidence) < 0.05
    for third in np.array_split(np.argsort(expected), 3):
        assert abs(held[third].mean() - confidence) < 0.09
    assert (low >= 0).all() and (high <= 100).all()
    assert np.ptp(high - low) > 2  # wider where opinions part


def test_limits_of_an_interval(rated):
    predictor = fitted(rated)
    assert [end[0] for end in predictor.interval([50.0], 0.9999)] == [0, 100]
    for confidence in (0.3, 1.0):
        with pytest.raises(UsageError, match="confidence"):
            predictor.interval([50.0], confidence)
    with pytest.raises(UsageError, match="shape"):
        predictor.opinion(np.zeros((2, 5)), np.zeros(2))


def test_the_kernel_half_knows_what_it_would_say_of_photographs_unseen(rated):
    Z, y = rated[0][:40], rated[2][:40]
    kernel = _fit_kernel(Z, y, RECIPE)
    alike = likeness(kernel.points, kernel.points, kernel.width)
    np.testing.assert_allclose(alike @ kernel.dual + kernel.intercept + RECIPE.kernel_penalty * kernel.dual, y)
    for i in (0, 17, 39):
        kept = np.arange(40) != i
        system = np.ones((40, 40))
        system[:-1, :-1] = alike[np.ix_(kept, kept)] + RECIPE.kernel_penalty * np.eye(39)
        system[-1, -1] = 0
        *dual, intercept = np.linalg.solve(system, np.append(y[kept], 0))
        assert kernel.loo_predictions[i] == pytest.approx(alike[i, kept] @ dual + intercept)


def test_too_few_ratings(rated):
    with pytest.raises(LabelsError, match="too few"):
        fit_ratings(*(part[:60] for part in rated), RECIPE, mean=np.zeros(12), scale=np.ones(12))


@pytest.mark.parametrize("recipe", [RECIPE, WITH_NETWORKS], ids=["plain", "networks"])
def test_file_round_trip(rated, tmp_path, recipe):
    predictor, path = fitted(rated, recipe), tmp_path / "ratings.safetensors"
    write_ratings(path, predictor, "e" * 64)
    again = read_ratings(path, "e" * 64, "m")
    assert again.state().keys() == predictor.state().keys() and again.hash == predictor.hash
    for name, values in predictor.state().items():
        np.testing.assert_array_equal(again.state()[name], values)
    np.testing.assert_array_equal(again.opinion(*rated[:2]), predictor.opinion(*rated[:2]))


def test_a_damaged_file_is_refused(rated, tmp_path):
    predictor, path = fitted(rated, WITH_NETWORKS), tmp_path / "ratings.safetensors"
    write_ratings(path, predictor, "e" * 64)
    with pytest.raises(WeightsError, match="other encoders"):
        read_ratings(path, "f" * 64, "m")
    state = load_file(path)
    for damage, word in (
        ({"coef": state["coef"][:3]}, "shape"),
        ({"scale": 0 * state["scale"]}, "not positive"),
        ({"intercept": np.array([np.nan], "f4")}, "not finite"),
        ({"more": state["coef"]}, "unexpected"),
        ({"layers.0.weight": state["layers.0.weight"][:, :5]}, "networks do not fit 12 features"),
        ({"layers.1.bias": np.full((2, 1, 1), np.inf, "f4")}, "networks do not fit"),
    ):
        save_file(state | damage, path, metadata={"encoder_hash": "e" * 64})
        with pytest.raises(WeightsError, match=word):
            read_ratings(path, "e" * 64, "m")
    path.write_bytes(b"no")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_ratings(path, "e" * 64, "m")


def test_the_zero_shot_score_is_blind_to_ratings(compact, photos, tmp_path):
    """Neither removing nor changing ratings.safetensors changes the encoders' hash, a score or a feature."""
    scores, features = compact.score_and_features(photos)
    folder = compact.save_pretrained(tmp_path / "copy")
    upside_down = dataclasses.replace(compact.ratings, coef=-compact.ratings.coef, score_coef=np.array([-9.0]))
    for change in ("turned", "removed"):
        if change == "turned":
            write_ratings(folder / "ratings.safetensors", upside_down, compact.encoder_hash)
        else:
            (folder / "ratings.safetensors").unlink()
        other = GRepQ.from_pretrained(folder, device="cpu", dtype="float32")
        found, rows = other.score_and_features(photos)
        assert other.encoder_hash == compact.encoder_hash and found == scores
        np.testing.assert_array_equal(rows, features)
        if change == "turned":
            assert other.predict(photos[0]).mos != compact.predict(photos[0]).mos


def test_prediction_before_any_fit(compact, photos, tmp_path):
    prediction = compact.predict(photos, confidence=0.8)
    assert prediction.source == "ratings"
    assert ((prediction.low <= prediction.mos) & (prediction.mos <= prediction.high)).all()
    assert (prediction.low >= 0).all() and (prediction.high <= 100).all()
    named = dict(zip([photo.stem for photo in photos], prediction.mos, strict=True))
    assert named["osprey"] == max(named.values())
    one = compact.predict(photos[0])
    assert isinstance(one.mos, float) and one.mos == pytest.approx(prediction.mos[0], abs=1e-3)
    by_features = compact.predict(features=compact.features(photos), confidence=0.8)
    np.testing.assert_allclose(by_features.mos, prediction.mos, atol=1e-3)
    folder = compact.save_pretrained(tmp_path / "without")
    (folder / "ratings.safetensors").unlink()
    with pytest.raises(NotFittedError, match="has seen no labels"):
        GRepQ.from_pretrained(folder, device="cpu").predict(photos)


def test_high_level_scores_are_those_of_score(compact, photos):
    scores, features = compact.score_and_features(photos)
    np.testing.assert_allclose(compact.high_level_scores(features), [s.high_level for s in scores], atol=1e-6)


def test_predict_without_a_model(grepq, photos):
    status, out, err = grepq("predict", photos[0], photos[1], "--format", "jsonl", "--device", "cpu")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and all(0 <= row["low"] <= row["mos"] <= row["high"] <= 100 for row in rows)
    assert err.count("others' ratings of 3,200 other photographs") == 1 and "grepq fit" in err and "BIQ2021" in err


def test_bundled_provenance(compact):
    record = compact.config["provenance"]["ratings"]
    assert record["data"][0]["license"] == "none stated" and record["data"][0]["count"] == 3200
    assert record["ratings"] == "laboratory ratings by 30 viewers" and len(record["data"][0]["sha256"]) == 64
    card = model_card(compact.config)
    assert "laboratory ratings by 30 viewers; license of ratings.safetensors' data: none stated" in card
    assert compact.config["provenance"]["human_scores"]["in_training"] is False
    assert sum(f.stat().st_size for f in [compact._files["ratings.safetensors"]]) < 2 << 20


def test_the_command(tiny_model, tmp_path, monkeypatch, capsys):
    from grepq_iqa.training.__main__ import app

    model = shutil.copytree(tiny_model, tmp_path / "model")
    rng = np.random.default_rng(0)
    lines = ["image,mos"]
    for i in range(100):
        name = f"p{i:03d}.png"
        noise = rng.normal(size=(96, 96, 3)) * (i + 1)
        Image.fromarray(np.uint8(np.clip(128 + noise, 0, 255))).save(tmp_path / name)
        lines.append(f"{name},{5 - i / 25}")
    (tmp_path / "rated.csv").write_text("\n".join(lines))
    before = GRepQ.from_pretrained(model, device="cpu", dtype="float32")
    arguments = ["ratings", "--model", model, "--csv", tmp_path / "rated.csv", "--name", "noise", "--license", "CC0"]
    arguments += ["--description", "made up", "--dtype", "float32", "--cache", tmp_path / "cache"]

    def call(*more: object) -> None:
        app([str(argument) for argument in (*arguments, *more)], standalone_mode=False)

    with pytest.raises(UsageError, match="not within"):
        call("--bounds", 0, 1)
    call("--bounds", 1, 5)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 200  # of every photograph and a copy of it
    after = GRepQ.from_pretrained(model, device="cpu", dtype="float32")
    assert after.encoder_hash == before.encoder_hash and before.ratings is None
    assert after.predict(tmp_path / "p000.png").mos > after.predict(tmp_path / "p099.png").mos + 30
    record = after.config["provenance"]["ratings"]
    assert record["data"][0] | {"sha256": ""} == {
        "role": "rated",
        "name": "noise",
        "license": "CC0",
        "count": 100,
        "sha256": "",
    }
    assert "CC0" in (model / "README.md").read_text()
    (tmp_path / "rated.csv").write_text("\n".join([*lines, "gone.png,3"]))
    with pytest.raises(LabelsError):
        call("--bounds", 1, 5)


def test_the_shipped_recipe():
    assert load_recipe("compact", "ratings", RatingsRecipe).score_share == 0.15
