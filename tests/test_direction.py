"""A model that was fitted on scores of distortion knows that the lowest is the best, wherever it orders photographs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance
from safetensors import safe_open

from grepq_iqa import GRepQ
from grepq_iqa.calibration.standing import mos_standing


@pytest.fixture(scope="module")
def shoot(tmp_path_factory, photos) -> Path:
    """Two bursts of three, of a second each: as taken, too dark, too bright."""
    folder = tmp_path_factory.mktemp("shoot")
    for number, photo in enumerate(photos[:2]):
        with Image.open(photo) as image:
            middle = image.crop((40, 40, 340, 260))
        for take, light in enumerate((1, 0.3, 1.8)):
            exif = Image.Exif()
            exif[0x0110] = "R5"
            exif.get_ifd(0x8769).update({0x9003: f"2026:05:0{number + 1} 10:00:0{take}"})
            ImageEnhance.Brightness(middle).enhance(light).save(folder / f"{number}{take}.jpg", exif=exif)
    return folder


LABELS = {"00": 80.0, "01": 20.0, "02": 70.0, "10": 75.0, "11": 15.0, "12": 60.0}


@pytest.fixture(scope="module")
def table(shoot) -> Path:
    path = shoot.parent / f"{shoot.name}.csv"
    path.write_text("image,dmos\n" + "".join(f"{shoot / name}.jpg,{value}\n" for name, value in LABELS.items()))
    return path


@pytest.fixture(scope="module")
def fitted(shoot, tiny_model):
    """Models that say nearly their labels; the second one thinks that high ones are good."""
    model = GRepQ.from_pretrained(tiny_model)
    paths = [shoot / f"{name}.jpg" for name in LABELS]
    features, folders = model.features(paths), {}
    for lower in (True, False):
        model.fit(features=features, mos=list(LABELS.values()), prior="none", lower_is_better=lower, alphas=(1e-4,))
        folders[lower] = model.save_pretrained(shoot.parent / f"{shoot.name}-{lower}")
    return folders


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_fit_notes_it_and_the_model_keeps_it(grepq, table, tiny_model, tmp_path):
    def fit(*more: str) -> Path:
        out = tmp_path / f"model{len(more)}"
        status, _, error = grepq("fit", "--csv", table, "--model", tiny_model, "-o", out, *more)
        assert status == 0, error
        return out

    down, up = fit(), fit("--higher-is-better")
    assert GRepQ.from_pretrained(down).lower_is_better and not GRepQ.from_pretrained(up).lower_is_better
    with safe_open(up / "calibration.safetensors", framework="numpy") as stored:
        assert "lower_is_better" not in stored.metadata()  # files of other fits are what they were
    again = GRepQ.from_pretrained(GRepQ.from_pretrained(down).save_pretrained(tmp_path / "again"))
    assert again.lower_is_better
    again.fit(features=again.features(sorted(table.with_suffix("").glob("*.jpg"))), mos=list(LABELS.values()))
    assert not again.lower_is_better  # of the last fit
    assert not GRepQ.from_pretrained(tiny_model).lower_is_better


def test_standing(fitted):
    down, up = GRepQ.from_pretrained(fitted[True]), GRepQ.from_pretrained(fitted[False])
    for value, worse in ((0, 0), (18, 1), (65, 3), (100, 6)):
        assert mos_standing(up, value) == pytest.approx(100 * worse / 6)
        assert mos_standing(down, value) == pytest.approx(100 * (6 - worse) / 6)
        assert mos_standing(down, value, lower_is_better=False) == mos_standing(up, value)


def test_predict_puts_the_lowest_first(grepq, fitted, shoot, tmp_path):
    down = fitted[True]
    status, out, error = grepq("predict", shoot, "--model", down, "--sort", "best")
    assert status == 0, error
    values = [float(row["mos"]) for row in rows_of(out)]
    assert values == sorted(values) and len(set(values)) > 3
    status, turned, _ = grepq("predict", shoot, "--model", down, "--sort", "best", "--higher-is-better")
    assert [row["path"] for row in rows_of(turned)] == [row["path"] for row in rows_of(out)][::-1]
    status, out, _ = grepq("predict", shoot, "--model", down, "--min-percentile", 50)
    assert 0 < len(rows_of(out)) < 6 and max(float(row["mos"]) for row in rows_of(out)) < values[-1]
    middle = values[2] + 1e-4
    assert grepq("predict", shoot, "--model", down, "--fail-under", middle)[0] == 3
    assert grepq("predict", shoot, "--model", down, "--fail-under", values[-1] + 1e-4)[0] == 0
    # A report of these rows finds it there.
    output = tmp_path / "rows.csv"
    assert grepq("predict", shoot, "--model", down, "-o", output)[0] == 0
    assert json.loads(output.with_name("rows.csv.meta.json").read_text())["settings"]["lower_is_better"] is True
    status, _, error = grepq("predict", shoot, "--model", down, "-o", output, "--resume", "--higher-is-better")
    assert status == 2 and "lower_is_better True, now None" in error


def test_pick_keeps_the_lowest_of_a_burst(grepq, fitted, shoot, tmp_path):
    for more, best in (((), min), (("--higher-is-better",), max)):
        output = tmp_path / f"picks{len(more)}.csv"
        status, _, error = grepq("pick", shoot, "--model", fitted[True], "-o", output, *more)
        assert status == 0, error
        rows = rows_of(output.read_text())
        for burst in (rows[:3], rows[3:]):
            wanted = best(burst, key=lambda row: float(row["mos"]))
            assert [row["path"] for row in burst if row["pick"] == "1"] == [wanted["path"]]


def test_rate_gives_most_stars_to_the_lowest(grepq, fitted, shoot):
    down, stars = fitted[True], {}
    mos = {row["path"]: float(row["mos"]) for row in rows_of(grepq("predict", shoot, "--model", down)[1])}
    for more in ((), ("--higher-is-better",)):
        status, out, error = grepq("rate", shoot, "--model", down, "--format", "csv", *more)
        assert status == 0, error
        stars[more] = {row["path"]: float(row["stars"]) for row in rows_of(out)}
    best, worst = min(mos, key=mos.get), max(mos, key=mos.get)
    assert stars[()][best] == max(stars[()].values()) > stars[()][worst] == min(stars[()].values())
    turned = stars[("--higher-is-better",)]
    assert turned[worst] == max(turned.values()) > turned[best]


def test_a_report_begins_with_the_lowest(grepq, fitted, shoot, tmp_path):
    down, page, rows = fitted[True], tmp_path / "page.html", tmp_path / "rows.csv"

    def direction() -> str:
        return re.search(r'data-lower-is-better="(\w+)"', page.read_text())[1]

    assert grepq("report", shoot, "--model", down, "-o", page)[0] == 0 and direction() == "true"
    assert grepq("report", shoot, "--model", down, "-o", page, "--overwrite", "--higher-is-better")[0] == 0
    assert direction() == "false"
    assert grepq("predict", shoot, "--model", down, "-o", rows)[0] == 0
    assert grepq("report", rows, "-o", page, "--overwrite")[0] == 0 and direction() == "true"
    rows.with_name("rows.csv.meta.json").unlink()  # rows may be moved without their settings
    assert grepq("report", rows, "-o", page, "--overwrite")[0] == 0 and direction() == "false"


def test_a_resumed_prediction_keeps_the_limit_of_rows_before(grepq, fitted, shoot, tmp_path):
    """Rows in files hold no standing: it is told anew."""
    down, output = fitted[True], tmp_path / "rows.csv"
    limits = ("--sort", "best", "--min-percentile", 60)
    assert grepq("predict", shoot, "--model", down, *limits, "-o", output)[0] == 0
    wanted = output.read_text()
    assert 1 < len(rows_of(wanted)) < 6
    output.unlink()
    assert grepq("predict", shoot, "--model", down, "-o", output)[0] == 0  # all of them
    status, _, error = grepq("predict", shoot, "--model", down, *limits, "-o", output, "--resume")
    assert status == 0 and output.read_text() == wanted, error


def test_a_limit_that_the_model_knows_nothing_of_is_refused(grepq, shoot, tiny_model):
    status, out, error = grepq("score", shoot, "--model", tiny_model, "--min-percentile", 50)
    assert status == 2 and out == "" and "no table of percentiles" in error
