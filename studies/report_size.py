"""Is a report written in flat memory? Peak resident memory and size of the page for more and more photographs.

Photographs are small on purpose, 128 x 96 pixels of noise and gradients, all different: what grows with their number is
what is measured, not what one of them takes. Each count runs in a process of its own, with an empty cache.

    python studies/report_size.py 500 5000
    python studies/report_size.py --scroll report-5000-rows.html

The second opens a page in Chromium (Playwright) and measures how long it takes to open, to sort, and the frames while
it is scrolled: as fast as a wheel goes, 120 pixels a frame, and as a scroll bar is pulled, a 300th of the page.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BELOW = """
import resource, sys
sys.argv = ["grepq", *sys.argv[1:]]
from grepq_iqa.cli import run
try:
    run()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


FRAMES = """step => new Promise(done => {
  const height = document.documentElement.scrollHeight, frames = [];
  let at = 0, last = performance.now();
  scrollTo(0, 0);
  const next = () => {
    const now = performance.now();
    frames.push(now - last);
    last = now;
    at += step;
    scrollTo(0, at);
    at < height && frames.length < 300 ? requestAnimationFrame(next) : done(frames.slice(1));
  };
  requestAnimationFrame(next);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*")
    parser.add_argument("--scroll", type=Path, help="page to open and scroll")
    parser.add_argument("--keep", type=Path, help="folder to leave photographs and reports in")
    options = parser.parse_args()
    if options.scroll:
        scroll(options.scroll)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        print("photographs  from  peak MiB  page MiB  folder MiB  seconds")
        for count in options.counts:
            photographs = folder / f"photographs-{count}"
            paint(photographs, count)
            rows = folder / f"rows-{count}.csv"
            for source in ("folder", "rows"):
                page = folder / f"report-{count}-{source}.html"
                given = photographs
                if source == "rows":
                    write_rows(rows, photographs)
                    given = rows
                started = time.perf_counter()
                command = ["report", str(given), "-o", str(page), "--no-cache", "--overwrite"]
                done = subprocess.run(
                    [sys.executable, "-c", BELOW, *command], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(done.stderr)
                beside = page.with_name(f"{page.stem}_files")
                pictures = sum(path.stat().st_size for path in beside.glob("*")) if beside.exists() else 0
                seconds = time.perf_counter() - started
                print(
                    f"{count:11,}  {source:6} {int(done.stdout.split()[-1]) / 1024:8.0f}  "
                    f"{page.stat().st_size / 2**20:8.1f}  {pictures / 2**20:10.1f}  {seconds:7.0f}",
                    flush=True,
                )


def scroll(page_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        started = time.perf_counter()
        page.goto(page_path.absolute().as_uri())
        opened = time.perf_counter() - started
        sorting = page.evaluate(
            "() => { const t = performance.now(); document.getElementById('sort').value = 'best';"
            "document.getElementById('sort').dispatchEvent(new Event('change')); document.body.offsetHeight;"
            "return performance.now() - t; }"
        )
        steps = page.evaluate("() => document.documentElement.scrollHeight / 300")
        frames = {how: page.evaluate(FRAMES, pixels) for how, pixels in (("120 pixels", 120), ("a 300th", steps))}
        browser.close()
    print(f"opened in {opened:.1f} s, sorted in {sorting:.0f} ms; ms a frame while scrolling by")
    for how, times in frames.items():
        low, middle, high = np.percentile(times, [5, 50, 95])
        print(f"  {how} a frame: median {middle:.0f}, 5 % {low:.0f}, 95 % {high:.0f}")


def paint(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i:05d}.jpg"
        if path.exists():
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((128, 96), Image.BICUBIC)
        noise = rng.normal(scale=rng.uniform(0, 30), size=(96, 128, 3))
        Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def write_rows(table: Path, photographs: Path) -> None:
    rng = np.random.default_rng(1)
    with table.open("w") as stream:
        stream.write("path,score,low_level,high_level,percentile,warnings,error\n")
        for path in sorted(photographs.iterdir()):
            score = rng.uniform(0.2, 1.3)
            stream.write(f"{os.path.abspath(path)},{score:.4f},0.3,0.5,{100 * (score - 0.2) / 1.1:.1f},,\n")  # noqa: PTH100


if __name__ == "__main__":
    main()
