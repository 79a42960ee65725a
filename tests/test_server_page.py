"""The page in a real browser: photographs in, labels by keys, a fit, predictions out; a crash in between."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import needs
from PIL import Image, ImageFilter
from server_process import ServerProcess

needs("fastapi")
needs("uvicorn")
needs("playwright")
CHROMIUM = needs("chromium")

from playwright.sync_api import expect, sync_playwright

EVIL = '"><img src=x onerror=document.title=1>&.jpg'


# WCAG AA: text against what is behind it, less than 4.5 to 1.
FAINT = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255;
    return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126*r + .7152*g + .0722*b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255,255,255)'; };
  return [...document.querySelectorAll('p, button, .name, .number, .more, label, h1, h2')]
    .filter(e => e.textContent.trim() && !e.disabled).map(e => {
      const a = light(getComputedStyle(e).color), b = light(behind(e));
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 60)]; })
    .filter(([ratio]) => ratio < 4.5); }"""


@pytest.fixture(scope="module")
def holiday(tmp_path_factory, photos) -> Path:
    """Sixteen real photographs, from sharp to blurred; one name is HTML; one file is no picture."""
    folder = tmp_path_factory.mktemp("page") / "holiday"
    folder.mkdir()
    for i in range(15):  # a quarter of a photograph each, so that none is a copy of another
        picture = Image.open(photos[i % 4]).convert("RGB")
        left, top = (i // 4) % 2 * 384, i // 8 * 216
        picture = picture.crop((left, top, left + 384, top + 216)).resize((240, 135 + i))
        picture.filter(ImageFilter.GaussianBlur(i % 3)).save(folder / f"photo {i:02d}.jpg")
    if os.name == "posix":
        shutil.copy(folder / "photo 00.jpg", folder / EVIL)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        expect.set_options(timeout=30_000)
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(accept_downloads=True, viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.complaints = []
    opened.on("console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.set_default_timeout(30_000)
    yield opened
    context.close()


def complaints_of(page) -> list[str]:
    """Without those about answers that the test asked for, such as reasons that this version may not give."""
    return [text for text in page.complaints if "status of" not in text and "net::" not in text]


def until(holds, seconds: float = 20) -> None:
    """Wait until something holds, which it shall soon."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)


def labels_of(folder: Path) -> list[dict[str, str]]:
    if not (folder / "grepq-labels.csv").exists():
        return []
    with (folder / "grepq-labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rate(page, rating: int) -> None:
    """Press a key once the photograph is there: before, it would rate one that is not seen."""
    page.wait_for_selector("#rater[aria-busy=false]")
    page.keyboard.press(str(rating))


def test_only_what_is_seen_and_kept_counts(page, holiday, tiny_model, tmp_path):
    table = tmp_path / "grepq-labels.csv"
    with ServerProcess(holiday, "--labels", table, "--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        held = []
        page.route("**/view", lambda route: held.append(route))  # a slow disk
        page.click("#label-some")
        expect(page.locator("#rater")).to_have_attribute("aria-busy", "true")
        until(lambda: held)
        page.keyboard.press("4")
        page.click("#rater-buttons button >> nth=2", force=True)
        expect(page.locator("#rater-count")).to_have_text(re.compile("^1 of "))
        for route in held:
            route.continue_()
        page.unroute("**/view")
        waiting = []
        page.route("**/rating", lambda route: waiting.append(route))
        rate(page, 4)
        expect(page.locator("#rater-count")).to_have_text(re.compile("^2 of "))
        until(lambda: waiting)
        expect(page.locator("#rater-status")).to_contain_text("0 rated, kept in")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#rater-buttons button[aria-pressed=true]")).to_have_attribute("data-rating", "4")
        waiting.pop().continue_()
        expect(page.locator("#rater-status")).to_contain_text("1 rated, kept in")
        assert [row["mos"] for row in labels_of(tmp_path)] == ["4"]
        # A rating that cannot be kept leaves the one before.
        rate(page, 2)
        until(lambda: waiting)
        waiting.pop().fulfill(status=507, content_type="application/json", body='{"error": "the disk is full"}')
        expect(page.locator("#rater-trouble")).to_contain_text("the disk is full")
        expect(page.locator("#rater-buttons button[aria-pressed=true]")).to_have_attribute("data-rating", "4")
        expect(page.locator("#rater-status")).to_contain_text("1 rated, kept in")
        page.unroute("**/rating")


def test_reasons_are_asked_for_what_is_looked_at(page, holiday, tiny_model, tmp_path):
    with ServerProcess(holiday, "--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        page.select_option("#sort", "name")
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/explain" in request.url else None)
        page.get_by_role("button", name="photo 00.jpg, score").click()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        expect(page.locator("#viewer-name")).to_have_text("photo 08.jpg")
        expect(page.locator("#viewer-reasons li").first).not_to_have_text("looking for reasons")
        assert len(asked) < 5 and page.locator("#viewer-reasons li").first.inner_text()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_a_name_that_is_no_text_is_shown_rated_and_saved(page, holiday, tiny_model, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(holiday / "photo 01.jpg", os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))
    shutil.copy(holiday / "photo 02.jpg", folder)
    with ServerProcess(folder, "--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        expect(page.locator(".tile .name", has_text=re.compile(r"caf.\.jpg"))).to_be_visible()
        assert page.locator(".tile").count() == 2
        find = "fetch('/page/photos').then(r => r.json()).then(f => f.photos.find(p => p.name.startsWith('caf')).id)"
        number = page.evaluate(find)
        answer = page.evaluate(
            """id => fetch(`/page/photos/${id}/rating`, {method: "PUT", headers: {"Content-Type": "application/json"},
                 body: '{"rating": 2}'}).then(r => r.status)""",
            number,
        )
        assert answer == 200
        assert b"caf\xe9.jpg,2" in (folder / "grepq-labels.csv").read_bytes()
        labels = page.evaluate("fetch('/page/labels.csv').then(r => r.arrayBuffer()).then(b => [...new Uint8Array(b)])")
        assert bytes(labels) == (folder / "grepq-labels.csv").read_bytes()


def test_the_whole_loop_by_the_keyboard_alone(page, holiday, photos, tiny_model, tmp_path):
    elsewhere = []
    page.on("request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None)
    with ServerProcess(holiday, "--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_have_text(
            "17 scored." if os.name == "posix" else "16 scored.", timeout=60_000
        )
        assert page.title() == "holiday - grepq-iqa"
        assert page.locator(".tile").count() == (17 if os.name == "posix" else 16)
        expect(page.get_by_role("button", name="broken.jpg, cannot be used")).to_be_visible()
        # A dropped photograph joins.
        page.set_input_files("#files", [str(photos[0])])
        expect(page.get_by_role("button", name="lake_dark_noisy.jpg, score")).to_be_visible()
        # Sort, filter, look: by keys.
        page.select_option("#sort", "name")
        page.focus("#find")
        page.keyboard.type("photo 0")
        expect(page.locator("#shown")).to_have_text("10 of 18 shown" if os.name == "posix" else "10 of 17 shown")
        page.locator(".tile:visible").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.locator("#viewer-name")).to_have_text("photo 01.jpg")
        expect(page.locator("#viewer-reasons li").first).not_to_have_text("looking for reasons")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#viewer-name")).to_have_text("photo 02.jpg")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="photo 02.jpg, score")).to_be_focused()
        page.fill("#find", "")
        # Label by keys; every one is on the disk when the page says so.
        page.focus("#label-some")
        page.keyboard.press("Enter")
        expect(page.locator("#rater")).to_be_visible()
        for i in range(6):
            rate(page, 1 + i % 5)
        expect(page.locator("#rater-status")).to_contain_text("6 rated, kept in")
        until(lambda: [row["mos"] for row in labels_of(holiday)] == ["1", "2", "3", "4", "5", "1"])
        page.keyboard.press("ArrowLeft")  # back, and another mind
        rate(page, 3)
        until(lambda: sorted(row["mos"] for row in labels_of(holiday)) == ["1", "2", "3", "3", "4", "5"])
        # A reload, and then a crash: nothing is lost.
        page.reload()
        expect(page.locator(".tile", has_text="you:")).to_have_count(6)
        server.process.kill()
        server.process.wait()
    with ServerProcess(holiday, "--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        page.set_input_files("#files", [str(photos[0])])  # dropped again, it is known by its content
        expect(page.locator(".tile", has_text="you:")).to_have_count(6, timeout=60_000)
        page.focus("#label-some")
        page.keyboard.press("Enter")
        expect(page.locator("#rater")).to_be_visible()
        for i in range(5):
            rate(page, 1 + i % 5)
        expect(page.locator("#scale")).to_be_attached()
        page.wait_for_selector("#scale:not([hidden])", state="attached", timeout=60_000)
        expect(page.locator("#fit-text")).to_contain_text("Fitted on 11 of your ratings", timeout=60_000)
        page.keyboard.press("Escape")
        expect(page.locator("#fit-text")).to_contain_text("SRCC")
        expect(page.locator("#fit-text")).to_contain_text("more labels would add")
        expect(page.locator("#curve svg")).to_have_attribute("role", "img")
        expect(page.locator(".tile .number", has_text=" to ").first).to_be_visible()
        for link, name in (("Download predictions", "predictions.csv"), ("Download the model", "my-model.zip"),
                           ("Download your labels", "grepq-labels.csv")):  # fmt: skip
            with page.expect_download() as download:
                page.get_by_role("link", name=link).click()
            saved = tmp_path / name
            download.value.save_as(saved)
            assert download.value.suggested_filename == name and saved.stat().st_size
        assert len((tmp_path / "predictions.csv").read_text().splitlines()) == (19 if os.name == "posix" else 18)
    assert page.title() == "holiday - grepq-iqa"  # HTML in a name stayed a name
    assert not elsewhere and not complaints_of(page)


def test_dropping_a_folder_shows_progress_and_labels_what_was_dropped(page, holiday, tiny_model, tmp_path):
    with ServerProcess("--model", tiny_model, cwd=tmp_path) as server:
        page.goto(server.url)
        page.set_input_files("#folder", str(holiday))
        expect(page.locator("#progress-text")).to_contain_text(" scored")
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        expect(page.locator(".tile .name", has_text="holiday/photo 07.jpg")).to_be_visible()
        page.click("#label-some")
        expect(page.locator("#rater")).to_be_visible()
        rate(page, 4)
        until(lambda: [row["mos"] for row in labels_of(tmp_path)] == ["4"])
        assert labels_of(tmp_path)[0]["path"].startswith("holiday/")
        assert len(labels_of(tmp_path)[0]["sha256"]) == 64
    assert not complaints_of(page)


def test_phone_width_names_for_screen_readers_and_both_color_schemes(browser, holiday, tiny_model, tmp_path):
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    with ServerProcess(holiday, "--model", tiny_model, "--labels", tmp_path / "l.csv", cwd=tmp_path) as server:
        page.goto(server.url)
        expect(page.locator("#status")).to_contain_text("scored.", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator("#label-some").tap()
        expect(page.locator("#rater-image")).to_be_visible()
        assert page.evaluate("document.getElementById('rater').scrollWidth") <= 360
        unnamed = page.evaluate(
            """[...document.querySelectorAll('button, a, select, input:not([hidden]), img, [role]')].filter(e => {
                 const name = e.getAttribute('aria-label') || e.textContent.trim() || e.alt
                   || e.labels?.[0]?.textContent.trim() || e.getAttribute('aria-labelledby') || e.title;
                 return !name && !e.hasAttribute('alt') && !['status', 'alert'].includes(e.getAttribute('role'));
               }).map(e => e.outerHTML.slice(0, 80))"""
        )
        assert unnamed == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(FAINT) == [], scheme
    context.close()


def test_signing_in(page, tiny_model, tmp_path):
    token = "0123456789abcdef"
    with ServerProcess("--model", tiny_model, "--token", token, cwd=tmp_path) as server:
        page.goto(server.url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#drop")).to_be_visible()
        assert "token" not in page.url and page.evaluate("document.cookie") == ""
