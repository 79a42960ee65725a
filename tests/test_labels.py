"""Tables as people have them: every encoding, delimiter and mistake in one go."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grepq_iqa.data.labels import IMAGE_ALIASES, MOS_ALIASES, read_labels
from grepq_iqa.errors import LabelsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c d.jpg", "é, ü.jpg"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8", name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_plain_table(folder):
    labels = read_labels(write(folder, "image,mos\na.jpg,3.5\nb.jpg,4\n"))
    assert labels.paths == (folder / "a.jpg", folder / "b.jpg")
    assert labels.mos.tolist() == [3.5, 4] and labels.mos.dtype == np.float64
    assert labels.lines == (2, 3)
    assert (labels.image_column, labels.mos_column, labels.lower_is_better) == ("image", "mos", False)
    assert len(labels) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "text",
    [
        'path,MOS\n"é, ü.jpg",3.5\na.jpg,-1e1\n',
        "path;MOS\né, ü.jpg;3,5\na.jpg;-10\n",
        "path\tMOS\né, ü.jpg\t3,5\na.jpg\t-10,0\n",
        "path|MOS|note\né, ü.jpg|3.5|x\na.jpg|-10|\n",
        "sep=;\npath;MOS\né, ü.jpg;3,5\na.jpg;-10\n",
        '\n"path" ; "MOS"\n\n"é, ü.jpg";" 3,5 "\n a.jpg ; -10 \n\n',
    ],
)
def test_encodings_delimiters_and_decimal_signs(folder, text, newline, encoding):
    labels = read_labels(write(folder, text.replace("\n", newline), encoding))
    assert labels.paths == (folder / "é, ü.jpg", folder / "a.jpg")
    assert labels.mos.tolist() == [3.5, -10]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_names_that_are_no_utf_8_beside_some_that_are(folder):
    odd = os.fsencode(folder) + b"/caf\xe9.jpg"
    Path(os.fsdecode(odd)).write_bytes(b"")
    table = folder / "labels.csv"
    table.write_bytes(b"path,mos\ncaf\xe9.jpg,3\n" + '"é, ü.jpg",4\na.jpg,5\n'.encode())
    labels = read_labels(table)
    assert [os.fsencode(path) for path in labels.paths] == [
        odd, os.fsencode(folder / "é, ü.jpg"), os.fsencode(folder / "a.jpg"),
    ]  # fmt: skip
    assert labels.mos.tolist() == [3, 4, 5]


def test_ratings_of_another_photograph_of_the_same_name_are_left_out(folder):
    contents = {"a.jpg": b"first", "b.jpg": b"second", "c d.jpg": b"third"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    own = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    rows = [
        ("a.jpg", 1, own["a.jpg"]),
        ("a.jpg", 5, "f" * 64),  # of another card
        ("b.jpg", 2, "e" * 64),  # edited since, and rated again
        ("b.jpg", 4, own["b.jpg"].upper()),
        ("b.jpg", 3, own["b.jpg"]),
        ("c d.jpg", 1, "a" * 64),  # edited twice: the last one counts, for nothing else is known
        ("c d.jpg", 5, "b" * 64),
    ]
    text = "path,mos,sha256\n" + "".join(f"{name},{mos},{digest}\n" for name, mos, digest in rows)
    labels = read_labels(write(folder, text))
    assert labels.mos.tolist() == [1, 3.5, 5] and labels.lines == (2, 5, 8)
    [note] = [note for note in labels.notes if "other photographs" in note]
    assert note.startswith("3 ratings are") and "'a.jpg', 'b.jpg', 'c d.jpg'" in note
    # One content alone is used as it is, whatever was written into the file since.
    labels = read_labels(write(folder, f"path,mos,sha256\na.jpg,2,{'f' * 64}\nb.jpg,3,\n"))
    assert labels.mos.tolist() == [2, 3] and not labels.notes


@pytest.mark.parametrize("alias", IMAGE_ALIASES)
def test_image_aliases(folder, alias):
    assert read_labels(write(folder, f"{alias.upper()},mos\na.jpg,1\n")).image_column == alias.upper()


@pytest.mark.parametrize("alias", MOS_ALIASES)
def test_mos_aliases(folder, alias):
    assert read_labels(write(folder, f"path,{alias}\na.jpg,1\n")).mos_column == alias


def test_known_names_have_an_order_and_options_win(folder):
    table = write(folder, "id,score,File Name,Mean_Opinion_Score,my votes\n7,1,a.jpg,2,3\n")
    assert read_labels(table).mos.tolist() == [2]
    assert read_labels(table, mos_column="score").mos.tolist() == [1]
    assert read_labels(table, mos_column="My Votes").mos.tolist() == [3]
    assert read_labels(table, image_column="file name").paths == (folder / "a.jpg",)
    with pytest.raises(LabelsError, match=r"no column 'nothing'; its columns are 'id', 'score'"):
        read_labels(table, mos_column="nothing")


@pytest.mark.parametrize(("header", "option"), [("x,mos", "--image-column"), ("path,x", "--mos-column")])
def test_unknown_columns_name_the_option(folder, header, option):
    with pytest.raises(LabelsError, match=option):
        read_labels(write(folder, f"{header}\na.jpg,1\n"))


def test_every_bad_row_is_told_with_its_line(folder):
    text = "path,mos\na.jpg,1\ngone.jpg,2\n\nb.jpg,good\n,3\nc d.jpg\nc d.jpg,\na.jpg,5\nb.jpg,nan\nnowhere.jpg,inf\n"
    with pytest.raises(LabelsError) as caught:
        read_labels(write(folder, text), repeats="error")
    error = caught.value
    assert [problem.split(":")[0] for problem in error.problems] == [f"line {n}" for n in (3, 5, 6, 7, 8, 9, 10, 11)]
    for problem, words in zip(
        error.problems,
        (
            "gone.jpg is not a file",
            "'good' is not a number",
            "no image",
            "1 columns where 2",
            "no score",
            "on line 2 already",
            "on line 5 already",
            "nowhere.jpg is not a file",
        ),
        strict=True,
    ):
        assert words in problem
    assert "'nan' is not finite" in error.problems[6] and "'inf' is not finite" in error.problems[7]
    assert "8 of 9 rows" in str(error)
    assert all(problem in str(error) for problem in error.problems)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_bad_rows_can_be_left_out(folder):
    labels = read_labels(write(folder, "path,mos\na.jpg,1\ngone.jpg,2\nb.jpg,\n"), skip_bad_rows=True)
    assert labels.paths == (folder / "a.jpg",)
    assert [problem[:6] for problem in labels.skipped] == ["line 3", "line 4"]
    with pytest.raises(LabelsError, match="no row that can be used"):
        read_labels(write(folder, "path,mos\ngone.jpg,2\n"), skip_bad_rows=True)


def test_lines_are_counted_through_quoted_line_breaks(folder):
    text = 'path,note,mos\na.jpg,"two\nlines",1\nb.jpg,x,bad\n'
    with pytest.raises(LabelsError) as caught:
        read_labels(write(folder, text))
    assert caught.value.problems[0].startswith("line 4:")


def test_where_paths_start_from(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    absolute = folder / "b.jpg"
    assert read_labels(write(elsewhere, f"path,mos\n{absolute},1\n")).paths == (absolute,)
    table = write(elsewhere, "path,mos\na.jpg,1\n")
    assert read_labels(table, images=folder).paths == (folder / "a.jpg",)
    with pytest.raises(LabelsError):
        read_labels(table)


def test_paths_from_other_systems(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "e\u0301.jpg").write_bytes(b"")
    assert read_labels(write(folder, "path,mos\nsub\\\u00e9.jpg,1\n")).paths[0].is_file()


@pytest.mark.parametrize("number", ["1,234", "1,234,567", "1.234,5", "1_0", "0x10", "6/5", "4/5/2026", "--3"])
def test_numbers_that_may_mean_something_else_are_refused(folder, number):
    with pytest.raises(LabelsError, match="not a number"):
        read_labels(write(folder, f'path,mos\na.jpg,"{number}"\n'))


def test_direction_is_noted(folder):
    table = write(folder, "path,dmos\na.jpg,30\n")
    labels = read_labels(table, lower_is_better=True)
    assert labels.lower_is_better and labels.mos.tolist() == [30]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"path,mos\n", "no row"),
        (b"\xff\xfe\x00", "not a text file"),
        (b'path,mos\n"' + b"x" * 200_000, "not CSV"),
    ],
)
def test_files_that_hold_no_table(folder, content, words):
    path = folder / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=words):
        read_labels(path)


def test_a_missing_table(folder):
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labels(folder / "none.csv")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_labels_or_a_labels_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    for prefix in (b"", b"path,mos\n", b"path;mos\n"):
        path.write_bytes(prefix + content)
        with pytest.raises(LabelsError):
            read_labels(path)


class TestManyBadRows:
    def test_sixty_lines_with_one_fault_are_summed_up(self, tmp_path: Path):
        (tmp_path / "labels.csv").write_text("path,mos\n" + "".join(f"gone/{i}.jpg,{i}\n" for i in range(60)))
        with pytest.raises(LabelsError) as caught:
            read_labels(tmp_path / "labels.csv")
        lines = str(caught.value).splitlines()
        assert len(lines) == 7 and "60 of 60 rows" in lines[0] and "try --images FOLDER" in lines[0]
        assert "55 more" in lines[-1] and len(caught.value.problems) == 60

    @pytest.mark.parametrize("encoding", ["gbk", "shift_jis"])
    def test_other_encodings_are_hinted_at_and_read_when_named(self, tmp_path: Path, encoding: str):
        names = [f"写真{i}.jpg" for i in range(3)]
        for name in names:
            (tmp_path / name).touch()
        rows = "".join(f"{name},{i}\n" for i, name in enumerate(names))
        (tmp_path / "labels.csv").write_bytes(f"path,mos\n{rows}".encode(encoding))
        with pytest.raises(LabelsError, match="--encoding gbk or shift_jis"):
            read_labels(tmp_path / "labels.csv")
        assert [path.name for path in read_labels(tmp_path / "labels.csv", encoding=encoding).paths] == names
        with pytest.raises(LabelsError, match="no encoding that Python knows"):
            read_labels(tmp_path / "labels.csv", encoding="gkb")

    @pytest.mark.parametrize("mark", ["\u200b", "\u200e", "\u202a", "\ufeff"])
    def test_marks_that_nobody_sees_do_not_hide_a_file(self, tmp_path: Path, mark: str):
        (tmp_path / "a.jpg").touch()
        (tmp_path / "labels.csv").write_text(f"path,mos\n{mark}a.jpg{mark},3\n", encoding="utf-8")
        assert read_labels(tmp_path / "labels.csv").paths == (tmp_path / "a.jpg",)

    def test_a_tilde_is_a_letter(self, tmp_path: Path):
        (tmp_path / "~photo.jpg").touch()
        (tmp_path / "labels.csv").write_text("path,mos\n~photo.jpg,3\n~nobody/x.jpg,4\n")
        with pytest.raises(LabelsError) as caught:
            read_labels(tmp_path / "labels.csv")
        assert len(caught.value.problems) == 1 and "~nobody/x.jpg is not a file" in caught.value.problems[0]


def test_a_table_that_is_rated_in_part_is_used_so_far(folder):
    labels = read_labels(write(folder, "path,mos\na.jpg,1\nb.jpg,\n"))
    assert labels.paths == (folder / "a.jpg",) and labels.skipped == ()
    assert labels.notes == ("without a score, not rated yet: 1 of 2 rows",)
    with pytest.raises(LabelsError, match=r"1 of 2 rows cannot be used.*--skip-bad-rows") as caught:
        read_labels(write(folder, "path,mos\na.jpg,1\nb.jpg,good\n"))
    assert len(caught.value.problems) == 1
    with pytest.raises(LabelsError, match="2 of 2 rows"):  # nothing is rated: another mistake
        read_labels(write(folder, "path,mos\na.jpg,\nb.jpg,\n"))
