"""Small courtesies: what a person who knows Python and other programs takes for granted."""

from __future__ import annotations

import io
import os
import pickle
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image

from grepq_iqa import GRepQ, ImageError, LabelsError, Prediction, Score, UsageError
from grepq_iqa.cli.app import COMMANDS, app

MOS = [3.0, 1.0, 4.0, 2.5]


@pytest.fixture(scope="module")
def model(tiny_model) -> GRepQ:
    return GRepQ.from_pretrained(str(tiny_model), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def small(tmp_path_factory, photos) -> list[Path]:
    """Four small photographs of different looks."""
    folder = tmp_path_factory.mktemp("small")
    for i, photo in enumerate(photos[:4]):
        with Image.open(photo) as picture:
            picture.crop((0, 0, 120, 100)).save(folder / f"{i}.jpg")
    return sorted(folder.glob("*.jpg"))


# --- repr ---


def test_repr_says_what_the_model_is_and_is_one_short_line(tiny_model, small):
    model = GRepQ.from_pretrained(str(tiny_model), device="cpu", dtype="float32", max_side=512)
    assert repr(model) == f"GRepQ({str(tiny_model)!r}, engine='torch', device='cpu', dtype='float32', max_side=512)"
    model.fit(small, MOS, prior="none")
    assert repr(model).endswith("max_side=512, fitted on 4 labels)")
    assert "\n" not in repr(model)


# --- Score and Prediction ---


def test_scores_order_format_and_round():
    worse, better = Score(0.4567, 0.1, 0.3567), Score(0.9, 0.2, 0.7)
    assert sorted([better, worse]) == [worse, better]
    assert max(worse, better) is better
    assert worse < better > 0.5 and worse <= 0.5 and worse <= 0.4567 and not worse < 0.4567
    assert np.float64(0.5) > worse
    assert (np.array([0.1, 0.9]) > worse).tolist() == [False, True]
    assert f"{worse:.3f}" == "0.457" and f"{worse:>8.2f}" == "    0.46" and f"{worse}" == str(worse)
    assert round(worse, 2) == 0.46 and round(worse) == 0
    assert np.asarray([worse, better], dtype=float).tolist() == [0.4567, 0.9]
    with pytest.raises(TypeError, match="not supported between"):
        assert worse < "0.5"


def test_the_field_is_named_as_in_the_csv_and_the_old_name_works():
    score = Score(score=0.5, low_level=0.1, high_level=0.4)
    assert score.score == score.value == float(score) == 0.5
    assert pickle.loads(pickle.dumps(score)) == score


def test_predictions_of_one_are_numbers_too():
    worse, better = Prediction(2.25, 2.0, 3.0, 0.9), Prediction(4.0, 3.0, 5.0, 0.9)
    assert sorted([better, worse]) == [worse, better] and max(worse, better) is better
    assert f"{worse:.1f}" == "2.2" and round(worse, 1) == 2.2 and float(worse) == 2.25 and worse < 3
    assert len(worse) == 1 and worse[0] == worse and worse != better and len({worse, worse[0], better}) == 2


def test_predictions_of_several_are_taken_apart():
    several = Prediction(
        np.array([2.0, 4.0, 3.0]), np.array([1.0, 3.0, 2.0]), np.array([3.0, 5.0, 4.0]), 0.9, "ratings"
    )
    assert len(several) == 3
    assert several[1] == Prediction(4.0, 3.0, 5.0, 0.9, "ratings") == several[-2]
    assert [float(one) for one in several] == [2, 4, 3]
    assert max(several).mos == 4 and sorted(several)[0] == several[0]
    assert several[1:].mos.tolist() == [4, 3] and several == several[:] and several != several[::-1]
    with pytest.raises(IndexError):
        several[3]
    for spoken in (float, round, lambda p: f"{p:.1f}", lambda p: p < 3):
        with pytest.raises(TypeError, match=r"3 images is no single number: use \.mos"):
            spoken(several)


# --- device and dtype ---


def test_torchs_own_devices_and_dtypes_are_taken(tiny_model):
    model = GRepQ.from_pretrained(str(tiny_model), device=torch.device("cpu"), dtype=torch.float32)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert "device='cpu', dtype='float32'" in repr(model)
    with pytest.raises(UsageError, match="unknown dtype 'int16'"):
        GRepQ.from_pretrained(str(tiny_model), dtype=torch.int16)


# --- what several images may come in ---


def as_h5_names(paths: list[Path]) -> np.ndarray:
    return np.array([os.fsencode(path) for path in paths])


MANY = {
    "list of paths": list,
    "list of names": lambda paths: list(map(str, paths)),
    "tuple": tuple,
    "deque": deque,
    "generator": lambda paths: (path for path in paths),
    "map": lambda paths: map(str, paths),
    "values of a dictionary": lambda paths: dict(enumerate(paths)).values(),
    "keys of a dictionary": lambda paths: dict.fromkeys(paths, 0).keys(),
    "array of names": lambda paths: np.array(list(map(str, paths))),
    "array of objects": lambda paths: np.array(paths, dtype=object),
    "array of bytes": as_h5_names,
    "Series": lambda paths: pd.Series(list(map(str, paths))),
    "Series with its own index": lambda paths: pd.Series(list(map(str, paths)), index=[7, 3, 3, -1]),
    "Series of paths": lambda paths: pd.Series(paths, index=list("dcba")),
    "Series of categories": lambda paths: pd.Series(list(map(str, paths)), dtype="category"),
    "Index": lambda paths: pd.Index(list(map(str, paths))),
    "row of a table": lambda paths: pd.DataFrame([list(map(str, paths))]).iloc[0],
    "file objects": lambda paths: [io.BytesIO(path.read_bytes()) for path in paths],
}


@pytest.mark.parametrize("kind", MANY)
def test_any_sequence_of_images_is_taken_everywhere(kind, model, small):
    expected = [float(score) for score in model.score(small)]
    assert len(set(expected)) == 4
    found = model.score(MANY[kind](small))
    assert isinstance(found, list)
    assert [float(score) for score in found] == expected
    assert model.features(MANY[kind](small)).shape == (4, model.feature_dim)
    if kind == "file objects":
        return
    fitted = model.fit(MANY[kind](small), MOS, prior="none")
    assert len(fitted.predict(MANY[kind](small))) == 4


LABELS = {
    "Series with its own index": lambda mos: pd.Series(mos, index=[9, 8, 8, 1]),
    "Series of nullable integers": lambda mos: pd.Series([30, 10, 40, 25], dtype="Int64") / 10,
    "values of a dictionary": lambda mos: dict(enumerate(mos)).values(),
    "generator": lambda mos: (value for value in mos),
    "tensor": torch.tensor,
    "array": np.array,
}


@pytest.mark.parametrize("kind", LABELS)
def test_any_sequence_of_labels_is_taken(kind, model, small):
    expected = model.fit(small, MOS, prior="none").predict(small).mos
    found = model.fit((path for path in small), LABELS[kind](MOS), prior="none").predict(small).mos
    assert np.allclose(found, expected, atol=1e-6)


def test_columns_of_a_table_are_paired_in_order_whatever_their_index(model, small):
    table = pd.DataFrame({"path": list(map(str, small)), "mos": MOS, "shot": ["a", "a", "b", "c"]}, index=[5, 1, 1, 0])
    expected = model.fit(small, MOS, groups=["a", "a", "b", "c"], weights=[1, 2, 1, 1], prior="none").predict(small).mos
    weights = pd.Series([1, 2, 1, 1], index=[4, 3, 2, 1])
    found = model.fit(table.path, table.mos, groups=table.shot, weights=weights, prior="none").predict(table.path).mos
    assert np.allclose(found, expected, atol=1e-6)
    groups, weights = dict(enumerate("aabc")).values(), (weight for weight in (1, 2, 1, 1))
    found = model.fit(small, MOS, groups=groups, weights=weights, prior="none").predict(small).mos
    assert np.allclose(found, expected, atol=1e-6)


def test_what_could_mean_several_things_is_refused_in_words(model, small):
    table = pd.DataFrame({"path": list(map(str, small)), "mos": MOS})
    with pytest.raises(UsageError, match=r'pass its column of paths, such as table\["path"\]'):
        model.score(table)
    with pytest.raises(UsageError, match=r"pass list\(images\) or images.values\(\)"):
        model.score(dict(enumerate(small)))
    with pytest.raises(ImageError, match="cannot read an image from float"):
        model.score(pd.Series([str(small[0]), float("nan")]))
    with pytest.raises(LabelsError, match="2 of 4 labels are NaN"):
        model.fit(table.path, pd.Series([1.0, None, 2.0, None]))
    with pytest.raises(LabelsError, match="4 images but 3 labels"):
        model.fit(table.path, table.mos[:3])


def test_one_image_of_any_kind_stays_one(model, small):
    with Image.open(small[0]) as picture:
        pixels = np.asarray(picture)
        expected = float(model.score(picture))
    one = [
        small[0],
        str(small[0]),
        small[0].read_bytes(),
        memoryview(small[0].read_bytes()),
        pixels,
        small[0].open("rb"),
    ]
    for source in one:
        score = model.score(source)
        assert isinstance(score, Score) and float(score) == pytest.approx(expected, abs=1e-6)
    assert isinstance(model.score([pixels]), list)
    assert model.score([]) == [] and model.score(np.array([], dtype=str)) == []


# --- errors="keep" ---


def test_errors_are_kept_in_their_places(model, small, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(small[0].read_bytes()[:300])
    images = [small[0], broken, small[1], small[1], tmp_path / "gone.jpg"]
    found = model.score(images, errors="keep")
    assert [type(one) for one in found] == [Score, ImageError, Score, Score, ImageError]
    assert found[0] == model.score(small[0]) and found[2] == found[3]
    assert found[1].source == str(broken) and found[4].reason == "does not exist"
    assert found[4].__traceback__ is None
    assert isinstance(model.score(broken, errors="keep"), ImageError)
    assert model.score(small[0], errors="keep") == found[0]
    with pytest.raises(ImageError, match="broken"):
        model.score(images)
    with pytest.raises(UsageError, match='"raise" or "keep", got \'ignore\''):
        model.score(images, errors="ignore")


# --- progress ---


@pytest.mark.parametrize("to", ["--output", "redirected", "both"])
def test_a_terminal_that_writes_rows_to_a_file_sees_how_many_of_how_many(to, tiny_model, small, tmp_path, monkeypatch):
    from grepq_iqa.cli import run

    keeper, terminal = os.openpty()
    shown: list[bytes] = []

    def watch() -> None:  # a terminal that nobody reads holds up its program
        with suppress(OSError):
            while data := os.read(keeper, 1 << 16):
                shown.append(data)

    watcher = threading.Thread(target=watch)
    watcher.start()
    arguments = ["score", *map(str, small), "-m", str(tiny_model)]
    rows = tmp_path / "rows.csv"
    with (
        os.fdopen(terminal, "w") as stderr,
        (tmp_path / "out.csv").open("w") as redirected,
    ):
        monkeypatch.setattr("sys.stderr", stderr)
        monkeypatch.setattr("sys.stdout", redirected if to != "--output" else stderr)
        monkeypatch.setattr("sys.argv", ["grepq", *arguments, *(["-o", str(rows)] if to != "redirected" else [])])
        monkeypatch.setenv("TERM", "xterm")
        with pytest.raises(SystemExit) as stop:
            run()
    monkeypatch.undo()
    watcher.join(timeout=10)
    os.close(keeper)
    seen = b"".join(shown).decode()
    assert stop.value.code in (None, 0)
    assert "4/4" in seen
    written = rows if to != "redirected" else tmp_path / "out.csv"
    assert len(written.read_text().splitlines()) == 5


# --- the command line ---


def commands() -> dict[str, object]:
    """Every command by its full name."""
    import importlib

    root = typer.main.get_command(app)
    context = root.make_context("grepq", [], resilient_parsing=True)
    found = {}
    for name, (target, _) in COMMANDS.items():
        importlib.import_module(target.split(":")[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["grepq", name])
            command = root.get_command(context, name)
        inner = getattr(command, "commands", None)
        if inner:
            found |= {f"{name} {sub}": one for sub, one in inner.items()}
        else:
            found[name] = command
    return found


COMMON = {
    "output": {"--output", "-o"},
    "format": {"--format", "-f"},
    "model": {"--model", "-m"},
    "max_side": {"--max-side"},
    "max_pixels": {"--max-pixels"},
    "device": {"--device"},
    "dtype": {"--dtype"},
    "threads": {"--threads"},
    "resume": {"--resume"},
    "overwrite": {"--overwrite"},
    "cache": {"--cache"},
    "no_cache": {"--no-cache"},
    "seed": {"--seed"},
    "confidence": {"--confidence"},
    "encoding": {"--encoding"},
}


def test_the_same_option_has_the_same_name_in_every_command():
    found = commands()
    assert {"score", "fit", "predict", "select", "weights list", "benchmark"} <= found.keys()
    for name, command in found.items():
        for option in command.params:
            if option.param_type_name == "option" and option.name in COMMON:
                assert COMMON[option.name] <= set(option.opts), f"{name}: {option.opts}"
        mine = {option.name for option in command.params}
        if {"paths", "model"} <= mine and "device" in mine:  # it looks at pictures
            assert {"max_side", "max_pixels", "dtype", "threads"} <= mine, name
    assert "resume" in {option.name for option in found["predict"].params}


def test_help_offers_no_format_that_is_refused(grepq):
    for name in ("fit", "benchmark"):
        status, out, _ = grepq(name, "-h")
        assert status == 0 and "-f, --format <table|json>" in out
        assert "csv|" not in out


def test_a_report_takes_format_json_and_the_old_name(grepq, tiny_model, small, tmp_path):
    (tmp_path / "labels.csv").write_text("path,mos\n" + "".join(f"{p},{m}\n" for p, m in zip(small, MOS, strict=True)))
    given = ["fit", "--csv", tmp_path / "labels.csv", "-m", tiny_model, "--no-cache", "-o"]
    _, as_format, _ = grepq(*given, tmp_path / "a", "-f", "json")
    _, as_json, _ = grepq(*given, tmp_path / "b", "--json")
    assert as_format.startswith("{") and as_format == as_json


@pytest.mark.parametrize(
    "scale", [["--scale", "0,10"], ["--scale", "0", "10"], ["--scale=0,10"], ["--scale", "0,", "10"]]
)
def test_scale_is_taken_as_its_help_writes_it(scale, grepq, tiny_model, small, tmp_path):
    page = tmp_path / "rate.html"
    folder = small[0].parent
    status, _, err = grepq("select", folder, "-n", "2", "-m", tiny_model, "--no-cache", "--html", page, *scale)
    assert status == 0, err
    assert "from 0 (worst) to 10 (best)" in page.read_text()


def test_a_scale_that_is_none_is_refused(grepq, small):
    status, _, err = grepq("select", small[0].parent, "--scale", "1,2,3", "--html", "x.html")
    assert status == 2 and "'--scale'" in err


def test_names_that_are_none_get_the_nearest_and_all(grepq):
    status, _, err = grepq("benchmark", "foo")
    assert status == 2 and "there is no data set 'foo'. There are: clive, koniq-10k," in err and "agiqa-3k, csv" in err
    status, _, err = grepq("benchmark", "konig-10k", "--root", ".")
    assert status == 2 and "Did you mean koniq-10k?" in err
    status, _, err = grepq("scoer", "x.jpg")
    assert status == 2 and err.startswith(
        "grepq: there is no command 'scoer'. Did you mean score? There are: score, score-many, fit"
    )


def test_two_threads_leave_numpys_threads_as_they_were():
    """The limit is the process's: whoever leaves first must not take it from the other, nor leave it for ever."""
    from grepq_iqa.devices import _blas, one_blas_thread

    def limits():
        return [one["num_threads"] for one in _blas().info() if one["user_api"] == "blas"]

    before = limits()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(limits()) <= {1}
    second.__exit__(None, None, None)
    assert limits() == before
