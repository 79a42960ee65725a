"""Names of files as people, shells and other programs give them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.errors import UsageError
from grepq_iqa.files import same_file_key


def names(paths, **options) -> list[str]:
    return [path.name for path in iter_image_paths(paths, **options)]


@pytest.fixture
def folder(tmp_path) -> Path:
    layers = ("layers.xcf", "layers.XCF")
    for name in ("b.jpg", "a.PNG", ".hidden.jpg", "notes.txt", *layers, "sub/c.jpg", "sub/deep/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_is_searched_in_a_stable_order_and_what_is_left_out_is_counted(folder):
    skipped: Counter[str] = Counter()
    assert names([folder], skipped=skipped) == ["a.PNG", "b.jpg", "c.jpg", "d.jpg"]
    assert skipped == {".txt": 1, ".xcf": 2}


@pytest.mark.parametrize("bin", ["@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash-1000", "__MACOSX"])
def test_folders_that_systems_leave_are_not_searched(folder, bin):
    (folder / bin).mkdir()
    (folder / bin / "copy.jpg").touch()
    assert "copy.jpg" not in names([folder])
    assert names([folder / bin]) == ["copy.jpg"]  # unless one is named


def test_links_to_folders_are_followed_only_when_named(folder):
    (folder / "link").symlink_to(folder / "sub")
    assert names([folder]) == ["a.PNG", "b.jpg", "c.jpg", "d.jpg"]
    assert names([folder / "link"]) == ["c.jpg", "d.jpg"]
    (folder / "dangling.jpg").symlink_to(folder / "nowhere")
    assert "dangling.jpg" in names([folder])  # gets a row that says so


def test_loops_of_links_end(folder):
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    assert names([str(folder / "**" / "*.jpg")]) == ["b.jpg", "c.jpg", "d.jpg"]
    assert names([folder]) == ["a.PNG", "b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_in_a_folder_is_no_picture(folder):
    os.mkfifo(folder / "1.jpg")
    assert "1.jpg" not in names([folder])


def test_patterns(folder):
    (folder / "x[1].jpg").touch()
    assert names([str(folder / "*.jpg")]) == ["b.jpg", "x[1].jpg"]
    assert names([str(folder / "x[1].jpg")]) == ["x[1].jpg"]  # the file itself comes first
    everything = ["a.PNG", "b.jpg", "layers.XCF", "layers.xcf", "notes.txt", "c.jpg", "d.jpg", "x[1].jpg"]
    assert names([str(folder / "*")]) == everything
    assert names([str(folder / "z*.jpg")]) == ["z*.jpg"]


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0b.jpg", "~nobody.jpg", "~", "", "con:*?.jpg", "\udc80.jpg"])
def test_names_that_cannot_be_are_passed_on(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name in ("", "."):  # the working folder
        assert names([name]) == []
    else:
        assert [str(path) for path in iter_image_paths([name])] == [str(Path(name))]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_searched(folder):
    (folder / "sub").chmod(0)
    try:
        assert [str(p) for p in iter_image_paths([folder / "sub" / "c.jpg"])] == [str(folder / "sub" / "c.jpg")]
        assert "sub" in names([folder])
    finally:
        (folder / "sub").chmod(0o755)


class TestLists:
    @pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
    @pytest.mark.parametrize("end", ["", "sep"])
    def test_one_path_after_the_other(self, separator, end):
        listed = separator.join(["a.jpg", "b c.jpg", "ü.jpg"]) + (separator if end else "")
        assert names(["-"], stdin=io.BytesIO(listed.encode())) == ["a.jpg", "b c.jpg", "ü.jpg"]

    def test_line_breaks_in_names_survive_zeros(self):
        assert names(["-"], stdin=io.BytesIO(b"a\nb.jpg\0c.jpg\0")) == ["a\nb.jpg", "c.jpg"]

    def test_names_that_are_no_text(self):
        [path] = iter_image_paths(["-"], io.BytesIO(b"\xff\xfe.jpg\n"))
        assert os.fsencode(path) == b"\xff\xfe.jpg"

    def test_each_comes_as_soon_as_it_is_whole(self):
        read, write = os.pipe()
        with open(read, "rb") as stream:  # noqa: PTH123 - a descriptor
            os.write(write, b"a.jpg\nb.j")
            paths = iter_image_paths(["-"], stream)
            assert next(paths) == Path("a.jpg")
            os.write(write, b"pg\n")
            assert next(paths) == Path("b.jpg")
            os.close(write)
            assert list(paths) == []

    def test_a_dash_in_a_list_is_not_a_list(self):
        assert names(["-"], stdin=io.StringIO("-\na.jpg\n")) == ["a.jpg"]

    def test_an_image_on_stdin_is_said(self, photos):
        for data in (photos[0].read_bytes(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"x" * 100_000):
            with pytest.raises(UsageError, match="stdin holds something else"):
                list(iter_image_paths(["-"], io.BytesIO(data)))

    def test_find_print0(self, folder):
        code = (
            "import sys; from grepq_iqa.data.image_paths import iter_image_paths\n"
            "sys.stdout.write(str(sorted(path.name for path in iter_image_paths(['-']))))"
        )
        listed = subprocess.run(["find", str(folder), "-name", "*.jpg", "-print0"], capture_output=True, check=True)
        done = subprocess.run([sys.executable, "-c", code], input=listed.stdout, capture_output=True, check=True)
        assert done.stdout.decode() == "['.hidden.jpg', 'b.jpg', 'c.jpg', 'd.jpg']"

    @given(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50), max_size=9
        )
    )
    @example(["."])
    def test_any_names(self, given):
        listed = [name for name in given if name != "-" and not set(name) & set("*?[") and "/" not in name]
        found = iter_image_paths(["-"], io.BytesIO("".join(f"{name}\0" for name in listed).encode()))
        # A folder, "." for one, stands for what is in it.
        wanted = [iter_image_paths([name]) if Path(name).is_dir() else [Path(name)] for name in listed]
        assert [str(path) for path in found] == [str(path) for paths in wanted for path in paths]


def test_one_file_has_one_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same_file_key("a/../b.jpg") == same_file_key(tmp_path / "b.jpg") == same_file_key("./b.jpg")
    assert same_file_key("b.jpg") != same_file_key("a/b.jpg")
