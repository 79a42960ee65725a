"""Rows that are not independent: what is found, left out together in closed form, and reported."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load, save
from sklearn.linear_model import Ridge

from grepq_iqa.calibration.groups import find_groups
from grepq_iqa.calibration.near_rows import RowsInFile, near_pairs
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.units import summed, unit_numbers
from grepq_iqa.calibration.validation import cross_validate, learning_curve
from grepq_iqa.errors import LabelsError, WeightsError
from grepq_iqa.labeling.selection import select

SHAPES = [(12, 40), (40, 12), (20, 20), (21, 19)]


def data(n: int, d: int, seed: int = 0, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + 7, d)) * rng.uniform(0.1, 5, size=d) + rng.normal(size=d)
    y = 3 + ((X - X.mean(0)) / X.std(0)) @ rng.normal(size=d) / np.sqrt(d) + noise * rng.normal(size=n + 7)
    return X[:n], y[:n], X[n:]


def statistics(X: np.ndarray) -> dict:
    return {"feature_mean": X.mean(0) + 0.1, "feature_scale": X.std(0) * 1.1}


def refits(regressor: MOSRegressor, X, y, new, groups, weights):
    """Leave-one-group-out residuals, and predictions ``(m, n)`` at new points, by scikit-learn's ridge."""

    def standardized(rows):
        return np.clip((rows - regressor.mean_) / regressor.scale_, -3, 3)

    weights = np.ones(len(y)) if weights is None else weights / weights.mean()
    residuals, predictions = np.empty(len(y)), np.empty((len(new), len(y)))
    for group in set(groups):
        out = groups == group
        ridge = Ridge(alpha=regressor.alpha_, solver="cholesky")
        ridge.fit(standardized(X[~out]), y[~out], sample_weight=weights[~out])
        residuals[out] = y[out] - ridge.predict(standardized(X[out]))
        predictions[:, out] = ridge.predict(standardized(new))[:, None]
    return residuals, predictions


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.1, 100.0, None])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("copies", [False, True])
def test_leaving_groups_out_in_closed_form_equals_refitting(shape, alpha, weighted, copies):
    n = shape[0]
    X, y, new = data(*shape)
    rng = np.random.default_rng(1)
    groups = rng.integers(0, n // 2, size=n)
    if copies:  # rows of a group all alike, which a block cannot tell apart
        X = X[[np.flatnonzero(groups == g)[0] for g in groups]]
    weights = rng.integers(1, 9, size=n).astype(float) if weighted else None
    alphas = {} if alpha is None else {"alphas": (alpha,)}
    regressor = MOSRegressor(**alphas, **statistics(X)).fit(X, y, groups, weights)
    residuals, predictions = refits(regressor, X, y, new, groups, weights)
    np.testing.assert_allclose(regressor.loo_residuals_, residuals, atol=1e-6)
    np.testing.assert_allclose(regressor.loo_predictions_, y - residuals, atol=1e-6)

    Z_new = np.clip((new - regressor.mean_) / regressor.scale_, -3, 3)
    np.testing.assert_allclose(regressor._leave_one_out(Z_new), predictions, atol=1e-6)
    for confidence in (0.5, 0.7):
        low, high = regressor.predict_interval(new, confidence)
        expected = [hierarchical(row, residuals, groups, confidence) for row in predictions]
        np.testing.assert_allclose(np.column_stack([low, high]), expected, atol=1e-6)


def hierarchical(predictions, residuals, groups, confidence):
    """Interval by Lee, Barber and Willett (2023): groups weigh the same, their rows share that evenly."""
    count = len(set(groups))
    each = np.array([1 / np.sum(groups == g) for g in groups]) / (count + 1)
    upper, lower = predictions + np.abs(residuals), predictions - np.abs(residuals)
    high = min(v for v in upper if each[upper <= v].sum() >= confidence - 1e-9)
    low = max(v for v in lower if each[lower >= v].sum() >= confidence - 1e-9)
    return low, high


def test_alpha_has_the_least_leave_one_group_out_error():
    X, y, new = data(30, 60, noise=2)
    groups = np.repeat(np.arange(10), 3)
    alphas = (0.1, 10.0, 1000.0, 1e5)
    regressor = MOSRegressor(alphas=alphas, **statistics(X)).fit(X, y, groups)
    errors = []
    for alpha in alphas:
        one = MOSRegressor(alphas=(alpha,), **statistics(X)).fit(X, y, groups)
        errors.append(np.sqrt(np.mean(refits(one, X, y, new, groups, None)[0] ** 2)))
    np.testing.assert_allclose(regressor.alpha_errors_, errors, rtol=1e-6)
    assert regressor.alpha_ == alphas[int(np.argmin(errors))]


def test_groups_of_one_and_equal_weights_change_not_a_bit():
    X, y, new = data(20, 30)
    plain = MOSRegressor(**statistics(X)).fit(X, y)
    other = MOSRegressor(**statistics(X)).fit(X, y, groups=[f"g{i}" for i in range(20)], weights=np.full(20, 7))
    assert plain.state().keys() == other.state().keys()
    for key, value in plain.state().items():
        np.testing.assert_array_equal(other.state()[key], value)
    np.testing.assert_array_equal(plain.predict_interval(new), other.predict_interval(new))
    for first, second in (
        (cross_validate(plain, X, y, repeats=2), cross_validate(plain, X, y, repeats=2, groups=np.arange(20)[::-1])),
        (learning_curve(plain, X, y, repeats=2), learning_curve(plain, X, y, repeats=2, groups=np.arange(20)[::-1])),
    ):
        np.testing.assert_array_equal(first.ranked, second.ranked)
        assert repr(first.srcc) == repr(second.srcc)


def test_a_grouped_weighted_fit_is_stored_and_read_back():
    X, y, new = data(20, 30)
    groups, weights = np.repeat(np.arange(10), 2), np.arange(1, 21)
    regressor = MOSRegressor(**statistics(X)).fit(X, y, groups, weights)
    again = MOSRegressor.from_state(load(save(regressor.state())))
    np.testing.assert_array_equal(again.predict_interval(new, 0.8), regressor.predict_interval(new, 0.8))
    np.testing.assert_array_equal(again.units_, regressor.units_)
    damaged = regressor.state() | {"units": np.arange(20.0)[::-1].copy()}
    with pytest.raises(WeightsError, match="units"):
        MOSRegressor.from_state(damaged)


def test_a_state_of_version_0_1_has_neither_groups_nor_weights():
    X, y, new = data(20, 30)
    regressor = MOSRegressor().fit(X, y)
    state = regressor.state()
    assert not {"units", "shares"} & state.keys()
    np.testing.assert_array_equal(MOSRegressor.from_state(state).predict_interval(new), regressor.predict_interval(new))


def test_ten_groups_promise_what_ten_labels_promise():
    X, y, new = data(40, 30)
    low, high = MOSRegressor().fit(X, y, np.repeat(np.arange(8), 5)).predict_interval(new, 0.9)
    assert np.isneginf(low).all() and np.isposinf(high).all()
    low, high = MOSRegressor().fit(X, y, np.repeat(np.arange(10), 4)).predict_interval(new, 0.9)
    assert np.isfinite(high - low).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"groups": [1, 1, 1, 2, 2, 2]}, "2 independent images only"),
        ({"groups": [1, 2, 3]}, "one group for each of 6"),
        ({"weights": [1, 2, 3, 4, 5, 0]}, "positive"),
        ({"weights": [1, 2, 3, 4, 5, np.nan]}, "positive"),
        ({"weights": [1, 2]}, "positive"),
    ],
)
def test_groups_and_weights_that_cannot_work_are_refused(arguments, words):
    with pytest.raises(LabelsError, match=words):
        MOSRegressor().fit(np.random.default_rng(0).normal(size=(6, 4)), np.arange(6), **arguments)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_numbers_of_units_are_ordered_and_keep_who_is_together(values):
    units = unit_numbers(values, len(values))
    assert list(dict.fromkeys(units.tolist())) == list(range(len(set(values))))
    assert all(
        (a == b) == (u == v) for a, u in zip(values, units, strict=True) for b, v in zip(values, units, strict=True)
    )
    columns = np.arange(2.0 * len(values)).reshape(2, -1)
    expected = [[sum(row[j] for j, v in enumerate(values) if v == value) for value in values] for row in columns]
    np.testing.assert_allclose(summed(columns, units), expected)


@settings(deadline=None)
@given(st.data())
def test_what_shares_anything_is_one_group(drawn):
    """Against the definition: repeated merging of whatever shares bytes, features or a name."""
    n = drawn.draw(st.integers(1, 12))
    draw = lambda top: drawn.draw(st.lists(st.integers(0, top), min_size=n, max_size=n))  # noqa: E731
    rows, hashes, names = draw(8), [str(h) if h else None for h in draw(8)], [f"n{k}" if k else "" for k in draw(4)]
    found = find_groups(np.eye(9)[rows], hashes, names)
    together = [{i} for i in range(n)]
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                if any(v[i] == v[j] and v[i] not in (None, "") for v in (rows, hashes, names)):
                    together[i] |= together[j]
                    together[j] |= together[i]
    assert [set(np.flatnonzero(found.units == u).tolist()) for u in found.units] == together
    assert sum(len(group.rows) for group in found.found) == found.rows_shared == sum(len(t) > 1 for t in together)


def test_reasons_are_told():
    X = np.random.default_rng(0).normal(size=(7, 50))
    X[1], X[3] = X[0], X[2] + 0.01
    found = find_groups(
        X,
        ["a", None, "b", "c", "d", "d", "e"],
        [None, "", None, None, None, "burst", "burst"],
        feature_mean=np.zeros(50),
        feature_scale=np.ones(50),
    )
    assert [(group.rows, group.reasons) for group in found.found] == [
        ((0, 1), ("equal features", "nearly equal features")),
        ((2, 3), ("nearly equal features",)),
        ((4, 5, 6), ("same bytes", "named")),
    ]
    assert found.unit_count == 3
    assert find_groups(X).found[0].rows == (0, 1) and len(find_groups(X).found) == 1  # no statistics, no threshold


def test_near_pairs_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr("grepq_iqa.calibration.near_rows._MOST_ROWS", 7)
    X = np.random.default_rng(0).normal(size=(30, 5))
    found = find_groups(X, feature_mean=np.zeros(5), feature_scale=np.ones(5), threshold=0.6)
    Z = X.clip(-3, 3)
    near = np.sqrt(((Z[:, None] - Z) ** 2).mean(axis=2)) <= 0.6
    for _ in range(30):
        near = (near.astype(int) @ near) > 0
    np.testing.assert_array_equal(found.units[:, None] == found.units, near)


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_rows_in_a_file_have_the_groups_of_rows_in_memory(tmp_path, monkeypatch, block):
    monkeypatch.setattr("grepq_iqa.calibration.near_rows._MOST_ROWS", block)
    X = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
    X[3], X[9] = X[1], X[2] + 0.05
    (tmp_path / "rows").write_bytes(X.tobytes())
    chosen = np.array([9, 2, 1, 5, 3])
    statistics = {"feature_mean": np.zeros(40), "feature_scale": np.ones(40)}
    with (tmp_path / "rows").open("rb") as file:
        found = find_groups(RowsInFile(file, 40, chosen), **statistics)
    assert found.found == find_groups(X[chosen], **statistics).found
    assert [group.rows for group in found.found] == [(0, 1), (2, 4)]


@given(st.integers(0, 20), st.integers(1, 4), st.floats(-0.5, 3), st.integers(1, 9))
def test_near_pairs_and_their_distances_are_those_of_a_double_loop(rows, dim, threshold, block):
    X = np.random.default_rng(rows).normal(size=(rows, dim))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grepq_iqa.calibration.near_rows._MOST_ROWS", block)
        pairs, distances = near_pairs(X, threshold)
    found = dict(zip(map(tuple, pairs.tolist()), distances, strict=True))
    slow = {
        (i, j): float(np.sqrt(np.mean((X[i] - X[j]) ** 2)))
        for i in range(rows)
        for j in range(i + 1, rows)
        if np.sqrt(np.mean((X[i] - X[j]) ** 2)) <= threshold
    }
    assert found == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("method", ["i-optimal", "d-optimal", "k-center", "random"])
def test_no_copy_is_chosen_while_there_is_anything_else(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 200))
    pool = np.concatenate([X, X + 0.01 * rng.normal(size=X.shape)])
    statistics = {"feature_mean": np.zeros(200), "feature_scale": np.ones(200)}
    chosen = select(pool, None, 12, method=method, **statistics)
    assert sorted(chosen % 12) == list(range(12))
    rest = select(pool, None, 24, method=method, **statistics)
    np.testing.assert_array_equal(rest[:12], chosen)
    assert len(set(rest.tolist())) == 24
    chosen = select(pool, None, 9, method=method, labeled=[0, 1, 2], **statistics)
    assert not set((chosen % 12).tolist()) & {0, 1, 2}


def test_thumbnails_tell_copies_of_another_size_and_flat_ones_nothing():
    rng = np.random.default_rng(0)
    pictures = [rng.uniform(size=256) for _ in range(3)]
    flat = [0.5 + 0.001 * rng.normal(size=256) for _ in range(2)]
    thumbnails = [*pictures, pictures[1] * 0.8 + 0.05 + 0.005 * rng.normal(size=256), *flat, None]
    found = find_groups(np.eye(7), thumbnails=thumbnails)
    assert [(group.rows, group.reasons) for group in found.found] == [((1, 3), ("nearly equal pictures",))]


# What follows is the case that groups are there for: random labels, copies, and a fit that must not believe them.

COPY = {
    "the same bytes": lambda image: image,
    "saved again": lambda image: saved_again(image, 88),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
}


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def crops(photos: list[Path], count: int, seed: int = 0) -> list[Image.Image]:
    """Crops at random places, none of them flat."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        with Image.open(photos[int(rng.integers(len(photos)))]) as photo:
            x, y = (int(rng.integers(side - 128)) for side in photo.size)
            crop = photo.convert("RGB").crop((x, y, x + 128, y + 128))
        if np.asarray(crop.convert("L")).std() > 12:
            found.append(crop)
    return found


@pytest.fixture(scope="module")
def labelled_at_random(compact, photos):
    """Features of 30 crops, of their copies by kind, and of 60 new crops; thumbnails of the first two."""
    from grepq_iqa.data.thumbnails import gray_thumbnail

    images = crops(photos, 90)
    given = images[:30]
    copies = {kind: [change(image) for image in given] for kind, change in COPY.items()}
    features = {kind: compact.features(some) for kind, some in copies.items()}
    thumbnails = {kind: [gray_thumbnail(image) for image in given + some] for kind, some in copies.items()}
    return compact.features(given), features, thumbnails, compact.features(images[30:])


@pytest.mark.parametrize("kind", COPY)
def test_random_labels_on_copies_are_not_believed(compact, labelled_at_random, kind):
    """Without groups the same rows report an SRCC far above 0 and intervals that hold too little."""
    first, copies, thumbnails, new = labelled_at_random
    X = np.concatenate([first, copies[kind]])
    statistics = {"feature_mean": compact.feature_mean, "feature_scale": compact.feature_scale}
    groups = find_groups(X, thumbnails=thumbnails[kind], **statistics)
    assert (groups.units[:30] == groups.units[30:]).all()
    assert groups.unit_count >= 27  # crops of four photographs overlap now and then
    held, blind_held, found, blind_found, alphas = [], [], [], [], []
    for seed in range(6):
        labels = np.random.default_rng(seed).uniform(1, 5, size=90)
        y = np.resize(labels[:30], 60)
        regressor = MOSRegressor(**statistics).fit(X, y, groups.units)
        found.append(cross_validate(regressor, X, y, repeats=2, groups=groups.units).srcc)
        low, high = regressor.predict_interval(new, 0.9)
        held.append(np.mean((low <= labels[30:]) & (labels[30:] <= high)))

        blind = MOSRegressor(**statistics).fit(X, y)
        low, high = blind.predict_interval(new, 0.9)
        blind_held.append(np.mean((low <= labels[30:]) & (labels[30:] <= high)))
        blind_found.append(cross_validate(blind, X, y, repeats=2).srcc.value)
        alphas.append((regressor.alpha_, blind.alpha_))
    assert abs(np.mean([srcc.value for srcc in found])) < 0.15 < 0.35 < np.mean(blind_found)
    assert sum(srcc.low <= 0 for srcc in found) >= 5  # chance tells one of twenty apart from 0
    assert np.median(alphas, axis=0)[0] > 10 * np.median(alphas, axis=0)[1]
    assert np.mean(held) == pytest.approx(0.9, abs=0.06)
    assert np.mean(blind_held) < np.mean(held) - 0.1


def test_the_program_says_which_images_are_copies_and_warns(grepq, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    labels = np.random.default_rng(0).uniform(1, 5, size=30)
    rows = []
    for i, crop in enumerate(crops(photos, 30)):
        crop.save(tmp_path / f"{i:02d}.png")
        (tmp_path / f"{i:02d} (1).png").write_bytes((tmp_path / f"{i:02d}.png").read_bytes())
        rows += [f"{i:02d}.png,{labels[i]:.3f}", f"{i:02d} (1).png,{labels[i]:.3f}"]
    table = tmp_path / "labels.csv"
    table.write_text("path,mos\n" + "\n".join(rows) + "\n")
    status, out, err = grepq("fit", "--csv", table, "-o", tmp_path / "m", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["labels"] == 60 and report["independent_images"] <= 30
    first = report["groups"][0]
    assert "same bytes" in first["reasons"]
    assert {Path(image["path"]).name for image in first["images"]} >= {"00.png", "00 (1).png"}
    srcc = report["validation"]["srcc"]
    assert srcc["low"] <= 0 <= srcc["high"] and abs(srcc["value"]) < 0.4
    assert any("chance" in warning for warning in report["warnings"]) and "warning: held out" in err

    status, out, _ = grepq("fit", "--csv", table, "-o", tmp_path / "m")
    assert status == 0 and "groups of images that are not independent" in out and "same bytes" in out
    assert "images   SRCC" in out


def test_a_named_group_is_held_out_together(grepq, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for i, crop in enumerate(crops(photos, 14)):
        crop.save(tmp_path / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{i % 5},{'' if i < 6 else 'burst ' + str(i % 4)}")
    table = tmp_path / "labels.csv"
    table.write_text("path,mos,shot\n" + "\n".join(rows) + "\n")
    status, out, err = grepq("fit", "--csv", table, "-o", tmp_path / "m", "--group", "shot", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["independent_images"] == 10 and {r for g in report["groups"] for r in g["reasons"]} == {"named"}
    status, _, err = grepq("fit", "--csv", table, "-o", tmp_path / "m", "--group", "nothing")
    assert status == 2 and "no column 'nothing'" in err


def test_blanks_of_a_table_are_no_group():
    """pandas reads blank cells as NaN, the same object in each, or as NA."""
    import pandas as pd

    from grepq_iqa.calibration.groups import find_groups

    rows = np.random.default_rng(0).standard_normal((6, 30))
    for blank in (None, "", float("nan"), np.nan, pd.NA):
        found = find_groups(rows, names=["a", blank, blank, "a", blank, "b"])
        assert len(set(found.units)) == 5 and found.units[0] == found.units[3]
