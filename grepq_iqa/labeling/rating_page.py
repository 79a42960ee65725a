"""A page for labeling: thumbnails with a field for each rating, and a button that saves the table for ``grepq fit``.

The page is one file that needs no network and runs in any browser. Ratings are kept by the browser while they are
typed, so that closing the page loses none.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from grepq_iqa.data.thumbnails import thumbnail
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.text import MARK

THUMBNAIL_SIDE = 480


def write_rating_page(
    path: Path,
    images: Sequence[Path],
    names: Sequence[str],
    *,
    csv_name: str = "to-label.csv",
    lowest: float = 1,
    highest: float = 5,
) -> None:
    """Write the page.

    Args:
        path: the .html file.
        images: picture files; a click shows one at full size as long as it lies where it is now.
        names: how the table shall name each, relative to where the table will be.
        csv_name: file name that the button suggests.
        lowest, highest: ends of the rating scale, worst and best.

    Raises:
        ImageError: a picture cannot be read.
        UsageError: the page cannot be written.
    """
    if not lowest < highest:
        raise UsageError(f"the lowest rating must be below the highest, got {lowest:g} and {highest:g}")
    # Written card by card: thumbnails of many images need not be held at once.
    try:
        with (
            replacing(path) as beside,
            beside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as page,
        ):
            page.write(_HEAD.replace("{mark}", MARK).replace("{scale}", f"{lowest:g} (worst) to {highest:g} (best)"))
            for number, (image, name) in enumerate(zip(images, names, strict=True), start=1):
                page.write(_card(number, image, name, lowest, highest))
            page.write(_TAIL.replace("{settings}", _script_json(_settings(names, csv_name, lowest, highest))))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _card(number: int, image: Path, name: str, lowest: float, highest: float) -> str:
    quoted = html.escape(name, quote=True)
    link = html.escape(image.absolute().as_uri(), quote=True)
    return (
        f'<figure><a href="{link}" target="_blank"><img loading="lazy" alt="" src="{_data_uri(image)}"></a>\n'
        f'<figcaption title="{quoted}">{number}. {quoted}</figcaption>\n'
        f'<input type="number" min="{lowest:g}" max="{highest:g}" step="any" inputmode="decimal" '
        f'aria-label="rating of {quoted}"></figure>\n'
    )


def _data_uri(image: Path) -> str:
    stream = io.BytesIO()
    thumbnail(image, THUMBNAIL_SIDE).save(stream, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _settings(names: Sequence[str], csv_name: str, lowest: float, highest: float) -> dict[str, object]:
    # What is typed is kept under a key of its own for every set of images.
    key = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return {"names": list(names), "csv": csv_name, "key": f"grepq-{key}", "lowest": lowest, "highest": highest}


def _script_json(value: object) -> str:
    """JSON that may stand in a script element whatever the strings hold."""
    text = json.dumps(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="generator" content="{mark}">
<title>Rate the images</title>
<style>
body { font: 16px system-ui, sans-serif; margin: 0; background: #808080; color: #111 }
header { position: sticky; top: 0; background: #eee; padding: .6rem; display: flex; gap: 1rem; align-items: center }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; padding: 1rem }
figure { margin: 0; background: #eee; padding: .6rem; display: flex; flex-direction: column; gap: .4rem }
img { width: 100%; height: 20rem; object-fit: contain; background: #808080 }
figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: .8rem }
input { font: inherit; padding: .3rem }
input:invalid { outline: 3px solid #c00 }
button { font: inherit; padding: .4rem .8rem }
</style></head><body>
<header><strong>Rate each image from {scale}.</strong>
<span>Enter goes to the next; a click shows it at full size.</span>
<span id="done" role="status"></span><button id="save">Download the table</button></header>
<main>
"""

_TAIL = """</main>
<script type="application/json" id="settings">{settings}</script>
<script>
"use strict";
const settings = JSON.parse(document.getElementById("settings").textContent);
const inputs = [...document.querySelectorAll("main input")];
const quote = text => /[",\\r\\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
let kept = {};
try { kept = JSON.parse(localStorage.getItem(settings.key)) || {}; } catch { /* storage is off: nothing is kept */ }
function show() {
  const rated = inputs.filter(input => input.value !== "").length;
  document.getElementById("done").textContent = `${rated} of ${inputs.length} rated`;
}
inputs.forEach((input, i) => {
  input.value = kept[settings.names[i]] ?? "";
  input.addEventListener("input", () => {
    kept[settings.names[i]] = input.value;
    try { localStorage.setItem(settings.key, JSON.stringify(kept)); } catch { /* as above */ }
    show();
  });
  input.addEventListener("keydown", event => {
    if (event.key === "Enter") inputs[Math.min(i + 1, inputs.length - 1)].focus();
  });
});
document.getElementById("save").addEventListener("click", () => {
  const wrong = inputs.find(input => !input.checkValidity());
  if (wrong) { wrong.focus(); wrong.reportValidity(); return; }
  // Images without a rating are left out, so that the table can be fitted on as it is.
  const rows = inputs.flatMap((input, i) => input.value === "" ? [] : [quote(settings.names[i]) + "," + input.value]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["path,mos\\n" + rows.join("\\n") + "\\n"], {type: "text/csv"}));
  link.download = settings.csv;
  link.click();
  URL.revokeObjectURL(link.href);
});
show();
</script></body></html>
"""
