"""Files that were read wrong or refused once: those in data/cases, and their like made here, against right pixels."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from PIL import Image

from grepq_iqa.data import formats, tiff
from grepq_iqa.data import images as images_module
from grepq_iqa.data.containers import jxl_size
from grepq_iqa.data.images import decode_image, load_image
from grepq_iqa.data.orientation import parse_orientation
from grepq_iqa.errors import ImageError

CASES = Path(__file__).parent / "data" / "cases"


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """A small photograph-like picture without symmetry."""
    y, x = np.mgrid[0:90, 0:160]
    wave = 20 * np.sin(x / 7) * np.cos(y / 5)
    return np.clip(np.stack([x + wave, 2 * y + wave, 120 + wave + x / 3 - y], -1), 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def gray(rgb) -> np.ndarray:
    return rgb[..., 1].copy()


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def close(source, wanted: np.ndarray, within: float = 2 / 255) -> None:
    """``wanted``: (H, W) or (H, W, 3) in [0, 1]."""
    wanted = np.repeat(wanted[..., None], 3, -1) if wanted.ndim == 2 else wanted
    loaded = load_image(source).permute(1, 2, 0).numpy()
    assert loaded.shape == wanted.shape
    assert np.abs(loaded - wanted).max() <= within


# --- the files of data/cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "mean", "warned"),
    [
        ("xres_srational_-1_0.jpg", (640, 360), 0.384, False),
        ("resunit_rational.jpg", (640, 360), 0.384, False),
        ("make_double.jpg", (640, 360), 0.384, False),
        ("tiff12_packed.tif", (640, 360), 0.414, False),
        ("tiff16_whiteiszero.tif", (640, 360), 0.414, False),
        ("gray16_trns_block.png", (640, 360), 0.619, False),
        ("noeoi.jpg", (640, 360), 0.384, True),
        ("psd_layers.psd", (128, 128), None, False),
    ],
)
def test_cases_give_the_right_picture(name, size, mean, warned):
    decoded = decode_image(CASES / name)
    assert (decoded.width, decoded.height) == size == decoded.pixels.shape[:0:-1]
    assert mean is None or abs(decoded.pixels.mean().item() - mean) < 0.002
    assert bool(decoded.warnings) == warned


def test_upright_cases_are_the_picture_of_the_sound_file():
    sound = load_image(CASES / "noeoi.jpg")
    for name in ("xres_srational_-1_0.jpg", "resunit_rational.jpg", "make_double.jpg"):
        assert (load_image(CASES / name) - sound).abs().mean() < 0.02


def test_damage_in_the_middle_is_told():
    assert decode_image(CASES / "zeroed_middle.jpg").warnings
    assert load_image(CASES / "zeroed_middle.jpg").shape == (3, 360, 640)


def test_the_canvas_of_a_gif_is_white_where_its_first_frame_is_not():
    loaded = load_image(CASES / "gif_undersized.gif")
    assert loaded.shape == (3, 360, 1280)
    assert (loaded[..., 640:] == 1).all() and abs(loaded[..., :640].mean().item() - 0.384) < 0.01


def test_layers_do_not_hide_the_merged_picture():
    with Image.open(CASES / "psd_layers.psd") as image:  # Pillow reads it, if nobody asks for its layers
        wanted = np.asarray(image.convert("RGB"), np.float32) / 255
    close(CASES / "psd_layers.psd", wanted, within=4 / 255)


@pytest.mark.parametrize("name", ["eps_print.jpg", "eps_loop.jpg"])
def test_nothing_is_ever_run(name, monkeypatch):
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(ImageError, match="PostScript"):
        load_image(CASES / name)


def test_the_formats_asked_of_pillow_start_no_program():
    assert not {"EPS", "WMF", "FPX", "MIC"} & set(formats.pillow_formats())
    Image.init()
    assert set(formats.PILLOW_FORMATS) - {"AVIF", "WEBP", "JPEG2000"} <= set(Image.OPEN)


# --- orientation ----------------------------------------------------------------------------------------------------


def exif_block(entries: list[tuple[int, int, int, bytes]], endian: str = "<") -> bytes:
    """``entries``: tag, type, count, four bytes of value."""
    block = {"<": b"II*\0", ">": b"MM\0*"}[endian] + struct.pack(endian + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(endian + "HHI", tag, kind, count) + value
    return b"Exif\0\0" + block + b"\0\0\0\0"


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "beside",
    [
        (0x010F, 12, 1, b"\xff\xff\xff\xff"),  # a maker that is a double outside of the block
        (0x011A, 10, 1, b"\1\0\0\0"),
        (0x0128, 5, 1, b"\xff\0\0\0"),
        (0x0132, 3, 1, b"\7\0\0\0"),
        (0x8769, 2, 9, b"\0\0\0\1"),
        (0x0110, 99, 1, b"\0\0\0\0"),
    ],
)
def test_badly_typed_neighbors_leave_the_orientation(rgb, format, endian, beside):
    entries = sorted([beside, (0x0112, 3, 1, struct.pack(endian + "HH", 6, 0))])
    block = exif_block(entries, endian)
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))
    options = {"quality": 98, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    data = encoded(sideways, format, exif=block, **options)
    close(data, rgb / 255, within=0.06 if format == "JPEG" else 1e-6)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [(3, b"\6\0\0\0", 6), (1, b"\3\0\0\0", 3), (4, b"\x08\0\0\0", 8), (2, b"6\0\0\0", 6), (3, b"\x09\0\0\0", None)],
)
def test_orientation_of_any_type(kind, value, wanted):
    assert parse_orientation(exif_block([(0x0112, kind, 1, value)])) == wanted


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_broken_blocks_say_nothing(block):
    assert parse_orientation(block) is None


# --- PNG ------------------------------------------------------------------------------------------------------------


def with_chunk(png: bytes, kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """The chunk behind the header of a PNG."""
    crc = zlib.crc32(kind + body) if crc is None else crc
    return png[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc) + png[33:]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_gray_is_of_the_depth_of_the_file(bits):
    top = 2**bits - 1
    y, x = np.mgrid[0:24, 0:32]
    values = ((x + y) % (top + 1)).astype(np.uint16) if bits < 16 else (x * 2000 + y).astype(np.uint16)
    if bits == 16:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    else:
        planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in planes.astype(np.uint8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    clear = int(values[3, 5])
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, bits, 0, 0, 0, 0))
    png += chunk(b"tRNS", struct.pack(">H", clear)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    close(png, np.where(values == clear, 1, values / top), within=1e-3)


def test_linear_light_by_gamma_or_by_a_profile_that_calls_itself_srgb(rgb):
    value = rgb / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = Image.fromarray((light * 255).round().astype(np.uint8))
    png = with_chunk(encoded(linear, "PNG"), b"gAMA", struct.pack(">I", 100000))
    bright = np.where(rgb > 60, value, 0)  # eight bits of light leave few steps in the shadows
    loaded = load_image(png).permute(1, 2, 0).numpy()
    assert np.abs(np.where(rgb > 60, loaded, 0) - bright).max() < 0.03
    usual = with_chunk(encoded(Image.fromarray(rgb), "PNG"), b"gAMA", struct.pack(">I", 45455))
    close(usual, value, within=1e-6)


def test_colors_of_display_p3_by_code_points():
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    loaded = load_image(with_chunk(encoded(image, "PNG"), b"cICP", bytes([12, 13, 0, 1]))) * 255
    wanted = torch.tensor([214.9, 92.6, 31.0]).view(3, 1, 1)  # by the matrices of P3 and sRGB
    assert (loaded - wanted).abs().max() < 1.5


def test_a_wrong_checksum_of_a_text_costs_nothing(rgb):
    png = with_chunk(encoded(Image.fromarray(rgb), "PNG"), b"tEXt", b"Comment\0hello", crc=1)
    close(png, rgb / 255, within=1e-6)
    close(with_chunk(encoded(Image.fromarray(rgb), "PNG"), b"tEXt", b"Raw\0" + b"x" * 1_500_000), rgb / 255, 1e-6)


# --- TIFF -----------------------------------------------------------------------------------------------------------


def tiff_of(array: np.ndarray, **options) -> bytes:
    tifffile = needs("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def packed_tiff(values: np.ndarray, bits: int, deflated: bool) -> bytes:
    """Gray or RGB of values that are packed across bytes."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    loose = (values.reshape(height, -1)[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(loose.astype(np.uint8).reshape(height, -1), axis=1).tobytes()
    data = zlib.compress(data) if deflated else data
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, bits if samples == 1 else start)]
    tags += [(259, 3, 1, 8 if deflated else 1), (262, 3, 1, 1 if samples == 1 else 2), (273, 4, 1, start + 2 * samples)]
    tags += [(277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(data))]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0\x09\0" + body + b"\0\0\0\0" + struct.pack("<H", bits) * samples + data


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_packed_across_bytes(gray, rgb, bits, deflated):
    top = 2**bits - 1
    wide = np.rint(gray / 255 * top).astype(np.uint16)
    close(packed_tiff(wide, bits, deflated), gray / 255, within=1e-3)
    close(packed_tiff(np.rint(rgb / 255 * top).astype(np.uint16), bits, deflated), rgb / 255, within=1 / 255)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"tile": (64, 64)},
        {"rowsperstrip": 7},
        {"bigtiff": True},
    ],
)
def test_sixteen_bits_planes_floats_and_white_as_zero(gray, rgb, options, monkeypatch):
    wide, wide_rgb = gray.astype(np.uint16) * 257, rgb.astype(np.uint16) * 257
    unit = rgb.astype(np.float32) / 255
    plain = {**options, "predictor": None} if "predictor" in options else options
    files = [
        (tiff_of(65535 - wide, photometric="miniswhite", **options), gray / 255),
        (tiff_of(wide, photometric="minisblack", **options), gray / 255),
        (tiff_of(255 - gray, photometric="miniswhite", **options), gray / 255),
        (tiff_of(unit[..., 1].copy(), photometric="minisblack", **options), gray / 255),
        (tiff_of(wide_rgb.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", **options), rgb / 255),
        (tiff_of(unit, photometric="rgb", **options), rgb / 255),
        (tiff_of(unit.astype(np.float16), photometric="rgb", **plain), rgb / 255),
    ]
    for number, (data, wanted) in enumerate(files):
        close(data, wanted, within=1.01 / 255)
        with monkeypatch.context() as patch:  # and without the extra: the same, or a sentence that names it
            patch.setattr(images_module.formats, "has_tifffile", lambda: False)
            patch.setattr(tiff, "has_tifffile", lambda: False)
            try:
                close(data, wanted, within=1.01 / 255)
            except ImageError as error:
                assert options.get("compression") == "lzw" and number >= 4
                assert "formats" in str(error)


@pytest.mark.parametrize(("low", "high"), [(0, 1.02), (-0.01, 1), (-0.03, 1.6), (0, 4)])
def test_floats_a_little_outside_of_their_range(rgb, low, high):
    unit = rgb.astype(np.float32) / 255
    unit[0, 0], unit[1, 1] = low, high
    decoded = decode_image(tiff_of(unit, photometric="rgb"))
    assert np.abs(decoded.pixels.permute(1, 2, 0).numpy() - unit.clip(0, 1)).max() < 1e-6
    assert "cut to 0..1" in decoded.warnings[0]
    gray = unit[..., 0].copy()
    close(tiff_of(gray, photometric="minisblack"), gray.clip(0, 1), within=1e-6)


def test_floats_of_another_range_are_scaled_or_refused(rgb):
    close(tiff_of(rgb.astype(np.float32), photometric="rgb"), rgb / 255, within=1e-6)
    for bad in (rgb.astype(np.float32) * 100, rgb / np.float32(255) - np.float32(0.5)):
        with pytest.raises(ImageError, match="values from"):
            load_image(tiff_of(bad, photometric="rgb"))


def test_palettes_of_eight_and_sixteen_bits(rgb):
    image = Image.fromarray(rgb).quantize(200)
    colors = np.zeros((3, 256), np.uint16)
    palette = np.array(image.getpalette()).reshape(-1, 3).T
    colors[:, : palette.shape[1]] = palette
    wanted = np.asarray(image.convert("RGB")) / 255
    for table in (colors, colors * 257):
        close(tiff_of(np.asarray(image), photometric="palette", colormap=table), wanted, within=1e-6)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_gray_with_alpha(gray, depth, kind):
    alpha = np.tile(np.linspace(0, 255, gray.shape[1]).astype(np.uint8), (len(gray), 1))
    opacity = alpha / 255
    stored = np.rint(gray * opacity) if kind == "assocalpha" else gray
    both = np.dstack([stored, alpha]).astype(depth) * depth(257 if depth is np.uint16 else 1)
    data = tiff_of(both, photometric="minisblack", extrasamples=[kind], planarconfig="contig")
    close(data, gray / 255 * opacity + 1 - opacity, within=2 / 255)


def pages(*arrays_and_options) -> bytes:
    tifffile = needs("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for array, options in arrays_and_options:
            writer.write(array, photometric="rgb", **options)
    return buffer.getvalue()


def test_the_page_that_is_the_picture(rgb):
    small = np.ascontiguousarray(rgb[::4, ::4])
    close(pages((small, {"subfiletype": 1}), (rgb, {})), rgb / 255, 1e-6)
    close(pages((small, {"subfiletype": 1}), (small, {"subfiletype": 1}), (rgb, {"compression": "zlib"})), rgb / 255)
    close(pages((small, {"subfiletype": 1, "subifds": 1}), (rgb, {})), rgb / 255, 1e-6)
    close(pages((rgb, {"subifds": 1}), (small, {"subfiletype": 1})), rgb / 255, 1e-6)
    close(pages((rgb, {}), (255 - rgb, {})), rgb / 255, 1e-6)  # a scan of two pages
    close(pages((small, {"subfiletype": 1})), small / 255, 1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_tiffs(rgb, dtype, orientation):
    turns = [lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud, lambda a: a.swapaxes(0, 1)]
    turns += [lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].swapaxes(0, 1), np.rot90]
    values = {np.uint8: rgb, np.uint16: rgb.astype(np.uint16) * 257, np.float32: rgb.astype(np.float32) / 255}[dtype]
    data = tiff_of(values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    close(data, turns[orientation - 1](rgb) / 255, within=1 / 255)


# --- other formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(0, 0), (30, 10)])
def test_any_place_of_the_first_frame_of_a_gif(rgb, at):
    image = Image.fromarray(rgb).quantize(64)
    height, width = rgb.shape[:2]
    data = bytearray(encoded(image, "GIF"))
    frame = data.index(b",\0\0\0\0" + struct.pack("<HH", width, height))
    data[6:10] = struct.pack("<HH", width + 40, height + 20)
    data[frame + 1 : frame + 5] = struct.pack("<HH", *at)
    wanted = np.ones((height + 20, width + 40, 3))
    wanted[at[1] : at[1] + height, at[0] : at[0] + width] = np.asarray(image.convert("RGB")) / 255
    close(bytes(data), wanted, within=1e-6)


def photoshop(values: np.ndarray, bits: int, mode: int, layers: bytes = b"") -> bytes:
    """``values``: (H, W, channels) of bytes as stored, or of big-endian words."""
    height, width, channels = values.shape
    if bits == 1:
        width = width * 8
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, height, width, bits, mode)
    return head + bytes(8) + struct.pack(">I", len(layers)) + layers + b"\0\0" + values.transpose(2, 0, 1).tobytes()


def test_photoshop_files_of_one_and_sixteen_bits(gray, rgb):
    black = gray < 100
    close(photoshop(np.packbits(black, axis=1)[..., None], 1, 0), (~black).astype(float), within=0)
    wide = rgb.astype(">u2") * 257
    close(photoshop(wide.astype(">u2"), 16, 3), rgb / 255, within=1e-3)
    close(photoshop(wide[..., 1:2].astype(">u2"), 16, 1), gray / 255, within=1e-3)


def test_a_saved_selection_in_a_photoshop_file_is_no_transparency(rgb):
    four = np.dstack([rgb, rgb[..., 0]])
    close(photoshop(four, 8, 3), rgb / 255, within=1e-6)
    opacity = rgb[..., :1] / 255
    merged = struct.pack(">Ih", 2, -1)
    close(photoshop(four, 8, 3, merged), rgb / 255 * opacity + 1 - opacity, within=1e-3)


@pytest.mark.needs("pillow_heif>=1.7")
def test_heic(rgb):
    assert ".heic" in formats.EXTENSIONS and "HEIF" in formats.pillow_formats()
    smooth = Image.fromarray(rgb)
    loaded = load_image(encoded(smooth, "HEIF", quality=95))
    assert (loaded.permute(1, 2, 0).numpy() - rgb / 255).__abs__().mean() < 0.03


@pytest.mark.needs("pillow_heif>=1.7")
def test_heic_is_turned_once(rgb):
    import pillow_heif

    sideways = pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(np.rot90(rgb))))
    sideways.info["original_orientation"] = 6  # written into the container, as phones do, beside the EXIF block
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    sideways.save(buffer, exif=exif.tobytes(), quality=95)
    assert b"irot" in buffer.getvalue()
    decoded = decode_image(buffer.getvalue())
    assert decoded.pixels.shape == (3, 90, 160) and (decoded.width, decoded.height) == (160, 90)
    assert (decoded.pixels.permute(1, 2, 0).numpy() - rgb / 255).__abs__().mean() < 0.03


@pytest.mark.needs("pillow_heif>=1.7")
@pytest.mark.parametrize("main", [0, 1])
def test_heic_shows_its_main_picture_wherever_it_lies(main):
    import pillow_heif

    colors = [(200, 30, 30), (30, 30, 200)]
    burst = pillow_heif.from_pillow(Image.new("RGB", (64, 48), colors[0]))
    burst.add_from_pillow(Image.new("RGB", (80, 64), colors[1]))
    buffer = io.BytesIO()
    burst.save(buffer, primary_index=main, quality=95)
    loaded = load_image(buffer.getvalue())
    assert loaded.shape[1:] == ((48, 64), (64, 80))[main]
    assert (loaded * 255 - torch.tensor(colors[main]).view(3, 1, 1)).abs().mean() < 8


@pytest.mark.needs("imagecodecs")
def test_colors_of_display_p3_by_the_container_of_avif():
    import imagecodecs

    flat = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    plain = load_image(imagecodecs.avif_encode(flat, level=95, primaries=1, transfer=13)) * 255
    assert (plain - torch.tensor([200.0, 100, 50]).view(3, 1, 1)).abs().max() < 3
    wide = load_image(imagecodecs.avif_encode(flat, level=95, primaries=12, transfer=13)) * 255
    assert (wide - torch.tensor([214.9, 92.6, 31.0]).view(3, 1, 1)).abs().max() < 4
    with pytest.raises(ImageError, match="high dynamic range"):
        load_image(imagecodecs.avif_encode(flat, level=95, primaries=9, transfer=16))


@pytest.mark.needs("PIL._avif")
def test_avif_is_turned_once(rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))
    loaded = load_image(encoded(sideways, "AVIF", quality=95, exif=exif))
    assert loaded.shape == (3, 90, 160)
    assert (loaded.permute(1, 2, 0).numpy() - rgb / 255).__abs__().mean() < 0.03


@pytest.mark.needs("imagecodecs")
def test_jpeg_xl(rgb, gray):
    import imagecodecs

    close(imagecodecs.jpegxl_encode(rgb, lossless=True), rgb / 255, within=1e-6)
    close(imagecodecs.jpegxl_encode(gray, lossless=True), gray / 255, within=1e-6)
    close(imagecodecs.jpegxl_encode(rgb.astype(np.uint16) * 257, lossless=True), rgb / 255, within=1e-5)
    photo = encoded(Image.fromarray(rgb), "JPEG", quality=95)
    wrapped = imagecodecs.jpegxl_encode_jpeg(photo)
    assert jxl_size(wrapped) == (160, 90)
    assert (load_image(wrapped) - load_image(photo)).abs().mean() < 0.01
    with pytest.raises(ImageError, match="megapixels"):
        load_image(wrapped, max_pixels=100)


@pytest.mark.parametrize(
    ("head", "name", "kind", "decoder"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(60), "a.heic", "HEIC", "has_heif"),
        (b"\xff\x0a" + bytes(60), "a.jxl", "JPEG XL", "has_codecs"),
        (b"FUJIFILMCCD-RAW " + bytes(60), "a.raf", "raw", "has_raw"),
    ],
)
def test_a_missing_decoder_is_named(head, name, kind, decoder, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, decoder, lambda: False)
    monkeypatch.setattr(formats, "pillow_formats", lambda: formats.PILLOW_FORMATS)
    (tmp_path / name).write_bytes(head)
    with pytest.raises(ImageError, match=rf"{kind} picture.*pip install 'grepq-iqa\[formats\]'"):
        load_image(tmp_path / name)


@pytest.mark.needs("rawpy")
def test_raw_files_by_their_preview(rgb, tmp_path, monkeypatch):
    import rawpy

    preview = encoded(Image.fromarray(np.kron(rgb, np.ones((8, 8, 1), np.uint8))), "JPEG", quality=95)

    class Raw:
        sizes = type("Sizes", (), {"width": 4000, "height": 3000, "flip": 0})

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def extract_thumb(self):
            return rawpy.Thumbnail(rawpy.ThumbFormat.JPEG, preview)

    monkeypatch.setattr(rawpy, "imread", lambda _: Raw())
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(90))
    decoded = decode_image(tmp_path / "a.cr2")
    assert decoded.pixels.shape == (3, 720, 1280) and "preview" in decoded.warnings[0]


@pytest.mark.needs("rawpy")
def test_damaged_raw_files_are_refused(tmp_path):
    for name, head in (
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0"),
        ("a.nef", b"MM\0*\0\0\0\x08"),
        ("a.raf", b"FUJIFILMCCD-RAW "),
    ):
        (tmp_path / name).write_bytes(head + bytes(200))
        with pytest.raises(ImageError):
            load_image(tmp_path / name)


def test_the_thumbnail_of_a_raw_file_is_never_taken_for_the_picture(rgb, monkeypatch, tmp_path):
    small = np.ascontiguousarray(rgb[::4, ::4])
    sensor = rgb[..., 0].astype(np.uint16) * 16
    tifffile = needs("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(small, photometric="rgb", subfiletype=1, subifds=1)
        writer.write(sensor, photometric=32803)
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    monkeypatch.setattr(formats, "has_raw", lambda: False)
    with pytest.raises(ImageError, match="raw picture"):
        load_image(tmp_path / "a.tif")


@pytest.mark.needs("rawpy")
def test_an_ordinary_picture_may_be_named_as_a_raw_file(rgb, tmp_path):
    small = np.ascontiguousarray(rgb[::4, ::4])
    (tmp_path / "a.dng").write_bytes(pages((small, {"subfiletype": 1}), (rgb, {})))
    close(tmp_path / "a.dng", rgb / 255, within=1e-6)


def test_endings_have_a_rule():
    assert all(ending.startswith(".") for ending in formats.EXTENSIONS | set(formats.OTHER_PICTURES))
    always = {".mpo", ".apng", ".psd", ".jpg", ".tif"}
    assert always <= formats.EXTENSIONS and images_module.EXTENSIONS is formats.EXTENSIONS
    assert not formats.EXTENSIONS & set(formats.OTHER_PICTURES)
    for ending in (".jxl", ".hif", ".heic", ".cr2", ".dng", ".svg", ".eps", ".xcf"):
        assert ending in formats.EXTENSIONS or ending in formats.OTHER_PICTURES


# --- sizes, places, names -------------------------------------------------------------------------------------------


def test_large_photographs_are_decoded_reduced_where_a_size_is_given():
    data = encoded(Image.effect_noise((800, 600), 50).convert("RGB"), "JPEG")
    with pytest.raises(ImageError, match=r"megapixels.*max_side"):
        load_image(data, max_pixels=200_000)
    decoded = decode_image(data, max_pixels=200_000, max_side=200)
    assert decoded.pixels.shape == (3, 150, 200) and (decoded.width, decoded.height) == (800, 600)
    with pytest.raises(ImageError, match="megapixels"):
        load_image(data, max_pixels=200_000, max_side=700)
    with pytest.raises(ImageError, match="megapixels"):
        load_image(encoded(Image.new("RGB", (800, 600)), "PNG"), max_pixels=200_000, max_side=200)
    assert load_image(data, max_pixels=480_000).shape == (3, 600, 800)


def test_the_native_size_is_upright(rgb):
    exif = Image.Exif()
    exif[0x0112] = 8
    decoded = decode_image(encoded(Image.fromarray(rgb), "PNG", exif=exif), max_side=45)
    assert (decoded.width, decoded.height) == (90, 160) and decoded.pixels.shape == (3, 45, 25)
    assert decode_image(rgb, max_side=16).width == 160


def test_names_and_folders_that_cannot_be_opened(tmp_path, monkeypatch):
    for name, words in (("x" * 300, "too long|cannot be opened"), ("a\0b", "cannot be opened|does not exist")):
        with pytest.raises(ImageError, match=words):
            load_image(name)
        with pytest.raises(ImageError, match=words):
            load_image(tmp_path / name)

    def locked(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(ImageError, match="permission denied"):
        load_image(tmp_path)


def test_decoding_leaves_the_warning_filters_alone(rgb):
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    before = list(warnings.filters)
    data = encoded(Image.fromarray(rgb), "PNG")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load_image, [data] * 50))
    assert list(warnings.filters) == before
