"""``grepq score`` as a person and as a program meet it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from grepq_iqa.data.image_paths import iter_image_paths


def grepq(*arguments: object, stdin: str | None = None, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "grepq_iqa", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """Good, broken and misnamed files under odd names."""
    base = tmp_path_factory.mktemp("folder")
    (base / "sub").mkdir()
    (base / "a.jpg").write_bytes(photos[0].read_bytes())
    (base / "b.jpg").write_bytes(photos[1].read_bytes()[:4000])
    (base / "sub" / "c \u2603\n.JPG").write_bytes(photos[2].read_bytes())
    (base / "d.jpg").touch()
    (base / "notes.txt").write_text("not searched for")
    (base / ".hidden.jpg").touch()
    return base


def test_rows_come_in_order_and_bad_files_cost_nothing(folder, photos):
    done = grepq("score", folder, folder / "gone.png", photos[3])
    assert done.returncode == 1 and "3 of 6" in done.stderr and "Traceback" not in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows] == [
        *(str(folder / name) for name in ("a.jpg", "b.jpg", "d.jpg", "sub/c \u2603\n.JPG", "gone.png")),
        str(photos[3]),
    ]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False, True, False]
    assert list(rows[0]) == ["path", "score", "low_level", "high_level", "percentile", "warnings", "error"]
    good = rows[0]
    assert float(good["score"]) == pytest.approx(float(good["low_level"]) + float(good["high_level"]), abs=1e-5)


def test_jsonl_resume_stdin_and_the_folded_last_line(folder, photos, tmp_path):
    output = tmp_path / "out" / "scores.jsonl"
    first = grepq("score", photos[0], "--output", output)
    assert first.returncode == 0 and first.stdout == ""
    whole = output.read_text()
    output.write_text(whole + whole[:20])  # an interrupt in the middle of a row
    again = grepq("score", "-", "--output", output, "--resume", stdin=f"{photos[0]}\n{photos[1]}\n")
    assert again.returncode == 0, again.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(photos[0]), str(photos[1])]
    assert rows[0]["error"] is None and rows[0]["warnings"] == [] and output.read_text().startswith(whole)


def test_an_interrupt_keeps_every_finished_row(photos, tmp_path):
    many, output = tmp_path / "many", tmp_path / "scores.csv"
    many.mkdir()
    for index in range(400):
        (many / f"{index:03d}.jpg").symlink_to(photos[0].resolve())
    command = [sys.executable, "-m", "grepq_iqa", "score", str(many), "--output", str(output), "--no-cache"]

    def heed_interrupts() -> None:  # a shell that started the tests in the background made them ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (output.exists() and output.read_bytes().count(b"\n") > 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "finished rows are kept" in message and "Traceback" not in message
    rows = list(csv.DictReader(output.open(newline="")))
    assert 2 <= len(rows) < 400 and all(row["score"] and row["path"] for row in rows)
    for path in sorted(many.iterdir())[len(rows) + 1 :]:
        path.unlink()
    again = grepq("score", many, "--output", output, "--resume")
    assert again.returncode == 0, again.stderr
    assert [row["path"] for row in csv.DictReader(output.open(newline=""))] == sorted(map(str, many.iterdir()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score"], "Missing argument"),
        (["score", "x.jpg", "--formt", "csv"], "No such option"),
        (["score", "x.jpg", "--resume"], "--output"),
        (["score", "x.jpg", "--model", "no-such-model"], "no-such-model"),
        (["score", "x.jpg", "--device", "abacus"], "abacus"),
        (["scor", "x.jpg"], "there is no command"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_clear_line(arguments, words):
    done = grepq(*arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_an_empty_folder_is_wrong_usage(tmp_path):
    done = grepq("score", tmp_path)
    assert done.returncode == 2 and "no images found" in done.stderr


def test_help_and_import_do_not_load_torch():
    code = "import sys, grepq_iqa; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = (
        "import sys\nsys.argv = ['grepq', '--help']\nfrom grepq_iqa.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and all(name in done.stdout for name in ("score", "fit", "predict", "weights"))
    assert grepq("--version").stdout.startswith("grepq-iqa ")


def test_iter_image_paths(folder, monkeypatch):
    names = lambda paths: [path.name for path in paths]  # noqa: E731
    assert names(iter_image_paths([folder])) == ["a.jpg", "b.jpg", "d.jpg", "c \u2603\n.JPG"]
    assert names(iter_image_paths([str(folder / "*.jpg")])) == ["a.jpg", "b.jpg", "d.jpg"]
    assert names(iter_image_paths([str(folder / "**" / "*.JPG")])) == ["c \u2603\n.JPG"]
    assert names(iter_image_paths([str(folder / "z*.jpg")])) == ["z*.jpg"]
    assert names(iter_image_paths(["-"], io.StringIO(f"{folder / 'a.jpg'}\n\n{folder / 'x'}\n"))) == ["a.jpg", "x"]
    assert list(iter_image_paths([])) == []


def test_a_table_stands_for_the_images_it_names(folder, tmp_path):
    table = folder / "list.csv"
    table.write_text("id;filename;note\n1;a.jpg;\n2;sub/gone.jpg;lost\n")
    try:
        assert list(iter_image_paths([table])) == [folder / "a.jpg", folder / "sub" / "gone.jpg"]
        other = tmp_path / "other.csv"
        other.write_text("x,y\n1,2\n")
        done = grepq("score", other)
        assert (
            done.returncode == 2
            and "none is known to hold the images" in done.stderr
            and "Traceback" not in done.stderr
        )
    finally:
        table.unlink()
