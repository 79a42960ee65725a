"""``grepq fit``, ``predict`` and ``select`` from end to end, with a small random model."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs
from PIL import Image

from grepq_iqa.batch import score_paths
from grepq_iqa.feature_cache import FeatureCache, model_key


@pytest.fixture(scope="module")
def model(tiny_model) -> Path:
    return tiny_model


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve pictures with more noise from one to the next."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = np.full((100, 104, 3), 128.0) + rng.normal(scale=4 * i + 1, size=(100, 104, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"p{i:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table(path: Path, photos: Path, sign: float = -1, extra: str = "") -> Path:
    rows = [f"{photo},{sign * i}" for i, photo in enumerate(sorted(photos.glob("*.png")))]
    path.write_text("path,mos\n" + "\n".join(rows) + "\n" + extra)
    return path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_fit_then_predict(grepq, model, photos, tmp_path):
    labels = table(tmp_path / "labels.csv", photos)
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "mine", "--model", model)
    assert status == 0, err
    for words in ("12 labels", "alpha", "SRCC", "PLCC", "RMSE", "twice the labels", "predicted worst"):
        assert words in out
    assert {path.suffix for path in (tmp_path / "mine").iterdir()} <= {".safetensors", ".json", ".md"}

    status, out, err = grepq("predict", photos, "--model", tmp_path / "mine", "--confidence", 0.8, "--format", "csv")
    assert status == 0, err
    rows = rows_of(out)
    assert list(rows[0]) == ["path", "mos", "low", "high", "warnings", "error"]
    assert [Path(row["path"]).name for row in rows] == [f"p{i:02d}.png" for i in range(12)]
    assert all(float(row["low"]) < float(row["high"]) for row in rows)
    assert np.corrcoef([float(row["mos"]) for row in rows], -np.arange(12))[0, 1] > 0.9


def test_predict_is_what_the_library_predicts(grepq, model, photos, tmp_path):
    from grepq_iqa import GRepQ

    files = sorted(photos.glob("*.png"))
    fitted = GRepQ.from_pretrained(model, device="cpu").fit(files, np.arange(12))
    fitted.save_pretrained(tmp_path / "mine")
    status, out, _ = grepq("predict", files[3], "--model", tmp_path / "mine", "-f", "jsonl", "--device", "cpu")
    expected = fitted.predict(files[3])
    row = json.loads(out)
    assert status == 0 and row["error"] is None
    assert [row["mos"], row["low"], row["high"]] == pytest.approx([expected.mos, expected.low, expected.high], 1e-4)


def test_predict_survives_a_broken_file_and_few_labels(grepq, model, photos, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("path,mos\n" + "".join(f"{photos / f'p{i:02d}.png'},{i}\n" for i in (0, 5, 11)))
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "mine", "--model", model)
    assert status == 0 and "too few labels" in out, err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    status, out, err = grepq("predict", broken, photos / "p01.png", "--model", tmp_path / "mine", "--format", "jsonl")
    first, second = (json.loads(line) for line in out.splitlines())
    assert status == 1 and "1 of 2" in err
    assert first["error"] and first["mos"] is None
    assert second["low"] is None and second["high"] is None and isinstance(second["mos"], float)
    assert any("too few labels for a 90% interval" in warning for warning in second["warnings"])


def test_predict_needs_a_fitted_model(grepq, model, photos):
    status, out, err = grepq("predict", photos, "--model", model)
    assert status == 2 and not out and "has seen no labels" in err and "Traceback" not in err


def test_json_report_and_plot(grepq, model, photos, tmp_path):
    needs("matplotlib")
    labels = table(tmp_path / "labels.csv", photos)
    plot = tmp_path / "plots" / "fit.png"
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--json", "--plot", plot)
    assert status == 0, err
    report = json.loads(out)
    assert report["labels"] == 12 and report["alpha"] > 0 and len(report["worst"]) == 5
    assert set(report["validation"]["srcc"]) == {"value", "low", "high"}
    assert Image.open(plot).size[0] > 1000


def test_without_matplotlib_the_plot_is_refused_before_the_work(grepq, model, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    labels = table(tmp_path / "labels.csv", photos)
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--plot", "fit.png")
    assert status == 2 and "grepq-iqa[plot]" in err and not (tmp_path / "m").exists()


def test_a_folder_that_must_not_be_written_to_is_refused_before_the_work(grepq, model, photos, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    monkeypatch.setattr("grepq_iqa.model.GRepQ.from_pretrained", lambda *a, **k: pytest.fail("work was begun"))
    labels = table(tmp_path / "labels.csv", photos)
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "full", "--model", model)
    assert status == 2 and "holds other files" in err
    (tmp_path / "full" / "config.json").write_text('{"model_type": "bert", "scripts": {}}')  # of another program
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "full", "--model", model)
    assert status == 2 and "holds other files" in err


def test_every_bad_row_stops_a_fit_in_one_go(grepq, model, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    labels = table(tmp_path / "labels.csv", photos, extra="gone.png,1\nbad.png,\n")
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model)
    assert status == 2 and "line 14" in err and "line 15" in err and not (tmp_path / "m").exists()

    labels = table(tmp_path / "labels.csv", photos, extra="bad.png,2\n")
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model)
    assert status == 2 and "line 14" in err and "bad.png" in err and not (tmp_path / "m").exists()
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--skip-bad-rows")
    assert status == 0 and "12 labels" in out and "left out line 14" in err


def test_constant_and_too_few_labels_are_refused_in_words(grepq, model, photos, tmp_path):
    labels = table(tmp_path / "labels.csv", photos, sign=0)
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model)
    assert status == 2 and "all 12 labels are" in err and "Traceback" not in err
    labels.write_text(f"path,mos\n{photos / 'p00.png'},1\n{photos / 'p01.png'},2\n")
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model)
    assert status == 2 and "at least 3 labels" in err


def test_cache_makes_a_second_fit_free_and_changes_nothing(model, photos, tmp_path, monkeypatch):
    from grepq_iqa import GRepQ

    grepq = GRepQ.from_pretrained(model, device="cpu")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    paths = [photos / "p03.png", bad, photos / "p01.png", photos / "p02.png"]
    cache = FeatureCache(tmp_path / "features", model_key(grepq))
    plain = list(score_paths(grepq, paths, features=True))
    half = list(score_paths(grepq, [paths[2]], features=True, cache=cache))
    first, second = (
        list(score_paths(grepq, paths, features=True, cache=cache)),
        list(score_paths(grepq, paths, features=True, cache=cache)),
    )
    assert half[0].features is not None
    for results in (first, second):
        assert [result.path for result in results] == [str(path) for path in paths]
        assert results[1].error == plain[1].error is not None
        for i in (0, 2, 3):
            np.testing.assert_allclose(results[i].features, plain[i].features, rtol=1e-4, atol=1e-5)
            assert results[i].score.value == pytest.approx(plain[i].score.value, abs=1e-6)
            assert results[i].score.warnings == plain[i].score.warnings

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(grepq, "score_prepared", fail)
    good = [paths[0], *paths[2:]]
    assert len(list(score_paths(grepq, good, features=True, cache=cache))) == 3


def test_no_cache_leaves_no_files(grepq, model, photos, tmp_path):
    labels = table(tmp_path / "labels.csv", photos)
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--no-cache")
    assert status == 0 and not (tmp_path / "cache").exists(), err
    status, _, _ = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--cache", tmp_path / "here")
    assert status == 0 and len(list((tmp_path / "here").rglob("*.npz"))) == 12
    status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--no-cache", "--cache", "x")
    assert status == 2 and "exclude" in err


def test_select_writes_what_fit_reads(grepq, model, photos, tmp_path):
    chosen = tmp_path / "sub" / "to-label.csv"
    status, out, err = grepq("select", photos, "-n", 8, "-o", chosen, "--model", model)
    assert (status, out) == (0, ""), err
    rows = rows_of(chosen.read_text())
    assert list(rows[0]) == ["path", "mos"] and len({row["path"] for row in rows}) == 8
    assert all((chosen.parent / row["path"]).is_file() and row["mos"] == "" for row in rows)

    status, _, err = grepq("select", photos, "-n", 8, "-o", chosen, "--model", model)
    assert status == 2 and "exists" in err
    status, _, err = grepq("fit", "--csv", chosen, "-o", tmp_path / "m", "-m", model)
    assert status == 2 and err.count("no score is given") == 8

    chosen.write_text("path,mos\n" + "".join(f"{row['path']},{i}\n" for i, row in enumerate(rows)))
    assert grepq("fit", "--csv", chosen, "-o", tmp_path / "m", "-m", model)[0] == 0
    status, out, err = grepq("select", photos, "-n", 4, "--labeled", chosen, "--model", model)
    assert status == 0, err
    following = {Path(row["path"]).name for row in rows_of(out)}
    assert len(following) == 4 and not following & {Path(row["path"]).name for row in rows}
    status, out, err = grepq("select", photos, "-n", 50, "--labelled", chosen, "--model", model)  # as 0.1 spelled it
    assert status == 0 and len(rows_of(out)) == 4 and "50 were asked for, but there are 4" in err


def test_select_passes_over_broken_files(grepq, model, photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    status, out, err = grepq("select", photos, tmp_path / "bad.png", "-n", 3, "--model", model)
    assert status == 1 and len(rows_of(out)) == 3 and "bad.png" in err
    status, _, err = grepq("select", tmp_path / "bad.png", "-n", 3, "--model", model)
    assert status == 2 and "no images" in err


def test_contact_sheet_holds_any_name(grepq, model, photos, tmp_path):
    folder = tmp_path / "a & b"
    folder.mkdir()
    names = ["<script>alert(1)<.png", 'quote".png', "comma,.png", "</script>.png".replace("/", "\\"), "ü'&amp;.png"]
    for name, photo in zip(names, sorted(photos.glob("*.png")), strict=False):
        (folder / name).write_bytes(photo.read_bytes())
    page = tmp_path / "page.html"
    status, _, err = grepq(
        "select", folder, "-n", 5, "-o", tmp_path / "t.csv", "--html", page, "--scale", 1, 10, "-m", model
    )
    assert status == 0, err
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 2 and "alert(1)<.png" not in text.replace("&lt;", "")
    assert text.count('src="data:image/jpeg;base64,') == 5
    assert text.count('max="10"') == 5
    assert text.count('<button type="button" value="10"') == 5
    assert not re.search(r"""(src|href)=["']https?:""", text)
    settings = json.loads(re.search(r'id="settings">(.*?)</script>', text)[1])
    assert sorted(settings["names"]) == sorted(str(folder / name) for name in names)
    assert settings["csv"] == "t.csv"


def test_labels_that_run_the_other_way_are_remarked_on(grepq, model, photos, tmp_path):
    from grepq_iqa import GRepQ

    files = sorted(photos.glob("*.png"))
    copies = []
    for k in range(2):
        for photo in files:
            copies.append(tmp_path / f"{k}{photo.name}")
            copies[-1].write_bytes(photo.read_bytes())
    scores = [float(score) for score in GRepQ.from_pretrained(model).score(copies)]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,dmos\n" + "".join(f"{c},{-s:.9f}\n" for c, s in zip(copies, scores, strict=True)))
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model)
    assert status == 0 and "lower is better" in out and "is-better" not in err  # a column called dmos says so itself
    status, out, err = grepq("fit", "--csv", labels, "-o", tmp_path / "m", "-m", model, "--higher-is-better")
    assert status == 0 and "higher is better" in out and "with --lower-is-better" in err
