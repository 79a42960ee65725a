"""Bursts and near-duplicates, the best of each, and files that move without loss."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from grepq_iqa.data.capture import Capture, parse_offset, parse_time, read_capture
from grepq_iqa.errors import UsageError
from grepq_iqa.report import transfer as transfers
from grepq_iqa.report.alignment import RATIOS, SIDE, Aligner, normalized
from grepq_iqa.report.companions import companions_of, shots_of
from grepq_iqa.report.journal import Journal, undo
from grepq_iqa.report.picks import Frame, best_of, group_frames, in_words, nearest_pairs
from grepq_iqa.report.targets import folded, plan, renamed


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and not path.name.endswith("journal.jsonl")
    }


# Capture times


@pytest.mark.parametrize(
    ("text", "subseconds", "expected"),
    [
        ("2026:11:25 08:30:05", "", datetime(2026, 11, 25, 8, 30, 5)),
        ("2026:11:25 08:30:05", "25", datetime(2026, 11, 25, 8, 30, 5, 250000)),
        ("2026-11-25T08:30:05.5", "", datetime(2026, 11, 25, 8, 30, 5, 500000)),
        ("0000:00:00 00:00:00", "", None),
        ("    :  :     :  :  ", "", None),
        ("2026:13:41 08:30:05", "", None),
        ("yesterday", "x", None),
    ],
)
def test_times_as_cameras_write_them(text, subseconds, expected):
    assert parse_time(text, subseconds) == expected


def test_offsets_and_distances_in_time():
    assert parse_offset("+01:30") == timedelta(minutes=90) and parse_offset("-0800") == timedelta(hours=-8)
    assert parse_offset("Z") == timedelta(0) and parse_offset("") is None and parse_offset("+99:00") is None
    noon = datetime(2026, 1, 1, 12)
    east, west = Capture(noon, timedelta(hours=2), "A"), Capture(noon, timedelta(hours=1), "A")
    assert east.seconds_from(west) == west.seconds_from(east) == 3600
    assert east.seconds_from(Capture(noon, None, "A")) == 0
    assert east.seconds_from(Capture(noon, timedelta(hours=2), "B")) is None  # clocks of two cameras
    assert east.seconds_from(Capture()) is None


def test_exif_is_read_and_nonsense_costs_nothing(tmp_path, photos):
    path = tmp_path / "a.jpg"
    with Image.open(photos[0]) as image:
        exif = image.getexif()
        exif[0x010F], exif[0x0110], exif[0x4746] = "Canon", "R5", 4
        exif.get_ifd(0x8769).update({0x9003: "2026:11:25 08:30:05", 0x9291: "250", 0x9011: "+02:00"})
        image.save(path, exif=exif)
        found = read_capture(path)
        assert found.local == datetime(2026, 11, 25, 8, 30, 5, 250000) and found.offset == timedelta(hours=2)
        assert found.camera == "Canon R5" and found.rating == 4 and found.size == image.size
        (tmp_path / "c.nef").write_bytes(exif.tobytes().removeprefix(b"Exif\0\0"))  # raw files are TIFFs inside
    assert read_capture(tmp_path / "c.nef").local == found.local and read_capture(tmp_path / "c.nef").size is None
    (tmp_path / "d.jpg").touch()
    (tmp_path / "e.cr2").write_bytes(b"II*\0" + b"\xff" * 40)
    for name in ("d.jpg", "e.cr2", "gone.jpg"):
        assert read_capture(tmp_path / name) == Capture()


# Likeness and groups


def noise(seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.random((side // 4, side // 4))
    return np.clip(np.kron(small, np.ones((4, 4))) * 0.8 + 0.1, 0, 1).astype(np.float32)


def test_likeness_against_the_definition():
    """Correlations over every overlap, shift by shift, in plain loops."""
    big = noise(0, 80)
    a, b = normalized(big[:SIDE, :SIDE].copy()), normalized(big[5 : 5 + SIDE, 9 : 9 + SIDE].copy())
    far = SIDE // 4
    best = 0.0
    for dy in range(-far, far + 1):
        for dx in range(-far, far + 1):
            y, x = slice(max(0, dy), SIDE + min(0, dy)), slice(max(0, dx), SIDE + min(0, dx))
            v, u = slice(max(0, -dy), SIDE + min(0, -dy)), slice(max(0, -dx), SIDE + min(0, -dx))
            p, q = a[y, x], b[v, u]
            best = max(best, float((p * q).sum() / np.sqrt((p**2).sum() * (q**2).sum())))
    assert best > 0.8
    assert Aligner([a, b])._largest(0, 1, 1.0, 1.0) == pytest.approx(best, abs=1e-4)
    aligner = Aligner([a, b, normalized(noise(1, SIDE)), None])
    assert aligner.likeness(0, 1) >= best - 1e-4 and aligner.likeness(0, 1) == pytest.approx(
        aligner.likeness(1, 0), abs=1e-4
    )
    assert aligner.likeness(0, 0) == pytest.approx(1, abs=1e-4)
    assert aligner.likeness(0, 2) < 0.35 and aligner.likeness(0, 3) == 0
    assert RATIOS[0] == 1


def test_what_shows_nothing_is_like_nothing():
    assert normalized(np.full(SIDE * SIDE, 0.5, np.float32)) is None
    dark = noise(0, SIDE) * 0.01
    assert normalized(dark) is None and normalized(noise(0, SIDE) * 0.3) is not None


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 4), st.floats(0.1, 2))
def test_nearest_pairs_against_sorting(seed, n, count, farthest):
    Z = np.random.default_rng(seed).normal(size=(n, 3))
    expected = set()
    for i in range(n):
        order = sorted((float(np.sqrt(((Z[i] - Z[j]) ** 2).mean())), j) for j in range(n) if j != i)
        expected |= {(min(i, j), max(i, j)) for distance, j in order[:count] if distance <= farthest}
    assert nearest_pairs(Z, count, farthest) == sorted(expected)


def at(seconds: float, camera: str = "A") -> Capture:
    return Capture(datetime(2026, 1, 1) + timedelta(seconds=seconds), None, camera, (100, 100))


def groups(frames, features=None):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(frames), 40)) if features is None else features
    return group_frames(rows, frames, feature_mean=np.zeros(40), feature_scale=np.ones(40))


def test_time_joins_and_parts():
    scene, other = noise(0, SIDE).ravel(), noise(1, SIDE).ravel()
    # Features far apart, so that only time says that the two may be compared.
    far = np.random.default_rng(0).normal(size=(2, 40)) * [[1], [9]]

    def together(first: Capture, second: Capture, picture=scene, features=far) -> bool:
        units = groups([Frame(first, scene, None, 1), Frame(second, picture, None, 2)], features).units
        return bool(units[0] == units[1])

    shifted = np.roll(scene.reshape(SIDE, SIDE), 7, axis=1).ravel()
    assert together(at(0), at(5), shifted) and not together(at(0), at(5), other)
    assert not together(at(0), at(61), shifted) and not together(at(0), at(61), scene)
    assert not together(Capture(), Capture(), shifted)  # and no feature says so
    near = far[0] + np.array([[0], [0.6]])
    assert together(Capture(), Capture(), shifted, near) and not together(Capture(), Capture(), other, near)
    assert together(at(0, "A"), at(9999, "B"), shifted, near)  # two clocks say nothing of one another
    assert not together(at(0), at(9999), shifted, near)
    # Equal bytes are copies whatever a clock says; what has no picture is joined to nothing.
    pair = [Frame(at(0), None, "d", 1), Frame(at(9999), None, "d", 1), Frame(at(1), None, "e", 1)]
    assert groups(pair).units.tolist() == [0, 0, 1] and groups([]).units.tolist() == []
    assert in_words(groups(pair).found[0].reasons) == "copies"


def test_a_long_burst_hangs_together():
    wide = noise(3, 160)
    frames = [Frame(at(i / 5), wide[40:104, i : i + SIDE].ravel().copy(), None, 1.0) for i in range(0, 90, 6)]
    found = groups(frames)
    assert found.unit_count == 1 and in_words(found.found[0].reasons) == "burst"


def test_the_best_is_no_thumbnail():
    def frame(value, size=(100, 100), link=False):
        return Frame(Capture(size=size), None, None, value, link)

    assert best_of([0, 1, 2], [frame(0.5), frame(0.9), frame(0.7)]) == 1
    assert best_of([0, 1], [frame(0.5), frame(0.9, (50, 50))]) == 0  # a half-size copy looks sharper
    assert best_of([0, 1], [frame(0.5), frame(0.9, (80, 80))]) == 1  # a crop does not
    assert best_of([0, 1], [frame(0.5, link=True), frame(0.5)]) == 1
    assert best_of([0, 1], [frame(0.5, None), frame(0.4)]) == 0 and best_of([0, 1], [frame(0.5), frame(0.5)]) == 0


# What belongs to a picture


def test_companions(tmp_path):
    names = [
        *("IMG_1.JPG", "IMG_1.CR2", "IMG_1.xmp", "IMG_1.JPG.xmp", "img_1_01.jpg.XMP", "IMG_1.CR2.xmp", "IMG_1.MOV"),
        *(
            "IMG_10.JPG",
            "IMG_1_1.JPG",
            "IMG_1.txt",
            "IMG_1-2.xmp",
            "x.jpg",
            "x.png",
            "x.xmp",
            "x.jpg.xmp",
            "x.jpg.json",
        ),
        *("y.dng", "y.xmp", "y.dng.pp3", "z.heic", "z.mov", "z.aae", "w.v2.jpg", "w.v2.xmp", "w.v2.jpg.xmp", "w.xmp"),
    ]
    for name in names:
        (tmp_path / name).touch()
    for name in ("p.jpg", "p.jpg.xmp", "P_01.jpg", "p_01.JPG.xmp", "p_02.jpg.xmp"):
        (tmp_path / name).touch()
    (tmp_path / "q.jpg").touch()
    (tmp_path / "q.xmp").mkdir()

    def of(name: str) -> set[str]:
        return {path.name for path in companions_of(tmp_path / name)}

    assert of("IMG_1.JPG") == {
        *("IMG_1.CR2", "IMG_1.xmp", "IMG_1.JPG.xmp", "img_1_01.jpg.XMP", "IMG_1.CR2.xmp", "IMG_1.MOV")
    }
    assert of("IMG_10.JPG") == of("IMG_1_1.JPG") == of("q.jpg") == set()
    assert of("x.jpg") == {"x.jpg.xmp", "x.jpg.json"} and of("x.png") == set()  # x.xmp is either's
    assert of("y.dng") == {"y.xmp", "y.dng.pp3"} and of("z.heic") == {"z.mov", "z.aae"}
    assert of("w.v2.jpg") == {"w.v2.xmp", "w.v2.jpg.xmp"} and of("gone/a.jpg") == set()
    assert of("p.jpg") == {"p.jpg.xmp", "p_02.jpg.xmp"} and of("P_01.jpg") == {"p_01.JPG.xmp"}  # a picture of its own
    shots = shots_of(tmp_path / name for name in ("IMG_1.CR2", "IMG_1.JPG", "y.dng"))
    assert [shot.picture.name for shot in shots] == ["IMG_1.JPG", "y.dng"]
    alone = shots_of([tmp_path / "IMG_1.CR2"])  # named without its JPEG
    assert [shot.picture.name for shot in alone] == ["IMG_1.CR2"]


# Where files go


def test_names_that_windows_and_macos_take_for_one():
    assert folded("Stra\u00dfe.JPG") == folded("STRASSE.jpg") and folded("\u00e9") == folded("e\u0301") == folded(
        "\u00c9"
    )
    assert folded("a.jpg") != folded("a-2.jpg")
    assert renamed("IMG_1_01.JPG.xmp", "IMG_1", 3) == "IMG_1-3_01.JPG.xmp" and renamed("a.jpg", "a", 1) == "a.jpg"


def test_a_shot_is_numbered_as_a_whole(tmp_path):
    for name in ("one/A.jpg", "one/A.xmp", "two/a.JPG", "two/a.jpg.xmp", "two/deep/b.jpg", "out/a-2.XMP"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    shots = shots_of(tmp_path / name for name in ("one/A.jpg", "two/a.JPG", "two/deep/b.jpg"))
    roots = [tmp_path / "one", tmp_path / "two", tmp_path / "two" / "deep"]
    plans = plan(shots, tmp_path / "out", "move", roots=roots)
    names = [[str(target.relative_to(tmp_path / "out")) for target in one.targets] for one in plans]
    assert names == [["A.jpg", "A.xmp"], ["a-2.JPG", "a-2.jpg.xmp"], ["b.jpg"]]
    nested = plan(shots, tmp_path / "out", "move", roots=[tmp_path])
    assert [one.targets[0].parent.relative_to(tmp_path / "out").as_posix() for one in nested] == [
        "one",
        "two",
        "two/deep",
    ]
    assert {one.targets[0].parent for one in plan(shots, tmp_path / "out", "copy", roots=[tmp_path], flat=True)} == {
        tmp_path / "out"
    }


# Transfers


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"a" * 3_000_000)
    os.utime(tmp_path / "in" / "a", ns=(10**18, 10**18 + 5))
    return tmp_path


def no_hard_links(monkeypatch):
    """As between two file systems, and on FAT."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_nothing_is_written_over_and_nothing_lost(files, monkeypatch, action, hard_links):
    if not hard_links:
        no_hard_links(monkeypatch)
    source, target = files / "in" / "a", files / "out" / "b"
    target.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        transfers.transfer(action, source, target)
    assert contents(files) == {"in/a": b"a" * 3_000_000, "out/b": b"theirs"}
    target.unlink()
    transfers.transfer(action, source, target)
    assert target.read_bytes() == b"a" * 3_000_000 and source.exists() == (action != "move")
    assert target.stat().st_mtime_ns == 10**18 + 5
    assert sorted(p.name for p in files.rglob("*")) == sorted(
        {"in", "out", "b"} | ({"a"} if action != "move" else set())
    )


def test_a_disk_that_lies_or_a_source_that_changes_loses_nothing(files, monkeypatch):
    no_hard_links(monkeypatch)
    monkeypatch.setattr(transfers.os, "fsync", lambda handle: os.ftruncate(handle, 10))
    with pytest.raises(transfers.Changed):
        transfers.transfer("move", files / "in" / "a", files / "out" / "b")
    assert contents(files) == {"in/a": b"a" * 3_000_000}


def test_a_link_is_moved_as_a_link_and_back(files):
    link = files / "in" / "link"
    link.symlink_to("a")
    with Journal(files / "out") as journal:
        journal.do("move", link, files / "out" / "link")
    assert (files / "out" / "link").read_bytes() == b"a" * 3_000_000 and not link.is_symlink()
    assert [one.error for one in undo(journal.path)] == [None]
    assert str(link.readlink()) == "a" and not os.path.lexists(files / "out" / "link")


KILLED = """
import os, sys
from pathlib import Path
from grepq_iqa.report import journal, transfer
base, when, apart = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "apart"
calls = 0
def die_at(name, module):
    real = getattr(module, name)
    def step(*a, **k):
        global calls
        calls += 1
        if calls == when:
            os._exit(9)
        return real(*a, **k)
    setattr(module, name, step)
if apart:
    def refuse(*_): raise OSError(18, "apart")
    os.link = refuse
for name in ("link", "fsync"):
    die_at(name, os)
die_at("replace", Path)
die_at("unlink", Path)
die_at("copystat", transfer.shutil)
with journal.Journal(base / "out") as book:
    for name in ("a", "c"):
        book.do("move", base / "in" / name, base / "out" / name)
"""


@pytest.mark.parametrize("where", ["together", "apart"])
def test_a_kill_at_every_step_leaves_a_whole_file_and_undo_brings_it_back(tmp_path, where):
    """Every step of two moves in turn is the last."""
    for when in range(1, 40):
        base = tmp_path / str(when)
        (base / "in").mkdir(parents=True)
        (base / "out").mkdir()
        for name in ("a", "c"):
            (base / "in" / name).write_bytes(name.encode() * 99)
        code = KILLED.replace("import os, sys", "import os, sys", 1)
        pid = os.fork()
        if pid == 0:
            sys.argv = ["x", str(base), str(when), where]
            try:
                exec(compile(code, "killed", "exec"), {"__name__": "killed"})
            finally:
                os._exit(0)
        finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for name in ("a", "c"):
            whole = [
                p
                for p in (base / "in" / name, base / "out" / name)
                if p.exists() and p.read_bytes() == name.encode() * 99
            ]
            assert whole, (when, name)
        journals = list((base / "out").glob("*.jsonl"))
        for journal in journals:
            if journal.read_bytes().count(b"\n") == 0:
                continue
            list(undo(journal))
            list(undo(journal))
        for name in ("a", "c"):
            assert (base / "in" / name).read_bytes() == name.encode() * 99, (when, name)
        if finished:
            break
    assert finished and when > 8


def test_undo_takes_back_only_what_is_as_it_was_left(files):
    for name in "bcdef":
        (files / "in" / name).write_text(name)
    with Journal(files / "out") as journal:
        for name, action in zip("bcdef", ("copy", "copy", "move", "move", "link"), strict=True):
            journal.do(action, files / "in" / name, files / "out" / name)
    (files / "out" / "c").write_text("worked on")
    (files / "in" / "d").write_text("a new d")
    (files / "out" / "e").write_text("e, worked on")
    with journal.path.open("a") as cut:
        cut.write('{"state": "beg')  # by a kill
    results = {one.path.name: one.error for one in undo(journal.path)}
    assert results["b"] is results["e"] is results["f"] is None
    assert "changed" in results["c"] and "exists again" in results["d"]
    assert (files / "out" / "c").exists() and (files / "in" / "d").read_text() == "a new d"
    assert (files / "out" / "d").read_text() == "d" and (files / "in" / "e").read_text() == "e, worked on"
    assert {one.path.name for one in undo(journal.path)} == {"c", "d"}
    with pytest.raises(UsageError, match="no journal"):
        list(undo(files / "in" / "b"))


# The command


@pytest.fixture
def shoot(tmp_path, photos, monkeypatch) -> Path:
    """Two bursts in two folders under equal names, a raw file with sidecars, what cannot be read, and a link."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    base = tmp_path / "shoot \u00fc"
    for number, day in enumerate(("day 1", "d\u00e4y 2")):
        (base / day).mkdir(parents=True)
        with Image.open(photos[number]) as image:
            middle = image.crop((40, 40, 340, 260))
        for i in range(3):
            frame = ImageEnhance.Brightness(middle).enhance((1, 0.3, 1.8)[i])
            exif = Image.Exif()
            exif[0x0110] = "R5"
            exif.get_ifd(0x8769).update({0x9003: f"2026:05:0{number + 1} 10:00:0{i}"})
            frame.save(base / day / f"IMG_{i}.JPG", exif=exif)
        if number == 0:
            for name in ("IMG_0.CR2", "IMG_1.CR2", "IMG_2.CR2", "IMG_0.JPG.xmp", "IMG_1.JPG.xmp", "IMG_2.xmp"):
                (base / day / name).write_text(name)
    (base / "empty.jpg").touch()
    (base / "link.jpg").symlink_to("day 1/IMG_0.JPG")
    return base


def test_pick_lists_acts_and_takes_back(grepq, shoot, tmp_path, tiny_model):
    before = contents(shoot)
    status, out, error = grepq("pick", "--model", tiny_model, shoot, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and contents(shoot) == before and "2 groups (burst: 2): 4 are redundant" in error
    assert (
        len(rows) == 7 and {row["why"] for row in rows[:6]} == {"burst"} and rows[6]["pick"] == 1 and rows[6]["error"]
    )
    for day in (rows[:3], rows[3:6]):
        assert sum(row["pick"] for row in day) == 1
        assert max(day, key=lambda row: row["score"])["pick"] == 1
    kept = {row["path"] for row in rows if row["pick"]}
    status, out, _ = grepq("pick", "--model", tiny_model, shoot, "--list")
    assert set(out.splitlines()) == kept
    rest = {row["path"] for row in rows} - kept
    target = tmp_path / "rest"
    status, out, error = grepq("pick", "--model", tiny_model, shoot, "--rest", "--move-to", target, "--dry-run")
    assert status == 1 and contents(shoot) == before and not target.exists() and len(out.splitlines()) == 4 + 4
    status, _, error = grepq("pick", "--model", tiny_model, shoot, "--rest", "--move-to", target)
    moved = {path for path in contents(target) if path.endswith("JPG")}
    assert moved == {str(Path(path).relative_to(shoot)) for path in rest} and "8 files moved" in error
    assert all(f"{path.removesuffix('JPG')}CR2" in contents(target) for path in moved if path.startswith("day 1"))
    [journal] = target.glob("*.jsonl")
    status, _, error = grepq("pick", "--undo", journal)
    assert status == 0 and "8 files taken back" in error and contents(shoot) == before and contents(target) == {}
    assert not [path for path in target.iterdir() if path.is_dir()]


def test_copies_and_links_twice_and_into_a_folder_of_the_shoot(grepq, shoot, tmp_path, tiny_model):
    before = contents(shoot)
    (shoot / "empty.jpg").unlink()
    before.pop("empty.jpg")
    best = shoot / "best"
    assert grepq("pick", "--model", tiny_model, shoot, "--copy-to", best, "--flat")[0] == 0
    copied = contents(best)
    assert len(copied) == 2 + 2 and {**contents(shoot), **before} == contents(shoot)
    # Equal names of two folders did not meet; a second run finds its own work and does nothing.
    status, _, error = grepq("pick", "--model", tiny_model, shoot, "--copy-to", best, "--flat")
    assert status == 0 and "2 shots were there already" in error and contents(best) == copied
    links = tmp_path / "links"
    assert grepq("pick", "--model", tiny_model, shoot / "day 1", "--link-to", links)[0] == 0
    [link] = links.glob("*.JPG")
    assert link.readlink().is_absolute() and link.resolve().parent == (shoot / "day 1").resolve()


def test_pick_by_a_fitted_model_and_as_a_table(grepq, shoot, compact, tmp_path, photos):
    (shoot / "empty.jpg").unlink()
    from grepq_iqa import GRepQ

    model = GRepQ.from_pretrained(device="cpu", dtype="float32")
    paths = sorted(shoot.rglob("IMG*.JPG"))
    model.fit(paths, [1.0, 5.0, 1.5, 1.2, 4.5, 1.1])  # somebody likes them dark
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "picks.csv"
    status, _, error = grepq("pick", shoot, "--model", tmp_path / "model", "-o", output)
    assert status == 0, error
    import csv

    rows = list(csv.DictReader(output.open(newline="")))
    for day in (rows[:3], rows[3:]):
        assert max(day, key=lambda row: float(row["mos"]))["pick"] == "1"
    output.write_text("path,mos\na,3\n")
    assert "holds ratings" in grepq("pick", shoot, "-o", output)[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name images"),
        (["{s}", "--copy-to", "a", "--move-to", "b"], "exclude"),
        (["{s}", "--list", "--format", "csv"], "exclude"),
        (["--undo", "x", "--dry-run"], "stands alone"),
        (["{s}", "--undo", "x"], "stands alone"),
        (["--undo", "nowhere"], "cannot read"),
        (["{s}", "--move-to", "{s}/empty.jpg"], "is a file"),
        (["{s}", "--move-to", "{s}/empty.jpg/x"], "not a folder"),
        (["{s}/nothing*"], ""),
    ],
)
def test_wrong_usage_touches_nothing(grepq, shoot, arguments, words):
    before = contents(shoot)
    status, _, error = grepq("pick", *(str(one).format(s=shoot) for one in arguments))
    assert status in (1, 2) and words in error and "Traceback" not in error and contents(shoot) == before


def test_a_folder_that_takes_nothing_costs_no_file(grepq, shoot, tmp_path, tiny_model):
    """The third file meets a full or read-only disk."""
    before = contents(shoot)
    target = tmp_path / "out"
    (target / "day 1").mkdir(parents=True)
    (target / "d\u00e4y 2").write_text("a file where a folder is wanted")
    status, _, error = grepq("pick", "--model", tiny_model, shoot, "--rest", "--move-to", target)
    assert status == 1 and "was not moved" in error and "Traceback" not in error
    everything = {**contents(shoot), **{k: v for k, v in contents(target).items() if k != "d\u00e4y 2"}}
    assert everything == before
