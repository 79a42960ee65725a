"""Several ratings of one image, scores as people write them, fits that are worse than none, and slips of the pen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grepq_iqa.calibration.comparison import compare, labels_needed
from grepq_iqa.calibration.outliers import outlying
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.validation import cross_validate, learning_curve
from grepq_iqa.data import repeats
from grepq_iqa.data.labels import read_labels
from grepq_iqa.data.tables import parse_number, parse_rating
from grepq_iqa.errors import LabelsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcdefgh":
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("85 %", (85, "%")),
        ("85%", (85, "%")),
        ("7.5\u00a0%", (7.5, "%")),
        ("\u22123", (-3, "")),
        ("\u221210 %", (-10, "%")),
        ("4/5", (4, "of 5")),
        ("4 / 5", (4, "of 5")),
        ("7.5/10", (7.5, "of 10")),
        ("4 of 5", (4, "of 5")),
        ("4 out of 5", (4, "of 5")),
        ("★★★★", (4, "stars")),
        ("★★★★☆", (4, "stars")),
        ("★★★½", (3.5, "stars")),
        ("☆☆☆☆☆", (0, "stars")),
        ("****", (4, "stars")),
        ("⭐️⭐️⭐️", (3, "stars")),
        ("4 stars", (4, "stars")),
        ("1 Star", (1, "stars")),
        ("4.5★", (4.5, "stars")),
        ("3,5", (3.5, "")),
    ],
)
def test_scores_as_people_write_them(text, expected):
    assert parse_rating(text) == expected
    assert parse_number(text) == expected[0]


@pytest.mark.parametrize(
    "text",
    ["", "%", "/5", "4/", "6/5", "-1/5", "4/0", "1/2/3", "stars", "4 starsx", "a/b", "4 %%", "nan/5", "4/inf", "five"],
)
def test_what_is_no_score(text):
    assert parse_rating(text) is None


@given(st.floats(-1e6, 1e6), st.sampled_from(["{}", "{} %", "{}%", " {} stars"]))
def test_a_number_stays_what_it_is_beside_its_scale(value, form):
    assert parse_number(form.format(value)) == value


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_number_or_none(text):
    value = parse_number(text)
    assert value is None or isinstance(value, float)


def test_one_column_has_one_scale(folder):
    assert read_labels(write(folder, "path,mos\na.jpg,4/5\nb.jpg,3 / 5.0\nc.jpg,2 of 5\n")).mos.tolist() == [4, 3, 2]
    assert read_labels(write(folder, "path,mos\na.jpg,80 %\nb.jpg,7.5%\n")).mos.tolist() == [80, 7.5]
    with pytest.raises(LabelsError) as caught:
        read_labels(write(folder, "path,mos\na.jpg,4/5\nb.jpg,8/10\nc.jpg,3/5\nd.jpg,3\ne.jpg,60 %\nf.jpg,***\n"))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 3", "line 5", "line 6", "line 7"]
    for problem, words in zip(
        caught.value.problems, ("out of 10", "a plain number", "in percent", "in stars"), strict=True
    ):
        assert words in problem and "most are out of 5" in problem


def test_repeated_ratings_are_averaged_with_a_note(folder):
    text = "path,mos\na.jpg,1\nb.jpg,4\na.jpg,2\n./a.jpg,6\n"
    labels = read_labels(write(folder, text))
    assert labels.paths == (folder / "a.jpg", folder / "b.jpg")
    assert labels.mos.tolist() == [3, 4] and labels.ratings.tolist() == [3, 1] and labels.lines == (2, 3)
    assert "1 of 2 images were rated more than once (4 ratings): their mean" in labels.notes[0]
    assert read_labels(write(folder, text), repeats="median").mos.tolist() == [2, 4]
    with pytest.raises(LabelsError, match="on line 2 already"):
        read_labels(write(folder, text), repeats="error")
    single = read_labels(write(folder, "path,mos\na.jpg,1\nb.jpg,4\n"))
    assert single.ratings is None and single.weights is None and single.agreement is None and single.notes == ()


def test_an_image_is_in_one_group(folder):
    labels = read_labels(write(folder, "path,mos,shot\na.jpg,1,x\nb.jpg,2,\na.jpg,3,x\n"), group_column="shot")
    assert labels.groups == ("x", "")
    with pytest.raises(LabelsError, match="in group 'y' here and in 'x' on line 2"):
        read_labels(write(folder, "path,mos,shot\na.jpg,1,x\na.jpg,2,y\n"), group_column="shot")


def test_each_raters_scale_is_removed(folder):
    """Three raters of one opinion who use the scale differently agree in the end; one without is left out."""
    opinion = dict(zip("abcdefgh", [1, 2, 2, 3, 3, 4, 4.5, 5], strict=True))
    use = {"mild": lambda v: 3 + v / 2.5, "harsh": lambda v: v - 0.9, "plain": lambda v: v, "same": lambda v: 3}
    rows = [f"{name}.jpg,{use[rater](v)},{rater}" for name, v in opinion.items() for rater in use]
    table = write(folder, "path,mos,viewer\n" + "\n".join(rows) + "\na.jpg,5,once\n")
    labels = read_labels(table, rater_column="viewer")
    assert labels.ratings.tolist() == [4] + 7 * [3]
    values = labels.mos[1:]
    wanted = np.array(list(opinion.values()))[1:]
    np.testing.assert_allclose(np.corrcoef(values, wanted)[0, 1], 1, atol=1e-9)
    assert labels.agreement.images == 8
    assert any("'same', who rated all images the same" in note for note in labels.notes)
    assert any("'once' rated fewer than 3" in note for note in labels.notes)
    with pytest.raises(LabelsError, match="no rater is named"):
        read_labels(write(folder, "path,mos,viewer\na.jpg,1,\n"), rater_column="viewer")


@given(st.lists(st.floats(-100, 100).map(lambda v: round(v, 3)), min_size=3, max_size=20))
def test_a_single_rater_keeps_his_scale(values):
    y = np.array(values)
    found, constant, few = repeats.without_rater_scales(y, ["me"] * len(y))
    assert few == ()
    if np.ptp(y) == 0:
        assert constant == ("me",) and np.isnan(found).all()
    else:
        np.testing.assert_allclose(found, y, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-10, 10)), min_size=1, max_size=30))
def test_merged_is_the_mean_of_each_image(pairs):
    number: dict[int, int] = {}
    images = np.array([number.setdefault(image, len(number)) for image, _ in pairs], dtype=np.intp)
    values = np.array([value for _, value in pairs])
    for how, middle in (("mean", np.mean), ("median", np.median)):
        expected = [middle(values[images == i]) for i in range(len(number))]
        np.testing.assert_allclose(repeats.merged(values, images, how), expected)


def test_more_ratings_weigh_more_but_never_in_proportion():
    rng = np.random.default_rng(0)
    counts = np.array([1, 2, 4, 8] * 50)
    images = np.repeat(np.arange(200), counts)
    values = rng.normal(size=200)[images] + rng.normal(size=len(images))
    weights = repeats.reliability_weights(values, images)
    expected = 1 / (1 + 1 / counts)
    np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=0.15)
    assert repeats.reliability_weights(values[:200], np.arange(200)) is None
    assert repeats.reliability_weights(values[: 2 * 40], np.repeat(np.arange(40), 2)) is None


def test_agreement_of_halves_is_what_the_noise_allows():
    """Four ratings with noise of the spread of the truth: a mean of two has reliability 2/3, of four 4/5."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(2000), 4)
    values = rng.normal(size=2000)[images] + rng.normal(size=8000)
    found = repeats.agreement(values, images)
    assert found.halves == pytest.approx(2 / 3, abs=0.03)
    assert found.reliability == pytest.approx(0.8, abs=0.02)
    assert found.ceiling == pytest.approx(np.sqrt(0.8), abs=0.015)
    assert repeats.agreement(values[:20], images[:20]) is None


def problem(n: int, seed: int, noise: float, d: int = 40):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    signal = X @ rng.normal(size=d) / np.sqrt(d)
    return X, signal + noise * rng.normal(size=n), signal


def test_a_fit_worse_than_no_labels_says_so_and_how_many_would_do():
    X, y, signal = problem(60, 0, 0.2)
    scores = signal + 0.05 * np.random.default_rng(1).normal(size=60)  # better than 48 labels can be
    regressor, units = MOSRegressor(), np.arange(60)
    validation, curve = cross_validate(regressor, X, y, repeats=3), learning_curve(regressor, X, y, repeats=3)
    found = compare(validation, curve, scores, y, units)
    assert found.worse and found.gain.low <= found.gain.value <= found.gain.high
    assert found.needed is None or 60 < found.needed.low <= found.needed.labels

    better = compare(validation, curve, np.random.default_rng(2).normal(size=60), y, units)
    assert not better.worse and better.gain.low > 0 and better.needed is None


def test_labels_needed_are_found_on_a_curve_that_rises_and_not_on_a_flat_one():
    rng = np.random.default_rng(0)
    n, counts = 400, np.array([8, 16, 32, 64, 128, 256])
    y = rng.normal(size=n)

    def agreeing(r: float) -> np.ndarray:
        return r * y + np.sqrt(1 - r**2) * rng.normal(size=n)

    def curve(levels):
        from grepq_iqa.calibration.validation import LearningCurve

        ranked = np.array([[agreeing(r) for _ in range(5)] for r in levels])
        return LearningCurve(counts, np.array(levels), np.array(levels), np.array(levels), 0.0, ranked)

    law = 0.9 - 1.5 * counts**-0.5  # comes up to .83 at 459
    found = labels_needed(curve(law), agreeing(0.83), y, np.arange(n))
    assert found is not None and found.low <= 459 <= (found.high or np.inf)
    assert labels_needed(curve(np.full(6, 0.1)), agreeing(0.8), y, np.arange(n)) is None


@pytest.mark.parametrize("n", [10, 30, 100])
def test_a_slip_of_the_pen_stands_out(n):
    for seed in range(10):
        values = np.random.default_rng(seed).normal(size=n)
        values[3] = 12
        assert outlying(values)[0] == 3
    several = np.random.default_rng(0).normal(size=100)
    several[[5, 50, 70]] = 9, -11, 10
    assert outlying(several).tolist() == [50, 70, 5]


def test_ordinary_residuals_do_not():
    named = [len(outlying(np.random.default_rng(seed).normal(size=40))) > 0 for seed in range(400)]
    assert np.mean(named) < 0.03
    assert not len(outlying(np.zeros(20))) and not len(outlying([1, 2, 3, 90]))


def test_report_of_raters_and_slips(grepq, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(20):
        pixels = np.full((100, 104, 3), 128.0) + rng.normal(scale=3 * i + 1, size=(100, 104, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"p{i:02d}.png")
        for viewer in "xyz":
            value = 100 - 3 * i + rng.normal()
            rows.append(f"p{i:02d}.png,{value if i != 11 else 6.7:.1f} %,{viewer}")
    table = tmp_path / "labels.csv"
    table.write_text("path,mos,viewer\n" + "\n".join(rows) + "\n")
    arguments = ("fit", "--csv", table, "-o", tmp_path / "m", "-m", tiny_model)
    status, out, err = grepq(*arguments, "--rater", "viewer", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["labels"] == 20 and report["agreement"]["reliability"] > 0.95
    assert [Path(row["path"]).name for row in report["look_again"]] == ["p11.png"]
    assert report["look_again"][0]["line"] == 35 and report["look_again"][0]["predicted"] > 20
    assert report["compared_with_no_labels"].keys() == {"what", "worse", "gain", "labels_needed"}
    assert "3 raters was removed" in err and "rated more than once" in err
    status, out, _ = grepq(*arguments, "--rater", "viewer")
    assert status == 0 and "look again" in out and "no prediction can be expected above" in out
    status, _, err = grepq(*arguments, "--repeats", "error")
    assert status == 2 and "already" in err
