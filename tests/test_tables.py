"""The one reader of tables: which character divides the columns, which encoding the text is in, what is a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from grepq_iqa.data.tables import Table, parse_number, plain_name, read_table
from grepq_iqa.errors import LabelsError


def table_of(folder: Path, text: str, written_in: str = "utf-8", encoding: str | None = None) -> Table:
    path = folder / "table.csv"
    path.write_bytes(text.encode(written_in))
    return read_table(path, encoding=encoding)


def content(table: Table) -> list[list[str]]:
    return [list(table.header), *([table.text(cells, i) for i in range(len(cells))] for _, cells in table.rows)]


class TestDelimiter:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            # The header's words hold as many commas as there are decimal ones in every row.
            (
                "image;score (0,100)\na.jpg;58,2\nb.jpg;3,5\n",
                [["image", "score (0,100)"], ["a.jpg", "58,2"], ["b.jpg", "3,5"]],
            ),
            ("image;score (0,100)\na.jpg;58,2\n", [["image", "score (0,100)"], ["a.jpg", "58,2"]]),
            (
                "image;score (0,100)\na.jpg;58\nb.jpg;3,5\n",
                [["image", "score (0,100)"], ["a.jpg", "58"], ["b.jpg", "3,5"]],
            ),
            (
                "image\tmos (1,5)\tstd (0,2)\na.jpg\t3,5\t0,5\n",
                [["image", "mos (1,5)", "std (0,2)"], ["a.jpg", "3,5", "0,5"]],
            ),
            ("image|mos (1,5)\na.jpg|3,5\n", [["image", "mos (1,5)"], ["a.jpg", "3,5"]]),
            # More commas than columns in the header, but not in the rows.
            ("image;mos (1,2,3,4,5)\na.jpg;3,5\n", [["image", "mos (1,2,3,4,5)"], ["a.jpg", "3,5"]]),
            # And the other way round.
            ("image,mos (1;5)\na.jpg,3.5\n", [["image", "mos (1;5)"], ["a.jpg", "3.5"]]),
            (
                "image,tags,mos\na.jpg,x;y;z,1\nb.jpg,x,2\n",
                [["image", "tags", "mos"], ["a.jpg", "x;y;z", "1"], ["b.jpg", "x", "2"]],
            ),
            # Quotes hide delimiters, and a bar or tab inside a cell is text.
            ('"a;b;c",mos\nx.jpg,"1;2;3"\n', [["a;b;c", "mos"], ["x.jpg", "1;2;3"]]),
            ("image,mos\n", [["image", "mos"]]),
            # One column: a comma in a file's name divides nothing.
            ("path\na, b.jpg\nc.jpg\n", [["path"], ["a, b.jpg"], ["c.jpg"]]),
            # Excel's line decides against everything else.
            ("sep=,\nimage;x,mos\na;b,1\n", [["image;x", "mos"], ["a;b", "1"]]),
            ("SEP=; \nimage;mos,x\na;1,5\n", [["image", "mos,x"], ["a", "1,5"]]),
            ("sep=\t\nimage\tmos;x;y\na\t1;2;3\n", [["image", "mos;x;y"], ["a", "1;2;3"]]),
        ],
    )  # fmt: skip
    def test_divides_header_and_rows_alike(self, tmp_path: Path, text: str, wanted: list[list[str]]):
        for newline in ("\n", "\r\n", "\r"):
            assert content(table_of(tmp_path, text.replace("\n", newline))) == wanted

    def test_the_number_with_a_decimal_comma_is_read(self, tmp_path: Path):
        table = table_of(tmp_path, "image;score (0,100)\na.jpg;58,2\n")
        assert table.decimal_comma
        assert table.number(table.rows[0][1], table.column("Score 0 100")) == 58.2

    def test_decimal_commas_under_a_comma_header_are_surplus_cells(self, tmp_path: Path):
        table = table_of(tmp_path, "image,score\na.jpg,58,2\nb.jpg,58\nc.jpg,60, \n")
        assert not table.decimal_comma
        assert [table.surplus(cells) for _, cells in table.rows] == [True, False, False]
        assert content(table)[1] == ["a.jpg", "58", "2"]

    def test_unnamed_columns_at_the_end_may_be_empty(self, tmp_path: Path):
        table = table_of(tmp_path, "image,mos,,\na.jpg,1,,\nb.jpg,2,,,,\nc.jpg,3,,,x\n")
        assert [table.surplus(cells) for _, cells in table.rows] == [False, False, True]


class TestEncoding:
    TEXT = "图像,mos\n照片.jpg,3.5\n"

    def test_one_that_is_named(self, tmp_path: Path):
        table = table_of(tmp_path, self.TEXT, "gbk", encoding="gbk")
        assert content(table) == [["图像", "mos"], ["照片.jpg", "3.5"]]
        assert table.guessed_encoding is None

    def test_without_a_name_it_is_guessed_and_said_so(self, tmp_path: Path):
        table = table_of(tmp_path, self.TEXT, "gbk")
        assert table.guessed_encoding in {"cp1252", "latin-1"} and table.header[1] == "mos"
        assert content(table)[1][0] != "照片.jpg"

    @pytest.mark.parametrize(
        ("encoding", "guessed"),
        [
            ("utf-8", None),
            ("utf-8-sig", None),
            ("utf-16", None),
            ("utf-16-le", None),
            ("utf-16-be", None),
            ("cp1252", "cp1252"),
        ],
    )
    def test_those_of_spreadsheets_are_found_out(self, tmp_path: Path, encoding: str, guessed: str | None):
        table = table_of(tmp_path, "image,mos\né ü.jpg,3.5\n", encoding)
        assert content(table) == [["image", "mos"], ["é ü.jpg", "3.5"]]
        assert table.guessed_encoding == guessed

    def test_bytes_that_windows_does_not_know_are_latin_1(self, tmp_path: Path):
        path = tmp_path / "table.csv"
        path.write_bytes(b"image,mos\n\xe9\x81.jpg,1\n")
        assert read_table(path).guessed_encoding == "latin-1"

    def test_a_wrong_name_is_refused_in_words(self, tmp_path: Path):
        with pytest.raises(LabelsError, match="not text in shift_jis; try another --encoding"):
            table_of(tmp_path, "image,mos\né.jpg,1\n", "cp1252", encoding="shift_jis")
        with pytest.raises(LabelsError, match="'klingon' is no encoding"):
            table_of(tmp_path, self.TEXT, encoding="klingon")


class TestTable:
    def test_columns_are_found_without_case_and_punctuation_and_earlier_names_win(self, tmp_path: Path):
        table = table_of(tmp_path, "File_Name, MOS ,mos,note\na,1,2,x\n")
        assert table.column("filename") == 0 and table.column("x", "NOTE") == 3
        assert table.column("MOS") == 1 and table.column("mos") == 2  # as written, where there are both
        assert table.column("Mos") == 1 and table.optional_column("Mos", taken=1) == 2
        assert table.column("note", "File Name") == 3
        assert table.optional_column("nothing") is None
        with pytest.raises(
            LabelsError, match="no column 'a' or 'b'; its columns are 'File_Name', 'MOS', 'mos', 'note'"
        ):
            table.column("a", "b")

    def test_rows_know_their_line(self, tmp_path: Path):
        table = table_of(tmp_path, '\nimage,note,mos\n\na,"two\nlines",1\n , , \nb,,2\n')
        assert [number for number, _ in table.rows] == [4, 7]
        assert [where for where, _ in table.filled(table.column("note"))] == ["line 4"]
        assert [where for where, _ in table.filled(0, 2)] == ["line 4", "line 7"]

    def test_a_number_that_is_none_says_where(self, tmp_path: Path):
        table = table_of(tmp_path, "image,mos\na,good\nb\n")
        for _, cells in table.rows:
            assert table.number(cells, 1) is None
        with pytest.raises(LabelsError) as caught:
            table.required_number(table.rows[0][1], 1, "line 2")
        assert caught.value.problems == ("line 2: 'good' is not a number",)

    def test_cells_of_a_workbook(self):
        table = Table(Path("x.xlsx"), ("image", "mos"), ((2, (1600.0, 0.5)), (3, (None, True))), unit="sheet A, row")
        assert table.text((1600.0, 0.5), 0) == "1600" and table.text((1600.5,), 0) == "1600.5"
        assert table.number((1600.0, 0.5), 1) == 0.5 and table.number((None, True), 1) is None
        assert [where for where, _ in table.filled(0)] == ["sheet A, row 2"]


@pytest.mark.parametrize(
    ("text", "comma", "wanted"),
    [
        ("3.5", False, 3.5),
        (" -1e1 ", False, -10),
        ("+.5", False, 0.5),
        ("\u22122", False, -2),
        ("3,5", True, 3.5),
        ("3,5", False, 3.5),  # between quotes
        ("1,234", True, 1.234),
        ("1,234", False, None),
        ("1.234,5", True, None),
        ("1_0", True, None),
        ("", True, None),
        ("3 4", True, None),
        ("٣", True, 3),
    ],
)
def test_numbers(text: str, comma: bool, wanted: float | None):
    assert parse_number(text, decimal_comma=comma) == wanted


def test_names_are_compared_plainly():
    assert plain_name(" Image_Name (PNG) ") == "imagenamepng"
