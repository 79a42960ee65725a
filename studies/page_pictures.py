"""Pictures of pages for the README and the documentation, of the example photographs, by Chromium.

    python studies/page_pictures.py -o docs/report.jpg

Needs `pip install "grepq-iqa[report]" playwright` and a Chromium on PATH; no browser is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1280, 860
QUALITY = 70


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=Path("examples/photos"))
    parser.add_argument("--output", "-o", type=Path, default=Path("docs/report.jpg"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium is on PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        title = ("--title", "Example photographs")
        command = [sys.executable, "-m", "grepq_iqa", "report", str(options.photographs), "-o", str(page_file), *title]
        subprocess.run([*command, "--reasons"], check=True)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.as_uri())
        page.wait_for_selector("figure img")
        page.screenshot(path=options.output, type="jpeg", quality=QUALITY)
        browser.close()


if __name__ == "__main__":
    main()
