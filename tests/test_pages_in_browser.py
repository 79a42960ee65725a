"""The report and the labeling pages in Chromium, opened from disk."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import needs
from PIL import Image

from grepq_iqa.data.labels import read_labels
from grepq_iqa.errors import LabelsError
from grepq_iqa.labeling.rating_page import write_pairs_page, write_rating_page
from grepq_iqa.report import report_page
from grepq_iqa.report.photograph import Photograph, Reason
from grepq_iqa.report.report_page import ReportText, write_report

HOSTILE = [
    '"><img src=x onerror="window.hacked=1">.png',
    "<script>window.hacked=1<.png",
    "' onmouseover='window.hacked=1' .png",
    "two\nlines\u202egnp.png",
    "tüte ☕ & 100%25 #1?.png",
]


@pytest.fixture(scope="module")
def browser():
    sync_api = needs("playwright.sync_api")
    program = needs("chromium")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root, which containers of CI run as.
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a file and return its page, which must neither fail, nor run what is not ours, nor ask the network."""
    contexts, trouble = [], []

    def call(path: Path, context=None, **options):
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | options)
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: trouble.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield call
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.hacked") is None
        context.close()
    # Chromium says so where a whole picture is gone, which is no fault.
    assert [text for text in trouble if "ERR_FILE_NOT_FOUND" not in text] == []


@cache
def painted(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((600, 500), Image.BICUBIC).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def paint(path: Path, seed: int) -> Path:
    path.write_bytes(painted(seed))
    return path


@pytest.fixture
def photographs(tmp_path) -> list[Photograph]:
    """Twelve, the better the later, of which two are copies, and one that is gone."""
    files = [paint(tmp_path / f"p{i:02d}.png", i) for i in range(11)]
    Image.open(files[3]).save(tmp_path / "p11.png", compress_level=6)
    files.append(tmp_path / "p11.png")
    map_ = Image.new("RGB", (60, 50), "purple")
    rows = [
        Photograph(
            path,
            i / 10,
            9.0 * i,
            reasons=(Reason("noise", f"much noise, {i}", 90.0),) if i % 3 == 0 else (),
            map=map_ if i == 0 else None,
        )
        for i, path in enumerate(files)
    ]
    return [*rows, Photograph(tmp_path / "gone.png", None, error="does not exist")]


def report(path: Path, photographs: list[Photograph], **text: object) -> Path:
    write_report(
        path, ((one, None) for one in photographs), ReportText(**{"title": "T"} | text), count=len(photographs)
    )
    return path


def names(page) -> list[str]:
    return page.eval_on_selector_all("figure:not([hidden]) .name", "found => found.map(one => one.textContent)")


def until(page, expression: str, seconds: float = 30) -> None:
    """Wait for a condition by asking again: Playwright's own waiting evaluates strings, which the policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never came: {expression}"
        page.wait_for_timeout(30)


def saved(page) -> list[list[str]]:
    with page.expect_download() as download:
        page.click("#save")
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8", "surrogateescape"), newline="")))


def test_report_sorts_and_filters(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs))
    assert names(page) == [*(f"p{i:02d}.png" for i in range(12)), "gone.png"]  # worst first
    page.select_option("#sort", "best")
    assert names(page)[:2] == ["p11.png", "p10.png"] and names(page)[-1] == "gone.png"
    page.select_option("#reason", "reason:noise")
    assert names(page) == ["p09.png", "p06.png", "p03.png", "p00.png"]
    page.select_option("#reason", "errors")
    assert names(page) == ["gone.png"]
    page.click("#reset")
    page.fill("#search", "P1")
    until(page, "document.getElementById('shown').textContent === '2 of 13 photographs'")
    assert names(page) == ["p11.png", "p10.png"]
    page.click("#reset")
    page.check("#copies")
    assert names(page) == ["p11.png", "p03.png"]
    assert page.inner_text("#p3 .copy") == "near-duplicate, group 1 of 2"
    assert saved(page) == [["path", "grepq score"], *([str(tmp_path / name), value] for name, value in
                           (("p11.png", "1.1"), ("p03.png", "0.3")))]  # fmt: skip
    page.click("#reset")
    page.select_option("#sort", "together")
    assert names(page)[:2] == ["p11.png", "p03.png"]
    assert page.eval_on_selector_all("#worst img", "all => all.map(one => one.alt)")[0] == "p00.png"
    assert page.eval_on_selector_all("#best img", "all => all.map(one => one.alt)")[0] == "p11.png"


def test_report_is_brushed(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs))
    box = page.locator("#histogram").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.52 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, middle, steps=4)
    page.mouse.up()
    assert names(page) == [f"p{i:02d}.png" for i in range(6, 12)]
    page.mouse.click(box["x"] + 5, middle)  # a click takes the filter away
    assert len(names(page)) == 13
    page.select_option("#measure", "percentile")
    page.fill("#high", "20")
    until(page, "document.querySelectorAll('figure:not([hidden])').length === 3")
    assert names(page) == ["p00.png", "p01.png", "p02.png"]


def test_a_list_of_predictions_leads_back_and_holds_no_ratings(visit, photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / os.fsdecode(b"caf\xe9.png") if sys.platform == "linux" else tmp_path / "odd.png"
    odd.write_bytes(painted(99))
    rows = [replace(row, path=Path(row.path.name), low=0.0, high=9.0) for row in photographs[:2]]
    rows.append(Photograph(Path(odd.name), 9.9, 50.0))
    page = visit(report(tmp_path / "r.html", rows, value_name="MOS", among="the photographs that it was fitted on"))
    assert "% of the photographs that it was fitted on" in page.inner_text("#summary")
    with page.expect_download() as download:
        page.click("#save")
    table = Path(download.value.path())
    written = table.read_bytes().splitlines()
    assert written[0] == b"path,predicted mos"
    assert {line.rsplit(b",", 1)[0] for line in written[1:]} == {os.fsencode(tmp_path / row.path) for row in rows}
    with pytest.raises(LabelsError, match="mos-column"):
        read_labels(table)


def test_report_by_keys(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs))
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert page.inner_text("#detail-name") == "p00.png" and page.inner_text("#detail-reasons li") == "much noise, 0"
    assert "% of in-the-wild photographs" in page.inner_text("#facts") and "0.3 MP" in page.inner_text("#facts")
    until(page, "document.getElementById('detail-picture').naturalWidth === 600")  # the file itself
    page.keyboard.press("m")
    until(page, "document.getElementById('detail-picture').naturalWidth === 60")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-name") == "p01.png" and page.is_hidden("#map")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.eval_on_selector_all("#detail-copies img", "all => all.map(one => one.alt)") == ["p11.png"]
    page.keyboard.press("Escape")
    until(page, "document.activeElement.id === 'p3'")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") != "p3"
    page.keyboard.press("b")
    assert names(page)[0] == "p11.png"
    page.keyboard.press("/")
    page.keyboard.type("wb")  # letters in a field are letters
    until(page, "document.getElementById('shown').textContent.startsWith('0 of')")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("0")
    assert len(names(page)) == 13 and names(page)[0] == "p11.png"
    page.keyboard.press("?")
    assert page.is_visible("#keys")


def test_report_of_hostile_names_runs_nothing(visit, tmp_path):
    rows = [Photograph(paint(tmp_path / name, i), i / 5, 50.0) for i, name in enumerate(HOSTILE)]
    far = "</script><script>window.hacked=1</script><!--"
    rows.append(Photograph(Path(far), None, error=far))
    rows.append(Photograph(tmp_path / os.fsdecode(b"no\xfftext.png"), None, error="?"))
    page = visit(report(tmp_path / "r.html", rows, title=far, notes=(far,), made_with=far))
    assert page.title() == far and page.locator("figure").count() == 7
    for figure in page.locator("figure").all():
        figure.click()
        page.wait_for_timeout(30)
        page.click("#close")
    until(
        page,
        "[...document.querySelectorAll('figure img')].filter(one => one.complete && one.naturalWidth).length === 5",
    )
    paths = [row[0] for row in saved(page)[1:]]
    known = {*(str(tmp_path / name) for name in HOSTILE), str(Path(far).absolute()), str(rows[-1].path)}
    assert len(paths) == 7 and known == set(paths)
    page.locator("#p2").click()
    until(page, "document.getElementById('detail-picture').naturalWidth === 600")  # the link leads there


def test_what_is_not_ours_does_not_run(browser, photographs, tmp_path):
    """The policy is what holds where escaping is not enough: here both are put to the test by hand."""
    path = report(tmp_path / "r.html", photographs)
    foreign = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'><style>h1{color:red}</style>"
    path.write_text(path.read_text(encoding="utf-8").replace("<main", foreign + "<main"), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    assert len(names(page)) == 13 and page.evaluate("window.hacked") is None
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')") == "refused"
    context.close()


def test_report_without_scripts_shows_everything(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs), java_script_enabled=False)
    assert page.locator("figure:visible").count() == 13


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_readable_and_fits(visit, photographs, tmp_path, scheme):
    path = report(tmp_path / "r.html", photographs)
    contrast = """() => {
      const level = color => {
        const part = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
        const [r, g, b] = part.map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
      };
      const on = element => {
        const color = getComputedStyle(element).backgroundColor;
        return color === 'rgba(0, 0, 0, 0)' ? on(element.parentElement) : color;
      };
      const texts = [...document.querySelectorAll('h1, .faint, .name, .value, .chip, .error, button, #shown')];
      return texts.filter(one => one.offsetParent && !one.disabled).map(one => {
        const [a, b] = [level(getComputedStyle(one).color), level(on(one))].sort((x, y) => y - x);
        return (a + .05) / (b + .05);
      });
    }"""
    for width in (1200, 360):
        page = visit(path, color_scheme=scheme, viewport={"width": width, "height": 700})
        found = page.evaluate(contrast)
        assert len(found) > 40 and min(found) >= 4.5  # WCAG 2.1 AA
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if scheme == "light" else "light")


def test_report_is_printed_with_all_its_pictures(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs * 3), viewport={"width": 800, "height": 300})
    page.emulate_media(media="print")
    assert page.is_hidden(".tools") and page.is_visible("figure >> nth=35")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = page.pdf(format="A4")
    assert pdf.count(b"/Subtype /Image") >= 11 and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") > 2


def test_many_photographs_have_their_pictures_beside_the_page(visit, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_INSIDE", 5)
    one_of_a_kind = Photograph(
        paint(tmp_path / "far.png", 12), 0.95, 86.0
    )  # what is shown twice, a browser has already
    path = report(tmp_path / "r #1.html", [*photographs * 8, one_of_a_kind])
    page = visit(path)
    assert page.evaluate("document.querySelector('#p0 img').src").endswith("jpg")
    until(page, "document.querySelector('#p0 img').naturalWidth > 0")
    assert page.evaluate("getComputedStyle(document.querySelector('.part')).contentVisibility") == "auto"
    # Far below nothing is loaded yet; there, it is.
    far = (
        "[...document.querySelectorAll('figure')].find(one => one.textContent.includes('far.png')).querySelector('img')"
    )
    assert page.evaluate(f"[...document.images].filter(one => one.src === {far}.src).length") == 1
    assert page.evaluate(f"{far}.getBoundingClientRect().top") > 4000  # farther than browsers look ahead
    assert page.evaluate(f"{far}.complete && {far}.naturalWidth") in (0, False)
    page.evaluate(f"{far}.scrollIntoView()")
    until(page, f"{far}.naturalWidth > 0")


def test_parts_of_the_report_are_whole_rows_at_any_width(visit, photographs, tmp_path):
    page = visit(report(tmp_path / "r.html", photographs * 12))
    counts = """() => [...document.querySelectorAll(".part:not([hidden])")].map(part =>
        [part.children.length, getComputedStyle(part).gridTemplateColumns.split(" ").length])"""
    widths = set()
    for width in (320, 700, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        until(page, f"({counts})().slice(0, -1).every(([members, columns]) => members === 12 * columns)")
        found = page.evaluate(counts)
        widths.add(found[0][1])
        assert sum(members for members, _ in found) == len(photographs) * 12
    assert len(widths) == 3 and len(found) > 1


# --- labeling -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    return [paint(tmp_path / name, i) for i, name in enumerate([*HOSTILE, "p5.png", "p6.png"])]


def test_ratings_by_keys_and_buttons_are_kept_and_saved(visit, browser, pictures, tmp_path):
    path, paths = tmp_path / "rate.html", [str(picture) for picture in pictures]
    write_rating_page(path, pictures, paths, csv_name="mine.csv")
    context = browser.new_context()
    page = visit(path, context)
    page.keyboard.press("4")
    page.keyboard.press("2")
    page.click("figure:nth-of-type(4) button[value='5']")
    page.fill("figure:nth-of-type(6) input", "3.5")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    page.keyboard.press("z")
    assert page.inner_text("#done") == "4 of 7 rated"
    assert page.get_attribute("figure:nth-of-type(1) button[value='4']", "aria-pressed") == "true"
    expected = [["path", "mos"], [paths[0], "4"], [paths[1], "2"], [paths[3], "5"], [paths[5], "3.5"]]
    assert saved(page) == expected
    page.reload()  # kept by the browser
    assert page.inner_text("#done") == "4 of 7 rated" and saved(page) == expected
    page.select_option("#sort", "lowest")
    values = "all => all.map(one => one.value)"
    assert page.eval_on_selector_all("figure input", values) == ["2", "3.5", "4", "5", "", "", ""]
    page.select_option("#size", "1")
    assert page.locator("figure:visible").count() == 1 and page.inner_text("#place").endswith("of 7")
    until(page, "document.querySelector('figure:not([hidden]) img').naturalWidth === 600")  # the file itself
    place = page.inner_text("#place")
    page.click("#on")
    assert page.inner_text("#place") != place
    page.keyboard.press("Delete")
    # The same set in another order is the same set; another set is not.
    write_rating_page(path, pictures[::-1], paths[::-1])
    page.reload()
    assert page.inner_text("#done") in ("3 of 7 rated", "4 of 7 rated")
    write_rating_page(path, pictures[1:], paths[1:])
    page.reload()
    assert page.inner_text("#done") == "0 of 6 rated"
    context.close()


def test_other_scales_have_fields_and_bad_ratings_are_not_saved(visit, pictures, tmp_path):
    path = tmp_path / "rate.html"
    write_rating_page(path, pictures, [picture.name for picture in pictures], lowest=0, highest=100)
    page = visit(path)
    assert page.locator(".marks button").count() == 0
    page.fill("figure:nth-of-type(2) input", "101")
    page.click("#save")
    assert page.evaluate("document.activeElement.validity.rangeOverflow")
    page.fill("figure:nth-of-type(2) input", "62.5")
    assert saved(page) == [["path", "mos"], [pictures[1].name, "62.5"]]


def test_fractions_can_be_typed_and_a_held_key_rates_one(visit, browser, pictures, tmp_path):
    for name, lowest, highest in (("hundred.html", 0, 100), ("five.html", 1, 5)):
        path = tmp_path / name
        write_rating_page(path, pictures, [picture.name for picture in pictures], lowest=lowest, highest=highest)
        page = visit(path)
        page.locator("figure:nth-of-type(2) input").press_sequentially("3.75")
        assert saved(page) == [["path", "mos"], [pictures[1].name, "3.75"]]
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    for _ in range(4):
        page.keyboard.down("2")
    page.keyboard.up("2")
    assert saved(page) == [["path", "mos"], [pictures[1].name, "3.75"], [pictures[2].name, "2"]]
    page.keyboard.press("ArrowLeft")
    for _ in range(4):
        page.keyboard.down("Delete")
    page.keyboard.up("Delete")
    assert saved(page) == [["path", "mos"], [pictures[1].name, "3.75"]]


def test_two_tabs_lose_nothing_of_each_other(visit, browser, pictures, tmp_path):
    rating, pairs = tmp_path / "rate.html", tmp_path / "pairs.html"
    names = [picture.name for picture in pictures]
    write_rating_page(rating, pictures, names)
    write_pairs_page(pairs, pictures, names, [(0, 1), (2, 3), (4, 5)])
    context = browser.new_context()
    one, two = visit(rating, context), visit(rating, context)
    one.keyboard.press("4")
    two.click("figure:nth-of-type(5) button[value='2']")
    one.keyboard.press("3")
    for tab in (one, two):
        until(tab, "document.querySelector('#done').textContent.startsWith('3 of 7')")
    expected = [["path", "mos"], [names[0], "4"], [names[1], "3"], [names[4], "2"]]
    assert saved(one) == saved(two) == expected
    assert two.get_attribute("figure:nth-of-type(1) button[value='4']", "aria-pressed") == "true"
    one.reload()
    assert saved(one) == expected
    one, two = visit(pairs, context), visit(pairs, context)
    one.keyboard.press("ArrowLeft")
    until(two, "document.querySelector('#done').textContent.startsWith('1 of 3')")
    two.keyboard.press("ArrowRight")
    until(one, "document.querySelector('#done').textContent.startsWith('2 of 3')")
    one.keyboard.press("ArrowDown")
    until(two, "document.querySelector('#done').textContent.startsWith('3 of 3')")
    table = [["left", "right", "winner"], [*names[:2], "left"], [*names[2:4], "right"], [*names[4:6], "tie"]]
    assert saved(one) == saved(two) == table
    context.close()


def test_ratings_on_another_scale_are_not_mixed(visit, browser, pictures, tmp_path):
    path, names = tmp_path / "rate.html", [picture.name for picture in pictures]
    context = browser.new_context()

    def page_of(lowest: float, highest: float):
        write_rating_page(path, pictures, names, lowest=lowest, highest=highest)
        return visit(path, context)

    page_of(1, 5).keyboard.press("4")
    page = page_of(0, 100)
    assert page.inner_text("#done") == "0 of 7 rated" and "rate and go on" not in page.inner_text(".hint")
    page.fill("figure:nth-of-type(1) input", "40")
    assert page_of(0, 100).inner_text("#done") == "1 of 7 rated"
    page = page_of(1, 5)
    assert saved(page) == [["path", "mos"], [names[0], "4"]]
    # Earlier pages kept those of every scale under the key that those from 1 to 5 still have.
    page.evaluate("localStorage.clear()")
    key = page.evaluate("settings.key")
    page.evaluate("key => localStorage.setItem(key, JSON.stringify({[settings.names[2]]: '77'}))", key)
    assert saved(page_of(0, 100)) == [["path", "mos"], [names[2], "77"]]
    context.close()


def test_pairs_are_answered_undone_kept_and_saved(visit, browser, pictures, tmp_path):
    path, paths = tmp_path / "pairs.html", [str(picture) for picture in pictures]
    pairs = [(0, 1), (2, 3), (4, 5), (6, 0)]
    write_pairs_page(path, pictures, paths, pairs)
    context = browser.new_context()
    page = visit(path, context)
    until(page, "document.querySelector('#left img').naturalWidth === 600")  # the file itself
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("z")
    page.click("#right")
    page.keyboard.press("s")  # the only one left stays
    assert page.inner_text("#done") == "3 of 4 answered"
    expected = [["left", "right", "winner"], [paths[0], paths[1], "left"], [paths[2], paths[3], "tie"],
                [paths[4], paths[5], "right"]]  # fmt: skip
    assert saved(page) == expected
    page.reload()
    assert page.inner_text("#done") == "3 of 4 answered" and saved(page) == expected
    page.click("#left")
    assert page.is_visible("#end") and page.is_hidden("#question")
    page.keyboard.press("ArrowLeft")  # nothing is left to answer
    page.click("#undo")
    page.click("#undo")
    assert page.inner_text("#done") == "2 of 4 answered" and saved(page) == expected[:3]
    context.close()


def test_a_browser_that_keeps_nothing_says_so(visit, browser, pictures, tmp_path):
    path = tmp_path / "rate.html"
    write_rating_page(path, pictures, [picture.name for picture in pictures])
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('off'); }})")
    page = visit(path, context)
    assert page.is_visible("#lost")
    page.keyboard.press("3")
    assert saved(page)[1:] == [[pictures[0].name, "3"]]
    context.close()
