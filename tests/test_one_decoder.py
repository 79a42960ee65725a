"""Training, evaluation and scoring see the same pixels: one module decodes files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import grepq_iqa
from grepq_iqa import load_image
from grepq_iqa.errors import ImageError
from grepq_iqa.training.data.contrastive_views import ContrastiveViews, as_float
from grepq_iqa.training.data.pictures import central_square, read_picture
from grepq_iqa.training.data.prepare import prepare
from grepq_iqa.training.data.pristine_tiles import select_tiles
from grepq_iqa.training.high_level.clip_tower import CenterCrops
from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe

PACKAGE = Path(grepq_iqa.__file__).parent
DECODERS = (
    r"\bImage\s*\.\s*open\s*\(",
    r"from PIL\.Image import\b.*\bopen\b",
    r"\bimread\s*\(",
    r"\bread_image\s*\(",
    r"\bdecode_(jpeg|png)\s*\(",
    r"\bImageFile\.Parser\b",
)


def test_image_open_stands_in_one_module():
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 100
    found = [path for path, text in sources.items() if any(re.search(decoder, text) for decoder in DECODERS)]
    decoding, capture = PACKAGE / "data" / "decoding", PACKAGE / "data" / "capture.py"
    # Pillow's images, previews of raw files, and headers, of which no pixel is read.
    assert sorted(found) == [capture, decoding / "opening.py", decoding / "raw.py"]
    assert len(re.findall(DECODERS[0], sources[decoding / "opening.py"])) == 1
    assert ".load()" not in sources[capture]


@pytest.fixture(scope="module")
def pixels(photos) -> np.ndarray:
    """A crop of a photograph, uint8 ``(300, 400, 3)``."""
    with Image.open(photos[1]) as photo:
        return np.asarray(photo.convert("RGB"))[:300, :400].copy()


def sixteen_bit(pixels: np.ndarray, path: Path) -> np.ndarray:
    gray = pixels[..., 0].astype(np.uint16) * 257
    Image.fromarray(gray).save(path)
    return np.repeat(gray[..., None] / 65535, 3, axis=-1)


def transparent(pixels: np.ndarray, path: Path) -> np.ndarray:
    alpha = np.linspace(0, 255, pixels.shape[1]).astype(np.uint8)
    alpha = np.broadcast_to(alpha, pixels.shape[:2]).copy()
    Image.fromarray(np.dstack([pixels, alpha])).save(path)
    opacity = alpha[..., None] / 255
    return pixels / 255 * opacity + (1 - opacity)  # on white


def rotated(pixels: np.ndarray, path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    with Image.open(path) as stored:
        return np.rot90(np.asarray(stored) / 255, -1)


@pytest.fixture(params=[(sixteen_bit, "png"), (transparent, "png"), (rotated, "jpg")], ids=["16-bit", "alpha", "EXIF"])
def file(request, pixels, tmp_path) -> tuple[Path, np.ndarray]:
    """An image file, and its pixels ``(H, W, 3)`` in [0, 1] as a person sees them."""
    write, ending = request.param
    path = tmp_path / f"picture.{ending}"
    return path, write(pixels, path)


def test_training_sees_the_pixels_that_scoring_sees(file):
    path, want = file
    picture = read_picture(path)
    assert picture.dtype == np.float32 and picture.flags.c_contiguous and picture.shape == want.shape
    np.testing.assert_array_equal(picture, load_image(path).permute(1, 2, 0).numpy())
    np.testing.assert_allclose(picture, want, atol=2e-3)
    assert abs(picture.mean() - want.mean()) < 1e-3


def test_every_reader_of_training_sees_them(file, tmp_path):
    """The square for pooling, the crops of CLIP's tower and of contrastive views, sizes and tiles of `prepare`."""
    path, _ = file
    image = load_image(path)
    _, height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    torch.testing.assert_close(central_square(path), image[:, top : top + side, left : left + side])

    crop = CenterCrops([path], 200, 1, 1, 0)[0]["pictures"]
    y, x = (height - 200) // 2, (width - 200) // 2
    torch.testing.assert_close(crop, image[:, y : y + 200, x : x + 200])

    prepared = prepare([str(path)], tmp_path / "set")
    assert [(one.width, one.height) for one in prepared.photographs] == [(width, height)]
    recipe = load_recipe("paper", "low_level", LowLevelRecipe)
    views = ContrastiveViews(prepared.photographs, recipe, 1)
    copy = as_float(views.fixed_copies(prepared.photographs[0])[0])  # of 8 bits, as files have
    torch.testing.assert_close(copy, image, atol=0.5 / 255 + 1e-6, rtol=0)
    assert select_tiles(torch.from_numpy(read_picture(path)).permute(2, 0, 1)) == select_tiles(image)


def test_large_squares_are_shrunk_by_value(tmp_path):
    """A 16-bit ramp keeps its values at half the size."""
    ramp = np.broadcast_to(np.linspace(0, 65535, 1024).astype(np.uint16), (1024, 1024))
    Image.fromarray(ramp.copy()).save(tmp_path / "ramp.png")
    square = central_square(tmp_path / "ramp.png")
    assert square.shape == (3, 512, 512) and square.min() >= 0 and square.max() <= 1
    np.testing.assert_allclose(square[0, 100].numpy(), (np.arange(512) * 2 + 0.5) / 1023, atol=4e-3)


def test_what_cannot_be_decoded_is_an_image_error_in_training_too(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    for read in (read_picture, central_square, load_image):
        with pytest.raises(ImageError, match=r"broken\.jpg"):
            read(tmp_path / "broken.jpg")


EARLIER_WORDS = (
    r"damag", r"\bladder", r"\brungs?\b", r"blindness", r"ordinary (photo|image)", r"\brivals?\b", r"map_?distance",
    r"colour", r"centre", r"neighbour", r"licence", r"\bgrey", r"(normal|standard|optim|quant)is(e|ed|er|ation)\b",
    r"behaviour", r"labell", r"\blearnt\b",
)  # fmt: skip


def test_training_and_encoders_use_the_words_of_the_field():
    """Those of earlier versions stand in `grepq_iqa.weights.renamed` alone, which reads what these left on disk."""
    files = [
        path
        for room in ("training", "encoders")
        for path in (PACKAGE / room).rglob("*")
        if path.suffix in (".py", ".toml")
    ]
    assert len(files) > 40
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if any(re.search(word, line, re.IGNORECASE) for word in EARLIER_WORDS)
    ]
    assert found == []
