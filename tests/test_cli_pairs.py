"""Tables of pairs, and ``grepq select --pairs``, ``fit --pairs`` and ``predict`` from end to end."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grepq_iqa import GRepQ
from grepq_iqa.calibration.pairs import PairwiseRegressor
from grepq_iqa.data.pair_table import read_comparisons
from grepq_iqa.errors import LabelsError, UsageError, WeightsError
from grepq_iqa.labeling.pair_selection import select_pairs


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve pictures with more noise from one to the next: the lower its number, the better."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = np.full((100, 104, 3), 128.0) + rng.normal(scale=4 * i + 1, size=(100, 104, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"p{i:02d}.png")
    return folder


def table(path: Path, photos: Path, rows: list[tuple[int, int, str]], extra: str = "") -> Path:
    lines = [f"{photos / f'p{a:02d}.png'},{photos / f'p{b:02d}.png'},{winner}\n" for a, b, winner in rows]
    path.write_text("left,right,winner\n" + "".join(lines) + extra)
    return path


def answered(n: int = 40, seed: int = 0) -> list[tuple[int, int, str]]:
    rng = np.random.default_rng(seed)
    drawn = [tuple(rng.choice(12, 2, replace=False).tolist()) for _ in range(n)]
    return [(a, b, "left" if a < b else "right") for a, b in drawn]


# --- the table ------------------------------------------------------------------------------------------------------


def test_winners_as_people_write_them(photos, tmp_path):
    words = [
        "left",
        "Right",
        "TIE",
        " l ",
        "b",
        "1",
        "2",
        "=",
        "equal",
        str(photos / "p00.png"),
        str(photos / "p01.png"),
    ]
    found = read_comparisons(table(tmp_path / "t.csv", photos, [(0, 1, word) for word in words]))
    assert found.outcomes.tolist() == [1, 0, 0.5, 1, 0, 1, 0, 0.5, 0.5, 1, 0]
    assert [path.name for path in found.paths] == ["p00.png", "p01.png"] and found.ends.tolist() == [[0, 1]] * 11
    assert found.lines == tuple(range(2, 13))
    (tmp_path / "t.tsv").write_text("Image A\tImage B\tPreferred\np03.png\tp01.png\ta\n")
    found = read_comparisons(tmp_path / "t.tsv", images=photos)
    assert [path.name for path in found.paths] == ["p03.png", "p01.png"] and found.outcomes.tolist() == [1]


def test_bad_rows_are_named_with_their_lines(photos, tmp_path):
    rows = [
        (0, 1, "left"),
        (2, 2, "left"),
        (0, 1, ""),
        (0, 1, "middle"),
        (0, 1, str(photos / "p05.png")),
        (3, 4, "tie"),
    ]
    path = table(tmp_path / "t.csv", photos, rows, extra=f"gone.png,{photos / 'p01.png'},left\n,b.png,left\n")
    with pytest.raises(LabelsError, match="6 of 8 rows") as caught:
        read_comparisons(path)
    problems = "\n".join(caught.value.problems)
    for words in (
        *("line 3: .*with itself", "line 4: no winner", "line 5: the winner 'middle'", "line 6: the winner .*p05"),
        *("line 8: .*gone.png does not exist", "line 9: no left picture"),
    ):
        assert re.search(words, problems)
    found = read_comparisons(path, skip_bad_rows=True)
    assert len(found) == 2 and len(found.skipped) == 6 and found.lines == (2, 7)
    with pytest.raises(LabelsError, match="no row that can be used"):
        read_comparisons(table(path, photos, [(1, 1, "left")]), skip_bad_rows=True)
    path.write_text("path,mos\na,1\n")
    with pytest.raises(LabelsError, match="left, right and winner"):
        read_comparisons(path)


def test_answers_without_some_pictures(photos, tmp_path):
    found = read_comparisons(table(tmp_path / "t.csv", photos, [(0, 1, "left"), (1, 2, "right"), (3, 2, "tie")]))
    rest = found.without([photos / "p00.png"])
    assert [path.name for path in rest.paths] == ["p01.png", "p02.png", "p03.png"]
    assert rest.ends.tolist() == [[0, 1], [2, 1]] and rest.outcomes.tolist() == [0, 0.5] and rest.lines == (3, 4)


# --- which pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "n"), [(40, 5), (40, 20), (40, 60), (7, 21), (7, 3), (3, 3), (2, 1)])
def test_pairs_are_different_and_use_every_picture_before_any_again(images, n):
    rng = np.random.default_rng(0)
    X, quality = rng.normal(size=(images, 6)), rng.normal(size=images)
    pairs = select_pairs(X, quality, n)
    assert pairs.shape == (n, 2) and len({frozenset(pair) for pair in pairs.tolist()}) == n
    assert (pairs[:, 0] != pairs[:, 1]).all()
    if 2 * n <= images - 1:
        assert len(np.unique(pairs)) == 2 * n
    np.testing.assert_array_equal(select_pairs(X, quality, n), pairs)


def test_pairs_stand_the_step_apart_and_sides_are_drawn():
    rng = np.random.default_rng(0)
    X, quality = rng.normal(size=(80, 6)), np.linspace(0, 1, 80)
    for step, apart in ((0.0, 1), (0.25, 20), (0.5, 40)):
        pairs = select_pairs(X, quality, 40, step=step)
        assert (np.abs(pairs[:, 0] - pairs[:, 1]) == apart).all()
        assert 8 < (pairs[:, 0] < pairs[:, 1]).sum() < 32


def test_more_pairs_than_there_are_is_refused():
    with pytest.raises(UsageError, match="make 3"):
        select_pairs(np.eye(3), np.arange(3), 4)


# --- the commands ---------------------------------------------------------------------------------------------------


def test_pairs_chosen_answered_fitted_predicted(grepq, photos, tmp_path, tiny_model):
    chosen, page = tmp_path / "sub" / "pairs.csv", tmp_path / "pairs.html"
    status, out, err = grepq("select", photos, "--pairs", 20, "-o", chosen, "--html", page, "-m", tiny_model)
    assert (status, out) == (0, ""), err
    rows = list(csv.DictReader(chosen.read_text().splitlines()))
    assert len(rows) == 20 and all(row["winner"] == "" for row in rows)
    assert all((chosen.parent / row[side]).is_file() for row in rows for side in ("left", "right"))
    settings = json.loads(re.search(r'id="settings">(.*?)</script>', page.read_text(encoding="utf-8"))[1])
    assert len(settings["pairs"]) == 20 and settings["csv"] == "pairs.csv"

    status, _, err = grepq("fit", "--pairs", chosen, "-o", tmp_path / "m", "-m", tiny_model)
    assert status == 2 and "20 of 20 rows" in err and "no winner" in err
    for row in rows:
        row["winner"] = "left" if row["left"] < row["right"] else "right"
    chosen.write_text("left,right,winner\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    status, _, err = grepq("select", photos, "--pairs", 5, "-o", chosen, "-m", tiny_model, "--overwrite")
    assert status == 2 and "holds ratings" in err

    status, out, err = grepq("fit", "--pairs", chosen, "-o", tmp_path / "m", "-m", tiny_model)
    assert status == 0, err
    assert "20 pairs of" in out and "held out" in out and "log-odds" in out and "too few pairs" in err
    status, out, err = grepq("predict", photos, "-m", tmp_path / "m", "--format", "csv")
    assert status == 0 and "log-odds" in err
    predicted = [float(row["mos"]) for row in csv.DictReader(out.splitlines())]
    assert np.corrcoef(predicted, -np.arange(12))[0, 1] > 0.8
    assert repr(GRepQ.from_pretrained(tmp_path / "m")).endswith("fitted on 20 pairs)")


def test_stars_give_the_scale(grepq, photos, tmp_path, tiny_model):
    pairs = table(tmp_path / "pairs.csv", photos, [*answered(), (0, 1, "left"), (1, 0, "left"), (4, 5, "tie")])
    stars = tmp_path / "stars.csv"
    stars.write_text("path,stars\n" + "".join(f"{photos / f'p{i:02d}.png'},{5 - i / 3:.2f}\n" for i in range(0, 12, 2)))
    status, out, err = grepq(
        *("fit", "--pairs", pairs, "--csv", stars, "--mos-column", "stars", "-o", tmp_path / "m", "-m", tiny_model),
        "--json",
    )
    assert status == 0, err
    report = json.loads(out)
    assert (report["pairs"], report["stars"], report["ties"]) == (43, 6, 1) and report["contradicted"] >= 1
    assert 0 <= report["held_out"]["low"] <= report["held_out"]["value"] <= report["held_out"]["high"] <= 1
    status, out, err = grepq("predict", photos, "-m", tmp_path / "m", "--format", "csv", "--confidence", 0.8)
    assert status == 0 and "log-odds" not in err
    rows = list(csv.DictReader(out.splitlines()))
    predicted = np.array([float(row["mos"]) for row in rows])
    assert np.abs(predicted - (5 - np.arange(12) / 3)).mean() < 0.5
    assert all(float(row["low"]) <= float(row["mos"]) <= float(row["high"]) for row in rows)


def test_the_model_in_python_is_the_one_on_disk(photos, tmp_path, tiny_model):
    model = GRepQ.from_pretrained(tiny_model)
    features = model.features(sorted(photos.glob("*.png")))
    ends = np.array([(a, b) for a, b, _ in answered()])
    outcomes = np.array([float(winner == "left") for _, _, winner in answered()])
    assert model.fit_pairs(features, ends, outcomes) is model
    prediction = model.predict(features=features)
    assert prediction.source == "pairs" and isinstance(model.regressor_, PairwiseRegressor)
    model.save_pretrained(tmp_path / "m")
    again = GRepQ.from_pretrained(tmp_path / "m").predict(features=features)
    np.testing.assert_array_equal(again.mos, prediction.mos)
    np.testing.assert_array_equal(again.low, prediction.low)
    assert again.source == "pairs"
    mos = np.where(np.arange(12) < 6, np.arange(12.0), np.nan)
    assert model.fit_pairs(features, ends, outcomes, mos=mos).predict(features=features).source == "labels"
    # Encoders of another model are refused, as for any fit.
    stored = (tmp_path / "m" / "calibration.safetensors").read_bytes()
    changed = stored.replace(model.encoder_hash.encode(), model.encoder_hash[::-1].encode())
    (tmp_path / "m" / "calibration.safetensors").write_bytes(changed)
    with pytest.raises(WeightsError, match="other encoders"):
        GRepQ.from_pretrained(tmp_path / "m")


REFUSED = [
    (["fit", "-o", "{t}/m"], "--csv for scores"),
    (["fit", "--pairs", "{t}/pairs.csv", "-o", "{t}/m", "--plot", "{t}/p.png"], "--plot"),
    (["fit", "--pairs", "{t}/gone.csv", "-o", "{t}/m"], "cannot be read"),
    (["fit", "--pairs", "{t}/ties.csv", "-o", "{t}/m", "-m", "{m}"], "ties"),
    (["fit", "--pairs", "{t}/pairs.csv", "--csv", "{t}/dmos.csv", "-o", "{t}/m"], "lower is better"),
    (["select", "{p}", "--pairs", 5, "--labeled", "{t}/dmos.csv"], "--labeled"),
    (["select", "{p}/p00.png", "--pairs", 5, "-m", "{m}"], "two images"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_cannot_work_is_refused_in_words(arguments, words, grepq, photos, tmp_path, tiny_model):
    table(tmp_path / "pairs.csv", photos, answered(10))
    table(tmp_path / "ties.csv", photos, [(0, 1, "tie"), (1, 2, "tie"), (2, 3, "tie")])
    (tmp_path / "dmos.csv").write_text("path,dmos\n" + "".join(f"{photos / f'p{i:02d}.png'},{i}\n" for i in range(5)))
    given = [str(argument).format(t=tmp_path, p=photos, m=tiny_model) for argument in arguments]
    status, out, err = grepq(*given)
    assert status == 2 and words in err and out == "" and "Traceback" not in err and not (tmp_path / "m").exists()


def test_pictures_that_cannot_be_read_stop_a_fit_or_are_left_out(grepq, photos, tmp_path, tiny_model):
    (tmp_path / "bad.png").write_bytes(b"x")
    extra = f"bad.png,{photos / 'p01.png'},left\n"
    pairs = table(tmp_path / "pairs.csv", photos, answered(), extra=extra)
    status, _, err = grepq("fit", "--pairs", pairs, "-o", tmp_path / "m", "-m", tiny_model)
    assert status == 2 and "bad.png" in err and not (tmp_path / "m").exists()
    status, out, err = grepq("fit", "--pairs", pairs, "-o", tmp_path / "m", "-m", tiny_model, "--skip-bad-rows")
    assert status == 0 and "40 pairs" in out and "left out" in err


def test_a_table_that_is_answered_in_part_is_used_so_far(photos, tmp_path):
    path = table(tmp_path / "t.csv", photos, [(0, 1, "left"), (2, 3, "")])
    assert len(read_comparisons(path).outcomes) == 1
    with pytest.raises(LabelsError, match="1 of 1 rows"):
        read_comparisons(table(tmp_path / "none.csv", photos, [(2, 3, "")]))
