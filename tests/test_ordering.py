"""Order, limits, gates and tables of `grepq score` and `grepq predict`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grepq_iqa.cli.ordering import Order, Ordering
from grepq_iqa.cli.output import Format, RowWriter
from grepq_iqa.errors import UsageError


@pytest.fixture
def folder(tmp_path, photos, monkeypatch) -> Path:
    """Six small pictures of several qualities, and one that is none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    base = tmp_path / "photos"
    base.mkdir()
    for number in range(6):
        with Image.open(photos[number % len(photos)]) as picture:
            picture.crop((number * 9, 0, number * 9 + 120, 100)).save(base / f"{number}.png")
    (base / "3x.jpg").write_bytes(b"no picture")
    return base


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


values = st.one_of(st.none(), st.floats(-5, 5))


@given(
    st.lists(values, max_size=12),
    st.sampled_from([None, *Order]),
    st.one_of(st.none(), st.integers(1, 14)),
    st.booleans(),
    st.one_of(st.none(), st.floats(-5, 5)),
    st.booleans(),
)
def test_arranged_against_the_definition(found, sort, count, of_worst, least, lower):
    rows = [{"path": f"{i * 7 % 13}", "score": v, "error": None if v is not None else "x"} for i, v in enumerate(found)]
    ordering = Ordering(
        sort=sort,
        top=None if of_worst else count,
        worst=count if of_worst else None,
        min_value=least,
        lower_is_better=lower,
    )
    sign = -1 if lower else 1
    usable = [row for row in rows if row["score"] is not None]
    usable = [row for row in usable if least is None or sign * row["score"] >= sign * least]
    expected = [row["score"] for row in usable]
    if count:
        expected = sorted(expected, key=lambda v: sign * v, reverse=not of_worst)[:count]
    arranged = ordering.arranged(rows)
    assert sorted(row["score"] for row in arranged if row["score"] is not None) == sorted(expected)
    assert sum(row["score"] is None for row in arranged) == found.count(None)
    shown = [sign * row["score"] for row in arranged if row["score"] is not None]
    order = sort or (Order.worst if count and of_worst else Order.best if count else None)
    if order is Order.path:
        names = [row["path"] for row in arranged if row["score"] is not None]
        assert names == sorted(names)
    elif order is not None:
        assert shown == sorted(shown, reverse=order is Order.best)
        assert all(row["score"] is None for row in arranged[len(shown) :])  # errors are last
    else:
        assert arranged == [row for row in rows if row in arranged]


def test_limits_that_cannot_be_meant_are_refused(grepq, folder, tiny_model):
    with pytest.raises(UsageError, match="exclude"):
        Ordering(top=1, worst=1)
    for arguments in (["--top", 2, "--worst", 2], ["--top", 0], ["--fail-under", "nan"], ["--sort", "size"]):
        status, _, error = grepq("score", folder, "--model", tiny_model, *arguments)
        assert status == 2 and "Traceback" not in error


def test_top_worst_limits_gate_and_summary(grepq, folder, tiny_model):
    call = lambda *more: grepq("score", folder, "--model", tiny_model, *more)  # noqa: E731
    status, out, _ = call()
    plain = rows_of(out)
    assert status == 1 and [Path(row["path"]).stem for row in plain] == ["0", "1", "2", "3", "3x", "4", "5"]
    usable = [row for row in plain if not row["error"]]
    ranked = sorted(usable, key=lambda row: -float(row["score"]))
    status, out, _ = call("--sort", "best")
    assert rows_of(out) == [*ranked, plain[4]]
    status, out, _ = call("--top", 2)
    assert rows_of(out) == [*ranked[:2], plain[4]]
    status, out, _ = call("--worst", 2)
    assert rows_of(out) == [*ranked[::-1][:2], plain[4]]
    middle = float(ranked[3]["score"])
    status, out, _ = call("--min-score", middle - 1e-5)  # rows hold six digits
    assert [row for row in rows_of(out) if not row["error"]] == [row for row in usable if row in ranked[:4]]
    assert call("--fail-under", 0)[0] == 1  # one cannot be read, none is under
    status, out, error = call("--fail-under", middle + 1e-5, "--summary")
    assert status == 3 and "3 images under score" in error and "gate missed" in error
    assert rows_of(out) == plain and "6 images, and 1 that could not be used" in error and "median" in error
    # A gate looks at all images, whatever limits leave out.
    assert call("--fail-under", middle + 1e-5, "--top", 1)[0] == 3


def test_predict_goes_by_mos_in_either_direction(grepq, folder):
    (folder / "3x.jpg").unlink()
    status, out, _ = grepq("predict", folder, "--device", "cpu")
    found = {Path(row["path"]).stem: float(row["mos"]) for row in rows_of(out)}
    ranked = sorted(found, key=lambda name: -found[name])
    most = max(found.values()) + 1  # rows are rounded
    status, out, error = grepq("predict", folder, "--top", 3, "--lower-is-better", "--device", "cpu")
    assert status == 2 and out == "" and "here higher is better" in error  # test_direction.py has fitted models
    status, out, _ = grepq("predict", folder, "--top", 3, "--higher-is-better", "--device", "cpu")
    assert [Path(row["path"]).stem for row in rows_of(out)] == ranked[:3]
    status, out, _ = grepq("predict", folder, "--fail-under", most, "--min-percentile", 100, "--device", "cpu")
    assert status == 3 and rows_of(out) == []


def test_an_ordered_output_is_gone_on_with(grepq, folder, tiny_model, tmp_path):
    output, journal = tmp_path / "top.csv", tmp_path / "top.csv.rows.jsonl"
    call = lambda *more: grepq("score", folder, "--model", tiny_model, "-o", output, *more)  # noqa: E731
    call()
    plain = rows_of(output.read_text())
    output.unlink()
    # A run that was killed after two rows, the second cut.
    done = [{**row, "score": 9.5, "error": None} for row in plain[:1]]
    journal.write_text(json.dumps(done[0]) + "\n" + json.dumps(plain[1])[:30])
    (tmp_path / "top.csv.meta.json").rename(tmp_path / "top.csv.rows.jsonl.meta.json")
    status, _, error = call("--sort", "best", "--resume")
    assert status == 1, error
    rows = rows_of(output.read_text())
    assert [row["path"] for row in rows[:1]] == [plain[0]["path"]] and rows[0]["score"] == "9.5"  # was not scored again
    assert sorted(row["path"] for row in rows) == sorted(row["path"] for row in plain)
    assert not journal.exists() and (tmp_path / "top.csv.meta.json").exists()
    # A finished one takes in new pictures.
    (folder / "6.png").write_bytes((folder / "0.png").read_bytes())
    call("--worst", 2, "--resume")
    rows = rows_of(output.read_text())
    assert len(rows) == 3 and rows[0]["path"].endswith(("0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png"))
    status, _, error = call("--sort", "best", "--resume", "--max-side", 50)
    assert status == 2 and "other settings" in error


def test_a_kill_loses_no_finished_row_of_an_ordered_run(photos, tmp_path):
    many, output = tmp_path / "many", tmp_path / "best.parquet"
    many.mkdir()
    for index in range(400):
        (many / f"{index:03d}.jpg").symlink_to(photos[0].resolve())
    command = [sys.executable, "-m", "grepq_iqa", "score", str(many), "--output", str(output), "--top", "3"]
    command += ["--no-cache"]
    journal = tmp_path / "best.parquet.rows.jsonl"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") > 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = journal.read_bytes().count(b"\n")
    assert kept > 2 and not output.exists()
    for path in sorted(many.iterdir())[kept:]:
        path.unlink()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    assert pq.read_table(output).num_rows == 3 and not journal.exists()


def test_parquet_has_types_and_errors_and_is_gone_on_with(grepq, folder, tiny_model, tmp_path):
    import pyarrow.parquet as pq

    output = tmp_path / "rows.parquet"
    status, out, error = grepq("score", folder, "--model", tiny_model, "-o", output)
    assert status == 1 and out == "", error
    table = pq.read_table(output)
    assert table.schema.field("score").type == "double" and table.column("score").null_count == 1
    rows = table.to_pylist()
    assert [Path(row["path"]).stem for row in rows] == ["0", "1", "2", "3", "3x", "4", "5"]
    assert rows[4]["score"] is None and rows[4]["error"] and rows[0]["error"] is None and rows[0]["warnings"] == []
    (folder / "9.png").write_bytes((folder / "0.png").read_bytes())
    before = output.read_bytes()
    assert grepq("score", folder, "--model", tiny_model, "-o", output, "--resume", "--max-side", 64)[0] == 2
    assert output.read_bytes() == before
    assert grepq("score", folder, "--model", tiny_model, "-o", output, "--resume")[0] == 1  # the broken one has a row
    assert [Path(row["path"]).stem for row in pq.read_table(output).to_pylist()][-1] == "9"
    assert grepq("score", folder, "--format", "parquet")[0] == 2
    foreign = tmp_path / "theirs.parquet"
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(foreign)
    status, _, error = grepq("score", folder, "--model", tiny_model, "-o", foreign)
    assert status == 2 and "--overwrite" in error
    status, _, error = grepq("score", folder, "--model", tiny_model, "-o", foreign, "--overwrite", "--resume")
    assert status == 2 and "no table of rows of ours" in error


def test_the_cache_serves_score_and_predict_and_is_never_stale(grepq, folder, tiny_model, tmp_path):
    (folder / "3x.jpg").unlink()
    entries = lambda: len(list((tmp_path / "home").rglob("*.npz")))  # noqa: E731
    assert grepq("score", folder)[0] == 0 and entries() == 6
    assert grepq("predict", folder)[0] == 0 and entries() == 6
    call = lambda *more: grepq("score", folder, "--model", tiny_model, *more)[:2]  # noqa: E731
    first = call()
    assert entries() == 12 and call() == first and entries() == 12
    (folder / "0.png").write_bytes((folder / "5.png").read_bytes())
    second = rows_of(call()[1])
    assert second[0]["score"] == second[5]["score"] != rows_of(first[1])[0]["score"]
    # A limit that decodes or refuses pictures otherwise has entries of its own.
    status, out = call("--max-pixels", 100)
    assert status == 1 and all(row["error"] for row in rows_of(out))
    assert call("--no-cache", "--cache", tmp_path)[0] == 2


def test_a_file_that_changes_while_it_is_read_is_not_cached(folder, compact, tmp_path, monkeypatch):
    from grepq_iqa.batch import score_paths
    from grepq_iqa.feature_cache import FeatureCache

    class Late(FeatureCache):
        """Somebody writes the file anew after its digest was taken."""

        def digest(self, path):
            found = super().digest(path)
            Path(path).write_bytes((folder / "5.png").read_bytes())
            os.utime(path, ns=(1, 1))
            return found

    cache = Late(tmp_path / "cache", "ab" * 32)
    assert len(list(score_paths(compact, [folder / "0.png"], cache=cache))) == 1
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_tables_are_colored_by_percentile_and_nothing_else_is():
    def written(color: bool, format: Format = Format.table) -> str:
        stream = io.StringIO()
        writer = RowWriter(format, stream, ("path", "mos", "error"), color=color)
        for percentile in (5.0, 50.0, 95.0, None):
            writer.write({"path": "a.jpg", "mos": 1.0, "percentile": percentile})
        return stream.getvalue()

    plain, colored = written(False), written(True)
    assert "\x1b" not in plain and "\x1b[91m" in colored and "\x1b[92m" in colored
    assert colored.count("\x1b[0m") == 2
    import click

    assert click.unstyle(colored) == plain
    assert "\x1b" not in written(True, Format.csv)


def test_no_color_is_honored(monkeypatch):
    from grepq_iqa.cli.output import color_wanted

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert color_wanted(Terminal()) and not color_wanted(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not color_wanted(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    assert color_wanted(Terminal())


def test_score_frame(compact, folder, tmp_path):
    import pandas as pd

    from grepq_iqa.feature_cache import FeatureCache, model_key

    paths = sorted(folder.iterdir())[:5]
    table = compact.score_frame(paths, predict=True, cache=FeatureCache(tmp_path / "c", model_key(compact)))
    assert list(table.columns) == [
        "path", "mos", "low", "high", "score", "low_level", "high_level", "percentile", "warnings", "error",
    ]  # fmt: skip
    scores = [score.score for score in compact.score(paths[:4])]
    assert table["score"].tolist()[:4] == pytest.approx(scores, abs=1e-6) and table["score"].isna().tolist()[4]
    assert table["error"][4] and table["error"][0] is None and str(table["mos"].dtype) == "float64"
    given_table = pd.DataFrame({"Image": [str(paths[0]), None], "mine": [1, 2]}, index=["x", "y"])
    merged = compact.score_frame(given_table)
    assert list(merged.columns[:2]) == ["Image", "mine"] and list(merged.index) == ["x", "y"]
    assert merged["error"]["y"] == "no path" and list(given_table.columns) == ["Image", "mine"]
    twice = pd.concat([given_table, given_table.assign(Image=[str(paths[1]), str(paths[2])])])  # labels x, y, x, y
    merged = compact.score_frame(twice)
    assert list(merged.index) == ["x", "y", "x", "y"] and list(merged["Image"]) == list(twice["Image"])
    assert merged["score"].iloc[[0, 2, 3]].tolist() == pytest.approx(scores[:3], abs=1e-6)
    assert len(compact.score_frame(paths[0])) == 1 and len(compact.score_frame([])) == 0
    for bad, words in (
        (lambda: compact.score_frame(given_table, column="z"), "no column 'z'"),
        (lambda: compact.score_frame(given_table.rename(columns={"Image": "q"})), "column="),
        (lambda: compact.score_frame(given_table.assign(score=1)), "already"),
        (lambda: compact.score_frame(paths, column="a"), "none"),
    ):
        with pytest.raises(UsageError, match=words):
            bad()
