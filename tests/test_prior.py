"""Head starts: further columns of the same ridge, with leave-one-out and jackknife+ as exact as without them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import Ridge

from grepq_iqa import GRepQ
from grepq_iqa.calibration import prior as head_start
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.storage import read_calibration
from grepq_iqa.errors import LabelsError, UsageError, WeightsError

N = 30


@pytest.fixture(scope="module")
def rows(compact) -> np.ndarray:
    """Features that look like those of photographs: normal around the model's own means."""
    rng = np.random.default_rng(3)
    return (compact.feature_mean + compact.feature_scale * rng.normal(size=(N + 8, compact.feature_dim))).astype("f4")


@pytest.fixture(scope="module")
def mos() -> np.ndarray:
    return np.random.default_rng(4).uniform(1, 5, size=N)


@pytest.fixture
def model(compact, tmp_path):
    """A model of its own, so that a fit stays here."""
    return GRepQ.from_pretrained(compact.save_pretrained(tmp_path / "own"), device="cpu", dtype="float32")


@pytest.fixture
def without_ratings(compact, tmp_path):
    folder = compact.save_pretrained(tmp_path / "without")
    (folder / "ratings.safetensors").unlink()
    return GRepQ.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("prior", ["zero-shot", "ratings", "both"])
def test_closed_form_is_that_of_refits(compact, rows, mos, prior):
    given, regressor = compact.regression(rows, prior)
    names = head_start.column_names(prior)
    k = len(names)
    assert given.shape == (N + 8, compact.feature_dim + k)
    regressor.fit(given[:N], mos)

    # every column by hand: features limited, the others neither limited nor of unit weight
    Z = np.clip((rows.astype(float) - compact.feature_mean) / compact.feature_scale, -3, 3)
    table = compact._quantiles
    by_hand = {
        "zero-shot": 50 * (compact.high_level_scores(rows) - table.mean(dtype=float)) / table.std(dtype=float),
        "ratings": 200
        * (compact.ratings.opinion(rows, compact.high_level_scores(rows)) - compact.ratings.expected[0])
        / compact.ratings.expected[1],
    }
    Z = np.column_stack([Z, *(by_hand[name] for name in names)])
    new, spread = Z[N:], np.ones(N + 8)
    if "ratings" in names:
        spread = np.interp(given[:, -1], *compact.ratings.spread)
    residuals, predictions = [], []
    for i in range(N):
        kept = np.arange(N) != i
        ridge = Ridge(alpha=regressor.alpha_, solver="cholesky").fit(Z[:N][kept], mos[kept])
        residuals.append(mos[i] - ridge.predict(Z[i : i + 1])[0])
        predictions.append(ridge.predict(new))
    np.testing.assert_allclose(regressor.loo_residuals_, residuals, atol=1e-5)
    width = np.abs(residuals) / spread[:N] * spread[N:, None]
    rank = int(np.ceil(0.8 * (N + 1)))
    low, high = regressor.predict_interval(given[N:], 0.8)
    np.testing.assert_allclose(high, np.sort(np.array(predictions).T + width, axis=1)[:, rank - 1], atol=1e-5)
    np.testing.assert_allclose(low, np.sort(np.array(predictions).T - width, axis=1)[:, N - rank], atol=1e-5)


def test_no_prior_is_the_plain_ridge_to_the_bit(model, rows, mos):
    plain = MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale).fit(rows[:N], mos)
    prediction = model.fit(features=rows[:N], mos=mos, prior="none").predict(features=rows[N:], confidence=0.8)
    np.testing.assert_array_equal(prediction.mos, plain.predict(rows[N:]))
    np.testing.assert_array_equal(prediction.low, plain.predict_interval(rows[N:], 0.8)[0])
    assert model.prior_ == "none" and prediction.source == "labels"


def test_auto_takes_what_the_model_has(model, without_ratings, rows, mos):
    assert model.fit(features=rows[:N], mos=mos).prior_ == "both"
    assert without_ratings.fit(features=rows[:N], mos=mos).prior_ == "zero-shot"
    for prior in ("ratings", "both"):
        with pytest.raises(UsageError, match=r"needs a model with ratings"):
            without_ratings.fit(features=rows[:N], mos=mos, prior=prior)
    with pytest.raises(UsageError, match="must be one of"):
        model.fit(features=rows[:N], mos=mos, prior="much")


def test_a_head_start_follows_the_direction_of_the_labels(compact, rows):
    opinion = compact.ratings.opinion(rows, compact.high_level_scores(rows))
    given, regressor = compact.regression(rows, "both")
    for sign in (1, -1):
        predicted = regressor.fit(given[:10], 3 + sign * opinion[:10] / 25).predict(given[10:])
        assert np.corrcoef(predicted, sign * opinion[10:])[0, 1] > 0.99


def test_three_labels_are_enough(model, rows):
    prediction = model.fit(features=rows[:3], mos=[1, 2, 4]).predict(features=rows[3:])
    assert np.isfinite(prediction.mos).all() and np.isinf(prediction.high).all()


def test_bad_features_are_an_error_of_ours(model, rows, mos):
    with pytest.raises((LabelsError, UsageError)):
        model.fit(features=np.full_like(rows[:N], np.nan), mos=mos)
    with pytest.raises((LabelsError, UsageError), match="shape"):
        model.fit(features=rows[:N, :7], mos=mos)


@pytest.mark.parametrize("prior", ["none", "zero-shot", "ratings", "both"])
def test_saved_and_read_back(model, rows, mos, tmp_path, prior):
    model.fit(features=rows[:N], mos=mos, prior=prior)
    again = GRepQ.from_pretrained(model.save_pretrained(tmp_path / "fitted"), device="cpu", dtype="float32")
    assert again.prior_ == prior
    for confidence in (0.8, 0.9):
        one, other = (m.predict(features=rows[N:], confidence=confidence) for m in (model, again))
        for end in ("mos", "low", "high"):
            np.testing.assert_array_equal(getattr(one, end), getattr(other, end))


def test_fitted_models_of_version_0_1_are_read(model, rows, mos, tmp_path):
    folder = model.fit(features=rows[:N], mos=mos, prior="none").save_pretrained(tmp_path / "old")
    state = load_file(folder / "calibration.safetensors")
    for later in ("unclipped", "spread", "loo_spread"):
        del state[later]
    save_file(state, folder / "calibration.safetensors", metadata={"encoder_hash": model.encoder_hash})
    again = GRepQ.from_pretrained(folder, device="cpu", dtype="float32")
    expected = model.predict(features=rows[N:])
    assert again.prior_ == "none"
    np.testing.assert_array_equal(again.predict(features=rows[N:]).low, expected.low)


def test_a_fit_is_bound_to_its_ratings(model, rows, mos, tmp_path):
    folder = model.fit(features=rows[:N], mos=mos).save_pretrained(tmp_path / "fitted")
    files = {"calibration.safetensors": folder / "calibration.safetensors"}
    with pytest.raises(WeightsError, match=r"another ratings\.safetensors"):
        read_calibration(files, model.encoder_hash, "fitted", "f" * 64)
    (folder / "ratings.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"another ratings\.safetensors"):
        GRepQ.from_pretrained(folder, device="cpu")


def test_columns_without_known_statistics_take_those_of_the_labels():
    columns = {"zero-shot": np.array([0.2, 0.4, 0.9]), "ratings": np.array([50.0, 50.0, 50.0])}
    mean, scale = head_start.column_statistics(columns, {})
    np.testing.assert_allclose(mean, [0.5, 50])
    np.testing.assert_allclose(scale, [columns["zero-shot"].std() / 50, 1 / 200])


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Twelve pictures, noisier and noisier, and a table of them."""
    folder = tmp_path_factory.mktemp("labeled")
    rng = np.random.default_rng(0)
    lines = ["image,mos"]
    for i in range(12):
        pixels = np.clip(128 + 8 * (i + 1) * rng.normal(size=(96, 96, 3)), 0, 255)
        Image.fromarray(np.uint8(pixels)).save(folder / f"p{i:02d}.png")
        lines.append(f"p{i:02d}.png,{5 - i / 3:.2f}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_report_says_what_a_head_start_brought(grepq, tiny_model, labeled, tmp_path):
    arguments = ("fit", "--csv", labeled / "labels.csv", "-m", tiny_model, "--device", "cpu", "--no-cache")
    status, out, _ = grepq(*arguments, "-o", tmp_path / "auto", "--json")
    found = json.loads(out)
    assert status == 0 and found["prior"] == "zero-shot" and -1 <= found["srcc_without_prior"]["value"] <= 1
    status, out, _ = grepq(*arguments, "-o", tmp_path / "text")
    assert status == 0 and "head start: the zero-shot score\n" in out and "in the same folds" in out
    status, out, _ = grepq(*arguments, "-o", tmp_path / "none", "--prior", "none", "--json")
    plain = json.loads(out)
    assert status == 0 and plain["prior"] == "none" and plain["srcc_without_prior"] is None
    assert plain["validation"]["srcc"]["value"] == pytest.approx(found["srcc_without_prior"]["value"])
    status, _, err = grepq(*arguments, "-o", tmp_path / "both", "--prior", "both")
    assert status == 2 and "needs a model with ratings" in err and not (tmp_path / "both").exists()


def test_benchmark_shows_both(tiny_model, labeled):
    from grepq_iqa.benchmark import read, run

    model = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")
    images = read("csv", labeled)
    result = run(images, model, label_counts=[5], splits=2, resamples=0)
    assert result.prior == "zero-shot" and [row.labels for row in result.head_start] == [5]
    assert "median_srcc" in result.to_json()["head_start"][0]
    alone = run(images, model, label_counts=[5], splits=2, resamples=0, make_regressor=lambda: Ridge(1.0))
    assert alone.prior == "none" and not alone.head_start
