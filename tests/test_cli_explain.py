"""``grepq explain`` as a person and as a program meet it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from PIL import Image

from grepq_iqa.cli.destinations import RESULT_FIELDS


@pytest.fixture
def explain(grepq, tiny_model):
    return lambda *arguments: grepq("explain", *arguments, "--model", tiny_model, "--device", "cpu")


def test_rows(explain, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:3000])
    status, out, err = explain(*photos[:2], tmp_path / "broken.jpg")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 1 and "1 of 3" in err and tuple(rows[0]) == RESULT_FIELDS["explain"]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert rows[0]["sentence"].endswith(".") and 0 <= float(rows[0]["noise"]) <= 51
    assert not rows[2]["sentence"]


def test_json_holds_reasons_whole_and_resumes(explain, photos, tmp_path):
    compressed = next(path for path in photos if "compressed" in path.stem)
    output = tmp_path / "why.jsonl"
    assert explain(compressed, "--output", output)[0] == 0
    row = json.loads(output.read_text())
    assert set(row["reasons"][0]) == {"name", "amount", "percentile", "sentence"}
    assert row["reasons"][0]["name"] == "compression"
    assert explain(compressed, photos[0], "--output", output, "--resume")[0] == 0
    assert len(output.read_text().splitlines()) == len({str(compressed), str(photos[0])})


def test_a_table_shows_the_sentence(explain, photos):
    compressed = next(path for path in photos if "compressed" in path.stem)
    status, out, _ = explain(compressed, "--format", "table")
    assert status == 0 and "Mostly compression" in out and "sharpness" not in out.splitlines()[0]


def test_a_map_for_one_photograph(explain, photos, tmp_path):
    for name in ("where.png", "where.JPG", "where.webp"):
        target = tmp_path / name
        assert explain(photos[0], "--map", target)[0] == 0
        with Image.open(target) as drawn:
            assert drawn.width == Image.open(photos[0]).width
        assert explain(photos[0], "--map", target)[0] == 0  # ours may be written anew


def test_maps_of_several_go_into_a_folder(explain, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / photos[0].name).write_bytes(photos[0].read_bytes())
    maps = tmp_path / "maps"
    assert explain(photos[0], other, "--map", maps)[0] == 0
    assert sorted(path.name for path in maps.iterdir()) == [f"{photos[0].name}.2.map.png", f"{photos[0].name}.map.png"]


@pytest.mark.parametrize(
    ("target", "several", "words"),
    [
        ("photo", False, "one of the inputs"),
        ("mine.png", False, "was not written by this command"),
        ("new.png", True, "name a folder"),
        ("map.csv", False, "maps are written as"),
        ("notes.txt", False, "name a .png"),
    ],
)
def test_maps_replace_nothing_of_value(explain, photos, tmp_path, target, several, words):
    photo, mine, notes = tmp_path / "photo.jpg", tmp_path / "mine.png", tmp_path / "notes.txt"
    photo.write_bytes(photos[0].read_bytes())
    Image.new("RGB", (20, 20)).save(mine)
    notes.write_text("kept")
    before = [path.read_bytes() for path in (photo, mine, notes)]
    where = photo if target == "photo" else tmp_path / target
    status, out, err = explain(photo, *([photos[1]] if several else []), "--map", where)
    assert status == 2 and words in err and out == "" and "Traceback" not in err
    assert [path.read_bytes() for path in (photo, mine, notes)] == before


def test_rows_never_take_an_images_name(explain, photos, tmp_path):
    status, _, err = explain(photos[0], "--output", tmp_path / "rows.png")
    assert status == 2 and "name of an image" in err


def test_tables_are_gone_on_with_and_shown_whole(explain, photos, tmp_path):
    """Reasons are words, in CSV joined."""
    compressed = next(path for path in photos if "compressed" in path.stem)
    other = next(path for path in photos if path != compressed)
    for name in ("why.csv", "why.tsv", "why.json"):
        output = tmp_path / name
        assert explain(compressed, "-o", output)[0] == 0
        before = output.read_text()
        status, _, error = explain(compressed, other, "-o", output, "--resume")
        assert status == 0, error
        assert output.read_text().startswith(before.removesuffix("\n]\n").rstrip("\n"))
    assert explain(compressed, other, "--top", 1, "--format", "table")[1].count("sharpness") <= 1
    assert "noise" not in explain(compressed, other, "--top", 1, "--format", "table")[1].splitlines()[0]


def test_reasons_as_parquet(explain, photos, tmp_path):
    import pyarrow.parquet as pq

    compressed = next(path for path in photos if "compressed" in path.stem)
    output = tmp_path / "why.parquet"
    assert explain(compressed, "-o", output)[0] == 0
    [row] = pq.read_table(output).to_pylist()
    assert row["reasons"][0] == "compression" and row["sentence"].startswith("Mostly compression")
    assert explain(*photos, "-o", output, "--resume")[0] == 0
    assert pq.read_table(output).num_rows == len(photos)


def test_a_map_of_another_photograph_of_the_same_name_is_not_replaced(explain, photos, tmp_path):
    """In a later run, too; a photograph's own map is."""
    folders = [tmp_path / name for name in "ab"]
    for folder, photo in zip(folders, photos, strict=False):
        folder.mkdir()
        (folder / "IMG_1.jpg").write_bytes(photo.read_bytes())
    maps = tmp_path / "maps"
    assert explain(folders[0], "--map", maps)[0] == 0
    first = (maps / "IMG_1.jpg.map.png").read_bytes()
    assert explain(folders[1], "--map", maps)[0] == 0
    assert (maps / "IMG_1.jpg.map.png").read_bytes() == first and (maps / "IMG_1.jpg.2.map.png").exists()
    for folder in folders:
        assert explain(folder, "--map", maps)[0] == 0
    assert len(list(maps.iterdir())) == 2 and (maps / "IMG_1.jpg.map.png").read_bytes() == first
