"""The table that the page keeps, while somebody has it open in a spreadsheet, too."""

from __future__ import annotations

import pytest

from grepq_iqa.data.labels import read_labels
from grepq_iqa.errors import UsageError
from grepq_iqa.server.rating_table import RatingTable

A, B = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path):
    table = RatingTable(tmp_path / "labels.csv")
    table.set("a.jpg", A, 4)
    table.set("b.jpg", B, 2)
    return table.path


def test_ratings_are_found_by_content_and_kept(path):
    table = RatingTable(path)
    assert table.path == path and len(table) == 2
    assert table.find("other name.jpg", A) == 4 and table.find("b.jpg", None) == 2
    table.set("a.jpg", A, None)
    assert RatingTable(path).find("a.jpg", A) is None


@pytest.mark.parametrize("again", [False, True])
def test_a_spreadsheet_that_saves_semicolons_and_a_column_more(path, again):
    """While the page runs, and before it is begun again."""
    table = RatingTable(path)
    path.write_text(f"path;mos;sha256;note\na.jpg;4,5;{A};nice\nb.jpg;2;{B};\n", encoding="utf-8-sig")
    table = RatingTable(path) if again else table
    assert table.path == path
    table.set("c.jpg", "c" * 64, 5)
    assert table.find("a.jpg", A) == 4.5 and table.find("b.jpg", B) == 2 and table.find("c.jpg", "c" * 64) == 5
    assert path.read_text().splitlines()[:2] == ["path,mos,sha256,note", f'a.jpg,"4,5",{A},nice']
    for name in "abc":
        (path.parent / f"{name}.jpg").touch()
    assert read_labels(path).mos.tolist() == [4.5, 2, 5]


def test_what_is_no_table_any_more_is_left_as_it_is(path):
    table = RatingTable(path)
    changed = path.read_text().encode("utf-16")
    path.write_bytes(changed)
    with pytest.raises(UsageError, match="nothing is written to it"):
        table.set("c.jpg", "c" * 64, 5)
    assert path.read_bytes() == changed
    assert RatingTable(path).path.name == "labels-2.csv"


def test_what_is_no_number_is_no_rating(path):
    path.write_text(f"path,mos,sha256\na.jpg,nan,{A}\nb.jpg,inf,{B}\n")
    table = RatingTable(path)
    assert table.find("a.jpg", A) is None and table.find("b.jpg", B) is None and len(table) == 0
