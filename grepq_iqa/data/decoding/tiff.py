"""TIFF: the page that is the picture, by a reader of ours where Pillow is wrong, coarse or silent about damage."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from grepq_iqa.data import formats
from grepq_iqa.data.decoding import tiff_pages as tags
from grepq_iqa.data.decoding.finish import finish_values
from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.jpeg_damage import inspect_jpeg
from grepq_iqa.data.decoding.opening import bomb_check, opened
from grepq_iqa.data.decoding.pillow_images import SIXTEEN_BIT_MODES, decode_opened
from grepq_iqa.data.decoding.raw import read_raw
from grepq_iqa.data.decoding.tiff_blocks import blocks_of
from grepq_iqa.data.decoding.tiff_pages import TiffPage, choose_page, is_raw_photograph, read_pages
from grepq_iqa.data.decoding.tiff_samples import is_known, is_read_here, read_pixels
from grepq_iqa.errors import ImageError

_JPEG = 7
_PILLOW_PACKINGS = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946}
"""Compressions that every build of libtiff unpacks; of others it says no more than that it failed."""
_MOST_JPEG_STRIPS = 256  # looked at for damage, evenly spaced


def read_tiff(file: Any, job: Job) -> Pixels:
    """The picture of a TIFF file.

    Raises:
        ImageError: it is too large, damaged, of a kind that is not read, or needs the extra ``formats``.
    """
    pages = guarded(lambda: read_pages(file), job)
    if not pages:
        raise ImageError(job.name, "is truncated or damaged: it has no pages")
    if is_raw_photograph(pages):
        if formats.has_raw():
            return read_raw(file, job)
        raise ImageError(job.name, "is a raw picture, which needs an optional decoder", formats.INSTALL)
    page = choose_page(pages)
    if is_read_here(page):
        return guarded(lambda: _by_own_reader(file, page, job), job)
    if page.index is not None and _is_pillow_right(page):
        try:
            image = opened(file, job, ("TIFF",))
        except ImageError:
            if not is_known(page):
                raise
        else:
            with image:
                return guarded(lambda: _by_pillow(file, image, page, job), job)
    return guarded(lambda: _by_own_reader(file, page, job), job)


def _is_pillow_right(page: TiffPage) -> bool:
    """Whether Pillow, where it reads this kind at all, reads it right; of 16 bits in color it keeps eight."""
    if page.compression not in _PILLOW_PACKINGS and formats.has_tifffile():
        return False
    if page.photometric in (tags.ICC_LAB, tags.CIE_LAB):
        return page.photometric == tags.CIE_LAB and page.bits[0] == 8
    if not is_known(page):
        return True  # YCbCr in JPEG, and what only Pillow can say no to
    if len(page.formats) != 1 or len(set(page.bits)) != 1:
        return False
    bits = page.bits[0]
    if page.formats <= {1, 4} and bits == 16:
        if page.photometric in (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO):
            return page.samples == 1 and not formats.has_tifffile()
        return page.number(tags.PLANAR, 1) == 1 and not formats.has_tifffile()
    if page.formats <= {1, 4} and bits <= 8:
        gray = page.photometric in (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO)
        return bits in (1, 2, 4, 8) and not (page.samples > 1 and (gray or bits < 8))
    plain = bits == 32 and page.formats <= {1, 3} and page.samples == 1
    return plain and page.photometric == tags.BLACK_IS_ZERO and not formats.has_tifffile()


def _by_pillow(file: Any, image: Image.Image, page: TiffPage, job: Job) -> Pixels:
    if page.compression == _JPEG:
        job.warnings += _jpeg_damage(file, page, job)
    if page.index:
        image.seek(page.index)
    # Newer Pillow turns TIFFs while loading, by rewriting the EXIF block, which fails where another tag is badly typed.
    image.getexif = Image.Exif  # type: ignore[method-assign]
    job.check_size(*image.size)
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > 2 * Image.MAX_IMAGE_PIXELS:
        with bomb_check(job):  # TIFFs are checked again while they load
            image.load()
    image.load()
    loaded = image._new(image.im)
    palette = page.narrow_palette
    if palette:
        loaded.putpalette(palette)
    loaded.info.setdefault("icc_profile", page.icc)
    inverted = page.photometric == tags.WHITE_IS_ZERO and loaded.mode in SIXTEEN_BIT_MODES
    if inverted:
        loaded = Image.fromarray(65535 - np.asarray(loaded).astype(np.uint16))
    return decode_opened(loaded, job, orientation=_orientation_of(page))


def _jpeg_damage(file: Any, page: TiffPage, job: Job) -> list[str]:
    """What is wrong with strips that are JPEGs, whose tables may stand in the directory."""
    tables = bytes(page.tags.get(tags.JPEG_TABLES, ()))
    places, lengths = blocks_of(page, job.name)[4:]
    said: list[str] = []
    for number in range(0, len(places), 1 + len(places) // _MOST_JPEG_STRIPS):
        file.seek(int(places[number]))
        strip = file.read(min(int(lengths[number]), 1 << 28))
        state = inspect_jpeg(tables[:-2] + strip[2:] if len(tables) > 4 else strip)
        said += state.warnings or (["is truncated or damaged: a strip ends too early"] if state.truncated else [])
    return said


def _by_own_reader(file: Any, page: TiffPage, job: Job) -> Pixels:
    read = read_pixels(file, page, job.name, job.max_pixels)
    job.warnings += read.warnings
    orientation = _orientation_of(page)
    values, alpha = read.values, read.alpha
    profile = None if read.managed else page.icc
    if values.shape[-1] == 4 and values.dtype != np.uint8:
        if profile is None:  # as Pillow takes inks
            values = (1 - values[..., :3]) * (1 - values[..., 3:])
        else:  # littleCMS takes eight bits from Pillow
            values, alpha = np.rint(values * 255).astype(np.uint8), None
    if values.dtype != np.uint8:
        return finish_values(values, alpha, job, profile, orientation=orientation)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[values.shape[-1]]
    image = Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes())
    if alpha is not None and mode != "CMYK":
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    image.info["icc_profile"] = profile
    return decode_opened(image, job, orientation=orientation)


def _orientation_of(page: TiffPage) -> int:
    value = page.tags.get(tags.ORIENTATION, (1,))[0]
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
