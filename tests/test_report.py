"""The report as a file: rows in, a page out that holds any name, and nothing lost on the way."""

from __future__ import annotations

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from grepq_iqa.errors import GrepqError, ImageError, LabelsError, UsageError
from grepq_iqa.labeling.rating_page import write_pairs_page, write_rating_page
from grepq_iqa.pages import link_to, shown
from grepq_iqa.report import contact_sheet, report_page
from grepq_iqa.report.photograph import Photograph, Reason, read_photographs
from grepq_iqa.report.picture_folder import PictureFolder
from grepq_iqa.report.report_page import ReportText, write_report
from grepq_iqa.server.answers import Refusal
from grepq_iqa.server.photos import PhotoStore
from grepq_iqa.server.settings import Settings


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight different pictures, a copy of the first with other bytes, and a file that is none."""
    made = tmp_path / "photos"
    made.mkdir()
    for i in range(8):
        paint(made / f"p{i}.jpg", i)
    with Image.open(made / "p0.jpg") as first:
        first.resize((112, 104)).save(made / "p8.jpg")
    (made / "q.jpg").write_bytes(b"no picture")
    return made


def paint(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = f"2026:05:{seed + 1:02d} 10:00:00"
    Image.fromarray(pixels).resize((120, 110), Image.BICUBIC).save(path, exif=exif)


class Page(HTMLParser):
    """What a parser makes of a page: tags, attributes, the rows of its figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        rows = [value for name, value in self.attributes if name == "data-row"]
        self.rows = [json.loads(value or "") for value in rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def written(path: Path, photographs: list[Photograph], **text: object) -> Page:
    rows = ((photograph, None) for photograph in photographs)
    write_report(path, rows, ReportText(**{"title": "T"} | text), count=len(photographs))
    return page_of(path)


def test_a_folder_becomes_a_page_and_a_sheet(grepq, folder, tmp_path, tiny_model):
    output, sheet = tmp_path / "out" / "report.html", tmp_path / "sheet.png"
    status, out, err = grepq("report", folder, "-o", output, "--sheet", sheet, "-m", tiny_model)
    assert (status, out) == (1, "") and "1 of 10 images could not be used" in err
    page = page_of(output)
    assert [row["name"] for row in page.rows] == [*(f"p{i}.jpg" for i in range(9)), "q.jpg"]
    assert [row["error"] is None for row in page.rows] == 9 * [True] + [False]
    assert all(0 < row["value"] < 1.5 and row["bytes"] > 0 for row in page.rows[:9])
    assert [row["taken"] for row in page.rows[:3]] == [f"2026-05-0{i} 10:00:00" for i in (1, 2, 3)]
    assert page.rows[0]["width"] == 120 and page.rows[0]["height"] == 110
    text = output.read_text(encoding="utf-8")
    assert json.loads(text.split('id="data">')[1].split("</script>")[0])["groups"] == [[0, 8]]
    assert "http" not in "".join(value or "" for name, value in page.attributes if name in ("src", "href"))
    assert Image.open(sheet).size[0] > 560 and Image.open(sheet).text["Software"] == "made by grepq-iqa"
    # Ours may be written anew, and the pictures that are written are not among the pictures that are read.
    assert grepq("report", folder, "-o", folder / "report.html", "-m", tiny_model)[0] == 1
    assert grepq("report", folder, "-o", folder / "report.html", "-m", tiny_model)[0] == 1
    assert len(page_of(folder / "report.html").rows) == 10


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.json", "rows.jsonl"])
def test_rows_already_computed_are_not_computed_again(name, grepq, folder, tmp_path, tiny_model, monkeypatch):
    rows = tmp_path / name
    assert grepq("score", folder, "-o", rows, "-m", tiny_model)[0] == 1
    assert grepq("report", folder, "-o", tmp_path / "computed.html", "-m", tiny_model)[0] == 1
    monkeypatch.setattr("grepq_iqa.model.GRepQ.from_pretrained", lambda *a, **k: pytest.fail("computed again"))
    output = tmp_path / "report.html"
    assert grepq("report", rows, "-o", output)[0] == 1
    computed, read = page_of(tmp_path / "computed.html").rows, page_of(output).rows
    assert len(read) == len(computed) == 10
    for one, other in zip(read, computed, strict=True):
        assert one["error"] == other["error"] and one["warnings"] == other["warnings"]
        assert one["value"] is other["value"] is None or one["value"] == pytest.approx(other["value"], abs=1e-4)
    status, _, err = grepq("report", rows, folder, "-o", output)
    assert status == 2 and "give it alone" in err


def test_rows_of_predict_keep_their_intervals(grepq, folder, tmp_path):
    rows = tmp_path / "predicted.csv"
    rows.write_text("path,mos,low,high,warnings,error\nphotos/p1.jpg,3.5,2.5,4.25,a; b,\n")
    assert grepq("report", rows, "-o", tmp_path / "r.html")[0] == 0
    page = page_of(tmp_path / "r.html")
    row = page.rows[0]
    assert (row["value"], row["low"], row["high"], row["warnings"]) == (3.5, 2.5, 4.25, ["a", "b"])
    assert ("data-value-name", "MOS") in page.attributes


@pytest.mark.parametrize("text", ["path,score,low_level,high_level,percentile,warnings,error\n,1,,,,,\n",
                                  "path,score,low_level,high_level,percentile,warnings,error\na.png,,,,,,\n",
                                  '{"path": "a", "score": 1, "low_level": 1, "high_level": 1, "percentile": 1, '
                                  '"warnings": [], "error": null}\n{"path": '])  # fmt: skip
def test_damaged_rows_are_refused_in_words(text, tmp_path, grepq):
    source = tmp_path / ("rows.csv" if text.startswith("path") else "rows.jsonl")
    source.write_text(text)
    with pytest.raises(LabelsError, match="damaged"):
        list(read_photographs(source))
    status, _, err = grepq("report", source, "-o", tmp_path / "r.html")
    assert status == 2 and "damaged" in err and not (tmp_path / "r.html").exists()


HTML = st.sampled_from(
    ["<script>hacked=1</script>", '"><img src=x onerror=hacked=1>', "'", "&amp;", "\n", "\u202e", "]]>"]
)
NAMES = st.lists(HTML | st.text(st.characters(exclude_characters="\0"), max_size=8), min_size=1, max_size=4).map(
    "".join
)


@given(names=st.lists(NAMES, min_size=1, max_size=4), title=NAMES)
@example(names=["\ud800"], title="t")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_text_and_comes_back_whole(names, title, tmp_path):
    rows = [
        Photograph(Path(name), 0.5, warnings=(name,), reasons=(Reason(name, name, 3.0),), error=name) for name in names
    ]
    page = written(tmp_path / "r.html", rows, title=shown(title), notes=(shown(title),))
    assert [row["path"] for row in page.rows] == [str(Path(name)) for name in names]
    assert page.tags.count("script") == 2 and page.tags.count("figure") == len(names)
    assert not {tag for tag in page.tags if tag in ("iframe", "object", "embed", "base", "form") and tag != "form"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(link.startswith(("file:", "./")) for link in links)


@given(data=st.binary(min_size=1, max_size=30))
def test_links_lead_to_the_file_of_any_bytes(data):
    from urllib.parse import unquote_to_bytes

    name = data.replace(b"/", b"_").replace(b"\0", b"_")
    if name in (b".", b".."):
        name += b"_"
    path = Path(os.fsdecode(name))
    link = link_to(Path("/photos") / path, Path("/photos/report.html"))
    assert link.startswith("./") and unquote_to_bytes(link[2:]) == name
    outside = link_to(Path("/photos") / path, Path("/elsewhere/report.html"))
    assert outside.startswith("file:///photos/") and unquote_to_bytes(outside[len("file:///photos/") :]) == name
    assert shown(path).isprintable() and shown(path).encode()


def test_many_pictures_lie_beside_the_page_and_those_of_an_older_page_stay(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_INSIDE", 3)
    output = tmp_path / "report.html"
    photographs = [Photograph(folder / f"p{i}.jpg", i / 10) for i in range(6)]
    page = written(output, photographs)
    beside = tmp_path / "report_files"
    sources = [value or "" for name, value in page.attributes if name == "src"]
    assert len(sources) == 6 and all((tmp_path / source).is_file() for source in sources)
    before = output.read_bytes()

    def killed():
        for photograph in photographs[3:]:
            yield photograph, None
        paint(tmp_path / "new.png", 77)
        yield Photograph(tmp_path / "new.png", 0.1), None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(output, killed(), ReportText("T"), count=6)
    assert output.read_bytes() == before and all((tmp_path / source).is_file() for source in sources)
    assert not list(tmp_path.glob(".*.part*"))
    (beside / "mine.txt").write_text("keep")
    page = written(output, photographs[:4])
    assert len([1 for path in beside.glob("*.jpg")]) == 4 and (beside / "mine.txt").exists()
    # A small report needs no folder; what is not ours keeps it.
    monkeypatch.setattr(report_page, "MOST_INSIDE", 300)
    written(output, photographs[:4])
    assert [path.name for path in beside.iterdir()] == ["mine.txt"]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_leaves_the_older_report(folder, tmp_path, monkeypatch):
    output = tmp_path / "report.html"
    photographs = [Photograph(folder / f"p{i}.jpg", i / 10) for i in range(4)]
    written(output, photographs)
    before = output.read_bytes()
    opened = Path.open

    def full(self, *arguments, **options):
        return opened(Path("/dev/full") if self.name.startswith(".report.") else self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UsageError, match="No space left"):
        written(output, photographs[:2])
    monkeypatch.undo()
    assert output.read_bytes() == before and not list(tmp_path.glob(".*.part*"))


def test_a_folder_of_others_is_refused_before_the_work(grepq, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("grepq_iqa.model.GRepQ.from_pretrained", lambda *a, **k: pytest.fail("work was begun"))
    (tmp_path / "report_files").mkdir()
    (tmp_path / "report_files" / "thesis.txt").write_text("mine")
    status, _, err = grepq("report", folder, "-o", tmp_path / "report.html", "--overwrite")
    assert status == 2 and "holds other files" in err
    assert [path.name for path in (tmp_path / "report_files").iterdir()] == ["thesis.txt"]
    (tmp_path / "other_files").write_text("mine")
    status, _, err = grepq("report", folder, "-o", tmp_path / "other.html", "--overwrite")
    assert status == 2 and "is a file" in err


REFUSED = [
    ([], "name what to write"),
    (["-o", "{t}/report.csv"], ".html"),
    (["-o", "{t}/report.html", "--sheet", "{t}/sheet.jpg"], ".png"),
    (["-o", "{t}/mine.html"], "--overwrite"),
    (["--sheet", "{f}/d.png"], "--overwrite"),
    (["--sheet", "{f}/d.png", "{f}/d.png", "--overwrite"], "one of the inputs"),
    (["-o", "{t}/mine.html/report.html"], "not a folder"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_is_not_ours_stays(arguments, words, grepq, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("grepq_iqa.model.GRepQ.from_pretrained", lambda *a, **k: pytest.fail("work was begun"))
    (tmp_path / "mine.html").write_text("<p>mine")
    paint(folder / "d.png", 20)
    status, out, err = grepq("report", folder, *(a.format(t=tmp_path, f=folder) for a in arguments))
    assert status == 2 and words in err and out == "" and len(err.strip().splitlines()) == 1
    assert (tmp_path / "mine.html").read_text() == "<p>mine"


def test_a_photograph_in_the_folder_is_no_place_for_the_sheet(grepq, folder, tmp_path, tiny_model):
    paint(folder / "d.png", 20)
    before = (folder / "d.png").read_bytes()
    status, _, err = grepq("report", folder, "--sheet", folder / "d.png", "-m", tiny_model, "--overwrite")
    assert status == 2 and "d.png" in err and (folder / "d.png").read_bytes() == before
    for _ in range(2):
        assert grepq("report", folder, "--sheet", folder / "sheet.png", "-m", tiny_model)[0] == 1


def test_nothing_to_report_and_no_jinja_are_said(grepq, tmp_path, tiny_model, monkeypatch, folder):
    (tmp_path / "empty").mkdir()
    status, _, err = grepq("report", tmp_path / "empty", "-o", tmp_path / "r.html", "-m", tiny_model)
    assert status == 2 and "no images" in err and not (tmp_path / "r.html").exists()
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(GrepqError, match=r"grepq-iqa\[report\]"):
        written(tmp_path / "r.html", [])
    status, _, err = grepq("report", folder, "-o", tmp_path / "r.html", "-m", tiny_model)
    assert status == 2 and "grepq-iqa[report]" in err


def test_a_fitted_model_ranks_by_its_own_scale(grepq, folder, tmp_path, tiny_model):
    labels = tmp_path / "labels.csv"
    labels.write_text("path,mos\n" + "".join(f"photos/p{i}.jpg,{i}\n" for i in range(8)))
    assert grepq("fit", "--csv", labels, "-o", tmp_path / "mine", "-m", tiny_model)[0] == 0
    assert grepq("report", folder, "-o", tmp_path / "r.html", "-m", tmp_path / "mine")[0] == 1
    page = page_of(tmp_path / "r.html")
    assert ("data-value-name", "MOS") in page.attributes
    assert all(row["low"] is None for row in page.rows)  # 8 labels promise no interval of 90 %


def test_a_picture_folder_writes_no_picture_twice(tmp_path):
    pictures = PictureFolder(tmp_path / "r.html", inside=False)
    one = Image.new("RGB", (8, 8), "red")
    first = pictures.url(one)
    file = tmp_path / first
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp - 10**9, stamp - 10**9))
    assert pictures.url(one) == first and file.stat().st_mtime_ns == stamp - 10**9
    assert PictureFolder(tmp_path / "s.html", inside=True).url(one).startswith("data:image/jpeg;base64,")
    assert not (tmp_path / "s_files").exists()


def test_pages_and_sheets_show_pictures_up_to_the_limit_that_is_given(grepq, photos, tmp_path, tiny_model):
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(photos[0]) as picture:
        for name, size in (("large", (600, 500)), ("small", (300, 250))):
            picture.resize(size).save(folder / f"{name}.png")
    rows, output, sheet = tmp_path / "rows.csv", tmp_path / "report.html", tmp_path / "sheet.png"
    assert grepq("score", folder, "-m", tiny_model, "-o", rows)[0] == 0
    report = ("report", rows, "-o", output, "--sheet", sheet)

    def grays() -> int:
        with Image.open(sheet) as picture:
            return sum(picture.getpixel((8 + 96 + 200 * column, 8 + 28 + 96)) == (211, 211, 211) for column in (0, 1))

    assert grepq(*report)[0] == 0 and "megapixels, more" not in output.read_text() and grays() == 0
    grepq(*report, "--max-pixels", 200_000)
    page = output.read_text()
    assert page.count("megapixels, more than 0.2") == 2 and grays() == 1  # in its row, for reading and for sorting
    images = [folder / "large.png", folder / "small.png"]
    write_rating_page(tmp_path / "page.html", images, ["a", "b"])
    with pytest.raises(ImageError, match="--max-pixels"):
        write_rating_page(tmp_path / "page.html", images, ["a", "b"], max_pixels=200_000)
    with pytest.raises(ImageError, match="--max-pixels"):
        write_pairs_page(tmp_path / "page.html", images, ["a", "b"], [(0, 1)], max_pixels=200_000)
    for most, status in ((300_000, 200), (200_000, 404)):
        store = PhotoStore(Settings(), images, most)
        try:
            store.view(store.get(1))
            assert status == 200
        except Refusal as refusal:
            assert refusal.status == status == 404 and "megapixels, more than" in refusal.sentence
        finally:
            store.close()


def test_a_contact_sheet_breaks_its_rows_and_shows_what_is_gone(folder, tmp_path):
    cells = [contact_sheet.Cell(folder / f"p{i}.jpg", f"score {i}") for i in range(8)]
    cells.append(contact_sheet.Cell(folder / "gone\n.png", "score 9"))
    contact_sheet.write_contact_sheet([("All", cells)], tmp_path / "a.png", columns=4)
    contact_sheet.write_contact_sheet([("All", cells)], tmp_path / "b.png")
    tall, wide = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "b.png")
    assert tall.width < wide.width and tall.height > 2 * wide.height
    at = 8 + 28 + 2 * (192 + 44 + 8)
    assert tall.convert("RGB").getpixel((8 + 96, at + 96)) == (211, 211, 211)  # the ninth: a gray square
    before = (tmp_path / "a.png").read_bytes()
    shutil.copy(tmp_path / "a.png", tmp_path / "c.png")
    contact_sheet.write_contact_sheet([("All", cells)], tmp_path / "c.png", columns=4)
    assert (tmp_path / "c.png").read_bytes() == before


def test_rows_of_pick_are_refused(grepq, tmp_path):
    (tmp_path / "picks.csv").write_text("path,group,pick,score,mos,percentile,taken,why,error\n")
    status, _, error = grepq("report", tmp_path / "picks.csv", "-o", tmp_path / "page.html")
    assert status == 2 and "rows of pick" in error
