"""Nothing of the user's is ever lost: what a command may write over, and how a cut run goes on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from grepq_iqa.files import replacing, write_atomically


@pytest.fixture
def folder(tmp_path, photos) -> Path:
    """Three small photographs and a table of ratings of them."""
    base = tmp_path / "photos"
    base.mkdir()
    for name, photo in zip("abc", photos, strict=False):
        with Image.open(photo) as picture:
            picture.crop((0, 0, 120, 100)).save(base / f"{name}.jpg")
    (base / "labels.csv").write_text("path,mos\na.jpg,1\nb.jpg,2\nc.jpg,4\n")
    return base


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


REFUSED = [
    (["score", "-o", "{f}/a.jpg", "{f}/b.jpg", "{f}/c.jpg"], "name of an image"),  # the output's name forgotten
    (["score", "{f}/a.jpg", "-o", "{f}/a.jpg"], "name of an image"),
    (["score", "{f}", "-o", "{f}/new.jpg"], "name of an image"),
    (["score", "{f}/labels.csv", "-o", "{f}/labels.csv"], "one of the inputs"),
    (["score", "{f}/labels.csv", "-o", "{f}/labels.csv", "--overwrite"], "one of the inputs"),
    (["score", "{f}", "-o", "{f}/labels.csv"], "holds ratings"),
    (["score", "{f}", "-o", "{f}/labels.csv", "--overwrite"], "holds ratings"),
    (["score", "{f}", "-o", "{f}/labels.csv", "--resume"], "holds ratings"),
    (["score", "{f}", "-o", "{f}/notes.csv"], "--overwrite"),
    (["score", "{f}", "-o", "{f}/notes.csv", "--resume"], "--overwrite"),
    (["score", "{f}", "-o", "{f}/rows.xlsx"], ".xlsx"),
    (["score", "{f}", "-o", "{f}/rows.parquet", "--format", "csv"], ".parquet"),
    (["score", "{f}", "-o", "{f}"], "--format"),
    (["score", "{f}", "-o", "{f}/folder.csv"], "is a folder"),
    (["score", "{f}", "-o", "{f}/a.jpg/x.csv"], "not a folder"),
    (["score", "{f}", "-o", "{f}/" + "x" * 300 + ".csv"], "too long"),
    (["predict", "{f}", "--model", "{m}", "-o", "{f}/labels.csv"], "holds ratings"),
    (["predict", "{f}/a.jpg", "--model", "{m}", "-o", "{f}/a.jpg"], "name of an image"),
    (["select", "{f}", "-n", "2", "-o", "{f}/labels.csv"], "holds ratings"),
    (["select", "{f}", "-n", "2", "-o", "{f}/labels.csv", "--overwrite"], "holds ratings"),
    (["select", "{f}", "-n", "2", "-o", "{f}/a.jpg"], ".csv or .tsv"),
    (["select", "{f}", "-n", "2", "-o", "{f}/new.csv", "--html", "{f}/a.jpg"], ".html"),
    (["select", "{f}", "-n", "2", "--html", "{f}/page.html"], "--overwrite"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}"], "no model"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}/a.jpg"], "is a file"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}/new", "--plot", "{f}/a.jpg"], "--overwrite"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}/new", "--plot", "{f}/a.jpg", "--overwrite"], "one of the inputs"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}/new", "--plot", "{f}/d.png"], "--overwrite"),
    (["fit", "--csv", "{f}/labels.csv", "-o", "{f}/new", "--plot", "{f}/x.xyz"], ".png"),
    (["benchmark", "csv", "--root", "{f}", "--labels", "0", "-o", "{f}/labels.csv"], ".json"),
    (["benchmark", "csv", "--root", "{f}", "--labels", "0", "-o", "{f}/thesis.json"], "--overwrite"),
    (
        ["benchmark", "csv", "--root", "{f}", "--labels", "0", "--csv", "t.json", "-o", "{f}/t.json", "--overwrite"],
        "inputs",
    ),
    (["benchmark", "csv", "--root", "{f}", "--labels", "0", "--plot", "{f}/a.jpg"], ".png"),
    (["benchmark", "csv", "--root", "{f}", "--labels", "0", "--plot", "{f}/d.png"], "--overwrite"),
    (["benchmark", "csv", "--root", "{f}", "--labels", "0", "--worst", "{f}/a.jpg/b.png"], "not a folder"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[" ".join(a)[:70] for a, _ in REFUSED])
def test_what_is_not_ours_stays(arguments, words, grepq, folder, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr("grepq_iqa.batch.score_paths", lambda *a, **k: pytest.fail("work was begun"))
    (folder / "notes.csv").write_text("day,weather\n1,rain\n")
    (folder / "page.html").write_text("<p>mine")
    (folder / "t.json").write_text("path,mos\n" + "".join(f"{name}.jpg,{i}\n" for i, name in enumerate("abc")))
    (folder / "thesis.json").write_text('{"chapters": 3}')
    (folder / "folder.csv").mkdir()
    shutil.copy(folder / "a.jpg", folder / "d.png")
    before = contents(tmp_path)
    given = [argument.format(f=folder, m=tiny_model) for argument in arguments]
    status, out, err = grepq(*given)
    assert status == 2 and words in err and "Traceback" not in err and out == ""
    assert len(err.strip().splitlines()) == 1
    assert contents(tmp_path) == before


def test_a_link_to_an_input_is_that_input(grepq, folder, tmp_path):
    (tmp_path / "out.csv").symlink_to(folder / "labels.csv")
    status, _, err = grepq("score", folder / "labels.csv", "-o", tmp_path / "out.csv")
    assert status == 2 and "one of the inputs" in err


def test_our_own_rows_are_written_anew_and_others_when_asked(grepq, folder, tmp_path, tiny_model):
    output = tmp_path / "scores.csv"
    for _ in range(2):
        assert grepq("score", folder / "a.jpg", "-o", output, "-m", tiny_model)[0] == 0
    assert len(output.read_text().splitlines()) == 2
    output.write_text("day,weather\n1,rain\n")
    status, _, err = grepq("score", folder / "a.jpg", "-o", output, "-m", tiny_model, "--overwrite")
    assert status == 0 and output.read_text().startswith("path,score,"), err
    unfilled = tmp_path / "to-label.csv"
    assert grepq("select", folder, "-n", 2, "-o", unfilled, "-m", tiny_model)[0] == 0
    assert grepq("select", folder, "-n", 2, "-o", unfilled, "-m", tiny_model)[0] == 2
    assert grepq("select", folder, "-n", 2, "-o", unfilled, "-m", tiny_model, "--overwrite")[0] == 0


def test_pages_and_pictures_of_ours_are_written_anew(grepq, folder, tmp_path, tiny_model):
    page, plot = tmp_path / "page.html", tmp_path / "fit.png"
    select = ("select", folder, "-n", 2, "-o", tmp_path / "t.csv", "--overwrite", "-m", tiny_model)
    for _ in range(2):
        assert grepq(*select, "--html", page)[0] == 0
    labels = folder / "labels.csv"
    labels.write_text("path,mos\n" + "".join(f"x{i}.jpg,{i}\n" for i in range(8)))
    for i in range(8):
        with Image.open(folder / "a.jpg") as picture:
            picture.rotate(10 * i).save(folder / f"x{i}.jpg")
    for _ in range(2):
        status, _, err = grepq("fit", "--csv", labels, "-o", tmp_path / "mine", "-m", tiny_model, "--plot", plot)
        assert status == 0, err
    assert Image.open(plot).text["Software"] == "made by grepq-iqa"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json"])
def test_formats_follow_the_name_and_resume(suffix, grepq, folder, tmp_path, tiny_model):
    output = tmp_path / f"rows{suffix}"

    def rows() -> list[dict]:
        text = output.read_text()
        if suffix == ".json":
            return json.loads(text)
        if suffix in (".jsonl", ".ndjson"):
            return [json.loads(line) for line in text.splitlines()]
        return list(csv.DictReader(text.splitlines(), delimiter="\t" if suffix == ".tsv" else ","))

    score = ("score", "-m", tiny_model, "-o", output)
    assert grepq(*score, folder / "a.jpg", folder / "b.jpg")[0] == 0
    whole = output.read_text()
    assert [Path(row["path"]).name for row in rows()] == ["a.jpg", "b.jpg"]
    cut = len(whole) - 25  # in the middle of the second row
    for tail in ("", "\0" * 200_000):
        output.write_text(whole[:cut] + tail)
        status, _, err = grepq(*score, folder / "a.jpg", folder / "b.jpg", folder / "c.jpg", "--resume")
        assert status == 0, err
        assert [Path(row["path"]).name for row in rows()] == ["a.jpg", "b.jpg", "c.jpg"]
        assert output.read_text().startswith(whole[: cut - 200])
    before = output.read_bytes()
    assert grepq(*score, folder / "a.jpg", folder / "b.jpg", folder / "c.jpg", "--resume")[0] == 0
    assert output.read_bytes() == before


def test_relative_and_absolute_names_are_one_file(grepq, folder, tmp_path, tiny_model, monkeypatch):
    output = tmp_path / "rows.csv"
    monkeypatch.chdir(folder)
    assert grepq("score", "a.jpg", "./b.jpg", "-m", tiny_model, "-o", output)[0] == 0
    status, _, err = grepq("score", folder, "-m", tiny_model, "-o", output, "--resume")
    assert status == 0, err
    names = [row["path"] for row in csv.DictReader(output.open())]
    assert names == ["a.jpg", "b.jpg", str(folder / "c.jpg")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--max-side", "50"], "max_side None, now 50"),
        (["--dtype", "bfloat16"], "dtype float32, now bfloat16"),
        (["-m", "compact"], "encoder_hash"),
    ],
)
def test_rows_of_other_settings_are_not_mixed(change, words, grepq, folder, tmp_path, tiny_model):
    output = tmp_path / "rows.csv"
    command = ["score", folder / "a.jpg", "-o", output, "--dtype", "float32", "-m", tiny_model]
    assert grepq(*command)[0] == 0
    before = contents(tmp_path)
    status, _, err = grepq(*command, folder / "b.jpg", "--resume", *change)
    assert status == 2 and words in err and len(err.splitlines()) == 1
    assert contents(tmp_path) == before


def test_what_cannot_be_gone_on_with_is_said(grepq, folder, tmp_path, tiny_model):
    output = tmp_path / "rows.csv"
    score = ("score", folder / "a.jpg", "-o", output, "-m", tiny_model)
    assert grepq(*score)[0] == 0
    good = output.read_text()
    settings = tmp_path / "rows.csv.meta.json"
    kept = settings.read_text()
    settings.unlink()
    status, _, err = grepq(*score, "--resume")
    assert status == 2 and "rows.csv.meta.json" in err and output.read_text() == good
    settings.write_text(kept)
    output.write_text("path,mos,low,high,warnings,error\nx.jpg,1,2,3,,\n")
    status, _, err = grepq(*score, "--resume")
    assert status == 2 and "rows of `grepq score`" in err
    output.write_text(good + '"a quote that never ends\n')
    status, _, err = grepq(*score, "--resume")
    assert status == 2 and "damaged" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(("name", "options"), [("rows.csv", []), ("rows.jsonl", ["--sort", "best"])])
def test_rows_that_a_person_changed_are_not_replaced_unasked(grepq, folder, tmp_path, tiny_model, name, options):
    output = tmp_path / name
    score = ("score", folder / "a.jpg", folder / "b.jpg", "-o", output, "-m", tiny_model, *options)
    assert grepq(*score)[0] == grepq(*score)[0] == 0  # as it was left, a second run replaces it
    corrected = output.read_text().replace("b.jpg", "renamed.jpg")
    output.write_text(corrected)
    status, _, err = grepq(*score)
    assert status == 2 and "changed since" in err and str(output) in err and "--overwrite" in err
    assert output.read_text() == corrected
    for _ in range(2):  # goes on behind what the person left, which stays the person's
        status, _, err = grepq(*score, "--resume")
        names = [path for path in ("a.jpg", "b.jpg", "renamed.jpg") if path in output.read_text()]
        assert status == 0 and names == ["a.jpg", "b.jpg", "renamed.jpg"], err
        assert grepq(*score)[0] == 2 and "renamed.jpg" in output.read_text()
    assert grepq(*score, "--overwrite")[0] == 0 and "renamed.jpg" not in output.read_text()
    assert grepq(*score)[0] == 0
    assert "changed" not in json.loads((tmp_path / f"{name}.meta.json").read_text())


def test_a_command_without_resume_does_not_offer_it(grepq, folder, tmp_path, tiny_model):
    output = tmp_path / "picks.csv"
    assert grepq("pick", folder, "-o", output, "-m", tiny_model)[0] == 0
    output.write_text(output.read_text() + "\n")
    status, _, err = grepq("pick", folder, "-o", output, "-m", tiny_model)
    assert status == 2 and "changed since" in err and "--resume" not in err


def test_changed_parquet_is_not_replaced_unasked(grepq, folder, tmp_path, tiny_model):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "rows.parquet"
    score = ("score", folder / "a.jpg", folder / "b.jpg", "-o", output, "-m", tiny_model)
    assert grepq(*score)[0] == grepq(*score)[0] == 0
    parquet.write_table(parquet.read_table(output).slice(1), output)
    status, _, err = grepq(*score)
    assert status == 2 and "changed since" in err and parquet.read_table(output).num_rows == 1


@pytest.mark.parametrize("options", [[], ["--sort", "best"]])
def test_rows_go_through_a_link(grepq, folder, tmp_path, tiny_model, options):
    link, real = tmp_path / "rows.csv", tmp_path / "elsewhere" / "real.csv"
    try:
        link.symlink_to(real)  # which is not there yet
    except OSError:
        pytest.skip("no links here")
    score = ("score", folder / "a.jpg", "-m", tiny_model, *options)
    for output in (link, real, link):
        status, _, err = grepq(*score, "-o", output)
        assert status == 0 and link.is_symlink() and "a.jpg" in real.read_text(), err
    assert grepq(*score, "-o", link, "--resume")[0] == 0
    assert sorted(path.name for path in real.parent.iterdir()) == ["real.csv", "real.csv.meta.json"]
    # The first versions wrote the settings beside the link.
    (real.parent / "real.csv.meta.json").rename(tmp_path / "rows.csv.meta.json")
    assert grepq(*score, "-o", link, "--resume")[0] == 0


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")
@pytest.mark.parametrize("options", [[], ["--sort", "best"]])
def test_what_stdout_leads_to_is_not_cut(folder, tmp_path, tiny_model, options):
    log = tmp_path / "log.txt"
    log.write_text("mine\n")
    command = [sys.executable, "-m", "grepq_iqa", "score", folder / "a.jpg", "-m", tiny_model, "-o", "/dev/stdout"]
    with log.open("a") as stdout:
        done = subprocess.run([*command, "--format", "csv", *options], stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    first, header, row = log.read_text().splitlines()
    assert first == "mine" and header.startswith("path,") and "a.jpg" in row
    assert not Path("/dev/stdout.meta.json").exists()


def test_a_pipe_keeps_no_rows_to_go_on_with(grepq, folder, tiny_model):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    score = ("score", folder / "a.jpg", "-m", tiny_model, "-o", "/dev/full", "-f", "csv")
    status, _, err = grepq(*score, "--sort", "best")
    assert status == 2 and "cannot write /dev/full" in err and "--resume" not in err
    status, _, err = grepq(*score, "--resume")
    assert status == 2 and "keeps none" in err


def test_rows_of_a_run_that_was_killed_may_be_replaced(grepq, folder, tmp_path, tiny_model):
    output = tmp_path / "rows.csv"
    score = ("score", folder / "a.jpg", folder / "b.jpg", "-o", output, "-m", tiny_model)
    assert grepq(*score)[0] == 0
    settings = tmp_path / "rows.csv.meta.json"
    record = json.loads(settings.read_text())
    settings.write_text(json.dumps({key: value for key, value in record.items() if key != "sha256"}))
    output.write_bytes(output.read_bytes()[:-5])
    assert grepq(*score)[0] == 0 and len(output.read_text().splitlines()) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("options", [[], ["--sort", "best"]])
def test_a_pipe_gets_the_rows_and_stays_a_pipe(grepq, folder, tmp_path, tiny_model, options):
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        status, _, err = grepq("score", folder / "a.jpg", folder / "b.jpg", "-o", pipe, "-m", tiny_model, *options)
        out = reader.communicate(timeout=60)[0]
    assert status == 0, err
    assert [Path(row["path"]).name for row in csv.DictReader(out.splitlines())] in (
        ["a.jpg", "b.jpg"],
        ["b.jpg", "a.jpg"],
    )
    assert stat.S_ISFIFO(pipe.stat().st_mode) and sorted(path.name for path in tmp_path.iterdir()) == [
        "photos",
        "rows.csv",
    ]


def test_a_limit_on_pixels_of_ones_own(grepq, folder, tmp_path, tiny_model):
    with Image.open(folder / "a.jpg") as picture:
        picture.resize((600, 500)).save(folder / "large.png")
    score = ("score", folder / "large.png", "-m", tiny_model, "-f", "jsonl")
    assert json.loads(grepq(*score)[1])["error"] is None
    status, out, _ = grepq(*score, "--max-pixels", 200_000)
    assert status == 1 and "--max-pixels" in json.loads(out)["error"]


def test_kinds_that_are_left_out_of_a_folder_are_counted_aloud(grepq, folder, tiny_model):
    for name in ("a.xcf", "b.XCF", "notes.txt"):
        (folder / name).write_bytes(b"x")
    status, out, err = grepq("score", folder, "-m", tiny_model, "-f", "csv")
    assert status == 0 and len(out.splitlines()) == 4
    assert "2 .xcf files skipped: " in err and ".txt" not in err


def test_scores_elsewhere_can_be_given_back(grepq, folder, tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert grepq("score", "photos/a.jpg", "photos/b.jpg", "-m", tiny_model, "-o", "out/s.csv")[0] == 0
    status, out, err = grepq("score", "out/s.csv", "-m", tiny_model, "-f", "csv")
    assert status == 0, err
    assert [row["path"] for row in csv.DictReader(out.splitlines())] == ["photos/a.jpg", "photos/b.jpg"]


def test_permissions_are_those_of_the_umask(grepq, folder, tmp_path, tiny_model):
    old = os.umask(0o022)
    try:
        assert grepq("fit", "--csv", folder / "labels.csv", "-o", tmp_path / "mine", "-m", tiny_model)[0] == 0
        assert grepq("score", folder / "a.jpg", "-o", tmp_path / "rows.csv", "-m", tiny_model)[0] == 0
    finally:
        os.umask(old)
    written = [*(tmp_path / "mine").iterdir(), tmp_path / "rows.csv", tmp_path / "rows.csv.meta.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o644}
    assert (tmp_path / "mine" / "calibration.safetensors") in written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
class TestFullDisk:
    def program(self, *arguments: object, stdout) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "grepq_iqa", *map(str, arguments)]
        return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)

    def test_stdout(self, folder, tiny_model):
        with Path("/dev/full").open("w") as full:
            done = self.program("score", folder, "-m", tiny_model, "-f", "csv", stdout=full)
        assert done.returncode == 2 and "No space left" in done.stderr and len(done.stderr.splitlines()) == 1

    def test_a_file_of_rows(self, folder, tiny_model, tmp_path):
        (tmp_path / "rows.csv").symlink_to("/dev/full")
        done = self.program("score", folder, "-m", tiny_model, "-o", tmp_path / "rows.csv", stdout=subprocess.PIPE)
        assert done.returncode == 2 and "No space left" in done.stderr and len(done.stderr.splitlines()) == 1

    def test_help_and_lists(self):
        for arguments in (["weights", "list"], ["--help"], ["score", "--help"]):
            with Path("/dev/full").open("w") as full:
                done = self.program(*arguments, stdout=full)
            assert "Traceback" not in done.stderr and done.returncode != 0


def test_what_fails_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "kept.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"), replacing(target) as beside:
        beside.write_text("new, but only in p")
        raise RuntimeError("half-way")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    write_atomically(tmp_path / ("n" * 250), "long names fit")
    assert (tmp_path / ("n" * 250)).read_text() == "long names fit"


def test_a_fit_that_meets_a_full_disk_leaves_the_model_that_was_there(grepq, folder, tmp_path, tiny_model, monkeypatch):
    from grepq_iqa import GRepQ

    mine = tmp_path / "mine"
    assert grepq("fit", "--csv", folder / "labels.csv", "-o", mine, "-m", tiny_model)[0] == 0
    before = contents(mine)
    real = shutil.copyfile

    def copy_until_full(source, target, **options):
        if Path(source).name == "high_level.safetensors":
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return real(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    status, _, err = grepq("fit", "--csv", folder / "labels.csv", "-o", mine, "-m", tiny_model)
    assert status == 2 and "No space left" in err and len(err.splitlines()) == 1
    assert contents(mine) == before
    assert GRepQ.from_pretrained(mine).predict(folder / "a.jpg").mos


def test_a_plot_that_cannot_be_written_is_refused_before_the_fit(grepq, folder, tmp_path, tiny_model):
    (tmp_path / "labels.csv").write_text("path,mos\n" + "".join(f"{p},{n}\n" for n, p in enumerate(folder.iterdir())))
    arguments = ("fit", "--csv", tmp_path / "labels.csv", "-o", tmp_path / "m", "-m", tiny_model, "--plot")
    (tmp_path / "file").write_text("x")
    status, out, err = grepq(*arguments, tmp_path / "file" / "x.png")
    assert status == 2 and out == "" and err.count("cannot write") == 1
    if Path("/proc/self").exists():  # where even root cannot write
        status, out, err = grepq(*arguments, "/proc/x.png")
        assert status == 2 and out == "" and err.count("cannot write") == 1
