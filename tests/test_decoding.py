"""Formats read by readers of ours, against values computed here from the specifications or by other decoders."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from conftest import needs
from hypothesis import given
from hypothesis import strategies as st
from image_files import chunk, encoded, exif, page, png, profile, tiff
from PIL import Image, ImageFile

from grepq_iqa.data import formats
from grepq_iqa.data.decoding import tiff_pages
from grepq_iqa.data.decoding.jxl_header import read_jxl_header
from grepq_iqa.data.decoding.ranges import unit_range
from grepq_iqa.data.images import decode_image, load_image
from grepq_iqa.errors import ImageError


@pytest.fixture(scope="module")
def photo(photos) -> Image.Image:
    """A photograph, 320x200."""
    with Image.open(photos[1]) as image:
        return image.convert("RGB").resize((320, 200))


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """A small picture without symmetry."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def close(source, want: np.ndarray, atol: float = 1e-6) -> None:
    """``source`` as loaded against ``want`` ``(H, W)`` or ``(H, W, 3)`` in [0, 1]."""
    want = np.repeat(want[..., None], 3, -1) if want.ndim == 2 else want
    loaded = load_image(source).permute(1, 2, 0).numpy()
    assert loaded.shape == want.shape
    assert np.abs(loaded - want).max() <= atol


def reason(source, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(source, **options)
    return str(caught.value)


def srgb_of(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


# --- TIFF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [{}, {"rows": 7}, {"tile": 16}, {"compression": 8, "predictor": 2, "rows": 9}, {"planar": True, "rows": 7},
     {"planar": True, "tile": 32, "compression": 8}],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["gray16", "rgb16", "rgb8", "rgba16", "gray32", "float_rgb"])
def test_tiff_layouts_keep_their_values(rgb, order, layout, kind):
    unit = rgb.astype(np.float64) / 255
    fine = (unit * 65535).astype(np.uint16) + (np.arange(60) * 3).astype(np.uint16)[:, None]  # no multiples of 257
    values, want = {
        "gray16": (fine[..., 0], fine[..., 0] / 65535),
        "rgb16": (fine, fine / 65535),
        "rgb8": (rgb, unit),
        "rgba16": (np.dstack([fine, fine[..., 0]]), fine / 65535 * (fine[..., :1] / 65535) + 1 - fine[..., :1] / 65535),
        "gray32": ((unit[..., 0] * (2**32 - 1)).astype(np.uint32), unit[..., 0]),
        "float_rgb": (unit.astype(np.float32), unit),
    }[kind]
    if values.dtype.kind == "f" and layout.get("predictor"):
        layout = {**layout, "predictor": 3}
    extra = {"extra": 2} if kind == "rgba16" else {}
    close(tiff(page(values, order=order, **layout, **extra), order=order), want)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_odd_depths(bits, order):
    values = (np.arange(41 * 30).reshape(30, 41) * 3 % 2**bits).astype(np.uint16)
    close(tiff(page(values, bits, order, rows=4), order=order), values / (2**bits - 1))
    close(tiff(page(values, bits, order, photometric=0), order=order), 1 - values / (2**bits - 1))
    colors = np.stack([values, values[::-1], values[:, ::-1]], axis=-1)
    close(tiff(page(colors, bits, order), order=order), colors / (2**bits - 1))


@pytest.mark.needs("tifffile", "imagecodecs")
@pytest.mark.parametrize("compression", ["lzw", "packbits", "zstd", "lzma", "zlib"])
def test_tiff_of_every_packing(rgb, compression):
    import tifffile

    for values in (rgb, rgb.astype(np.uint16) * 200, rgb[..., 0]):
        buffer = io.BytesIO()
        options = {"predictor": True} if compression not in ("packbits", "lzma") else {}
        tifffile.imwrite(buffer, values, compression=compression, rowsperstrip=8, **options)
        close(buffer.getvalue(), values / (255 if values.dtype == np.uint8 else 65535))


@given(
    bits=st.integers(1, 32),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "int8", "int16", "int32"]),
    data=st.data(),
)
def test_whole_numbers_are_scaled_into_the_range_or_refused(bits, dtype, data):
    """Whatever bits a damaged file promises beside what its samples are."""
    limits = np.iinfo(dtype)
    values = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1, max_size=6))
    try:
        found, _ = unit_range(np.array(values, dtype=dtype), bits, "x")
    except ImageError:
        return
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_a_tiff_of_no_samples_or_of_senseless_numbers_is_a_sentence(photo):
    """277 SamplesPerPixel, 258 BitsPerSample, 339 SampleFormat, each as no writer would."""
    plain = bytearray(encoded(photo.convert("L"), "TIFF"))
    for tag, kind, value in ((277, 3, 0), (258, 3, 0), (339, 3, 0), (258, 11, 0x7F800000), (277, 11, 0x7F800000)):
        data = bytearray(plain)
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        places = [start + 2 + 12 * n for n in range(count)]
        at = next((one for one in places if struct.unpack_from("<H", data, one)[0] == tag), places[0])
        struct.pack_into("<HHII", data, at, tag, kind, 1, value)
        for photometric in (1, 8):
            for one in places:
                if struct.unpack_from("<H", data, one)[0] == 262:
                    struct.pack_into("<HHII", data, one, 262, 3, 1, photometric)
            try:
                load_image(bytes(data))
            except ImageError as error:
                assert error.reason


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_damage_within_strips_is_told(photo, compression, dtype):
    values = np.asarray(photo)
    if compression == "tiff_lzw":
        needs("imagecodecs")
    if compression == "jpeg" and dtype == np.uint16:
        return
    if dtype == np.uint8:
        data = encoded(photo, "TIFF", compression=compression)
    else:
        data = encoded(Image.fromarray(values[..., 0].astype(dtype) * 257), "TIFF", compression=compression)
    assert decode_image(data).warnings == ()
    at = len(data) // 2
    damaged = data[:at] + bytes(100) + data[at + 100 :]
    if compression == "jpeg":
        assert "damaged" in decode_image(damaged).warnings[0]
    else:
        assert "damaged" in reason(damaged)


def test_color_profile_of_sixteen_bits_keeps_precision(rgb):
    fine = rgb.astype(np.uint16) * 250 + 11
    light = srgb_of(fine / 65535)  # the profile says: linear
    linear = {34675: (7, profile(1.0))}
    close(tiff(page(fine, tags=linear)), light, 4e-4)  # its matrix is rounded, which shows near black
    close(tiff(page(fine[..., 0], tags=linear)), light[..., 0], 1e-4)


def test_uncompressed_ycbcr_at_reduced_resolution(rgb):
    y, cb, cr = np.asarray(Image.fromarray(rgb).convert("YCbCr")).transpose(2, 0, 1)
    for across, down in ((2, 2), (2, 1), (1, 1), (4, 2)):
        luma = y.reshape(40 // down, down, 60 // across, across).transpose(0, 2, 1, 3)
        luma = luma.reshape(40 // down, 60 // across, across * down)
        units = np.concatenate([luma, cb[::down, ::across, None], cr[::down, ::across, None]], -1).astype(np.uint8)
        tags = {256: 60, 257: 40, 258: [8, 8, 8], 259: 1, 262: 6, 277: 3, 278: 40, 284: 1, 530: [across, down]}
        data = tiff({**tags, "pixels": [units.tobytes()]})
        close(data, rgb / 255, 0.012 if across == down == 1 else 0.07)
        assert "truncated" in reason(tiff({**tags, "pixels": [units.tobytes()[:-1]]}))


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab of white D50 by the formulas of CIE 15 and the matrix of the ICC's sRGB profile."""
    unit = rgb / 255
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    t = light @ to_xyz.T / np.array([0.9642, 1, 0.8249])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [8, 9])
def test_lab(rgb, bits, photometric):
    lab = lab_of(rgb)
    most = {(8, 8): 255, (8, 9): 255, (16, 8): 65535, (16, 9): 65280}[bits, photometric]
    middle = {8: 0, 9: 128}[photometric]
    step = 1 if bits == 8 else 256
    coded = np.rint(np.dstack([lab[..., :1] / 100 * most, (lab[..., 1:] + middle) * step])).astype(np.int64)
    values = (coded % 2**bits).astype(np.uint8 if bits == 8 else np.uint16)
    close(tiff(page(values, photometric=photometric)), rgb / 255, 0.06 if bits == 8 else 0.004)


def test_inks_of_sixteen_bits(rgb):
    ink = np.dstack([255 - rgb, np.full_like(rgb[..., 0], 51)])
    want = rgb / 255 * 0.8
    for options in ({}, {"planar": True}):
        close(tiff(page(ink, photometric=5, **options)), want, 1 / 255)
        close(tiff(page(ink.astype(np.uint16) * 257, photometric=5, **options)), want)


def test_floats_with_glints_and_floats_of_unknown_range(rgb):
    unit = (rgb[..., 0] / 255).astype(np.float32)
    glints = unit.copy()
    glints[0, :5] = 7.5
    assert "cut to 0..1" in decode_image(tiff(page(glints))).warnings[0]
    close(tiff(page(glints)), np.clip(glints, 0, 1))
    close(tiff(page((unit * 255).astype(np.float32))), unit)
    close(tiff(page((unit * 254.3 + 0.4).astype(np.float32))), unit, 0.005)
    wide = np.where(unit > 0.8, 40.5, unit).astype(np.float32)  # a fifth of it is a bright sky: of either range?
    assert "values from" in reason(tiff(page(wide)))


def test_without_the_extra_the_sentence_names_it_or_pillow_reads_it(rgb, monkeypatch):
    for name in ("has_tifffile", "has_codecs"):
        monkeypatch.setattr(formats, name, lambda: False)
    deep = rgb.astype(np.uint16) * 257
    close(tiff(page(deep)), rgb / 255)
    lzw = encoded(Image.fromarray(deep[..., 0]), "TIFF", compression="tiff_lzw")
    close(lzw, rgb[..., 0] / 255, 1 / 255)
    unknown = tiff(page(rgb[..., 0].astype(np.uint16) * 257, compression=34712))
    assert "grepq-iqa[formats]" in reason(unknown)


# --- high dynamic range ---------------------------------------------------------------------------------------------


def shown(signal: tuple[float, float, float], transfer: int) -> list[float]:
    """One pixel of BT.2100 as sRGB: step by step after the tables of BT.2100-3, BT.2408-7 and IEC 61966-2-1."""
    if transfer == 16:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        nits = []
        for e in signal:
            p = e ** (1 / m2)
            nits.append(10000 * (max(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1))
    else:
        a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
        scene = [e * e / 3 if e <= 0.5 else (np.exp((e - c) / a) + b) / 12 for e in signal]
        ys = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
        nits = [1000 * ys**0.2 * e if ys > 0 else 0.0 for e in scene]
    xyz = to_xyz((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)) @ (np.array(nits) / 203)
    linear = np.linalg.inv(to_xyz((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))) @ xyz
    return [float(srgb_of(np.array(min(max(v, 0.0), 1.0)))) for v in linear]


def to_xyz(*primaries: tuple[float, float]) -> np.ndarray:
    """Of linear RGB with white at D65 (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns @ np.diag(np.linalg.inv(columns) @ white)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_png_is_tone_mapped_and_says_so(transfer):
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    values[0, :3] = 0, 128, 255
    data = png(values, 8, 2, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    want = np.array([[shown(tuple(p / 255 for p in pixel), transfer) for pixel in row] for row in values.tolist()])
    close(data, want, 2e-3)
    assert "tone-mapped" in decode_image(data).warnings[0]


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.5807), (18, 0.75)])
def test_reference_white_of_hdr_is_white(transfer, white):
    """BT.2408, table 1: diffuse white of 203 cd/m2 is coded as 58 % of PQ and 75 % of HLG."""
    values = np.full((4, 4, 3), round(white * 65535), np.int64)
    loaded = load_image(png(values, 16, 2, chunk(b"cICP", bytes([9, transfer, 0, 1]))))
    assert abs(loaded.mean().item() - 1) < 0.01
    darker = load_image(png(values * 9 // 10, 16, 2, chunk(b"cICP", bytes([9, transfer, 0, 1]))))
    assert darker.max() < 0.9


@pytest.mark.needs("imagecodecs", "PIL._avif")
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_avif(transfer):
    import imagecodecs

    flat = np.full((64, 64, 3), (140, 120, 100), np.uint8)
    decoded = decode_image(imagecodecs.avif_encode(flat, level=98, primaries=9, transfer=transfer))
    want = torch.tensor(shown((140 / 255, 120 / 255, 100 / 255), transfer)).view(3, 1, 1)
    assert (decoded.pixels - want).abs().max() < 0.04 and "tone-mapped" in decoded.warnings[0]


@pytest.mark.needs("pillow_heif>=1.7")
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_heic(transfer):
    import pillow_heif

    flat = Image.new("RGB", (64, 64), (140, 120, 100))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(flat).save(buffer, quality=95, chroma=444)
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"nclx") + 4, 9, transfer)
    decoded = decode_image(bytes(data))
    want = torch.tensor(shown((140 / 255, 120 / 255, 100 / 255), transfer)).view(3, 1, 1)
    assert (decoded.pixels - want).abs().max() < 0.05 and "tone-mapped" in decoded.warnings[0]


@pytest.mark.needs("pillow_heif>=1.7", "PIL._avif")
@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_truncated_heic_and_avif(photo, format):
    formats.pillow_formats()  # registers HEIF
    data = encoded(photo, format, quality=90)
    assert load_image(data).shape == (3, 200, 320)
    for length in (len(data) - 1, len(data) - 300, len(data) // 2):
        assert "truncated" in reason(data[:length])


@pytest.mark.needs("pillow_heif>=1.7")
def test_damaged_heic_is_called_damaged(photo):
    import pillow_heif

    file = pillow_heif.from_pillow(photo)
    file.add_from_pillow(photo.resize((64, 64)))
    buffer = io.BytesIO()
    file.save(buffer, primary_index=0)
    data = bytearray(buffer.getvalue())
    at = data.index(b"pitm") + 8
    main = struct.unpack_from(">H", data, at)[0]
    entry = data.index(b"infe" + bytes([2, 0, 0, 0]) + struct.pack(">H", main)) + 12
    assert data[entry : entry + 4] == b"hvc1"
    assert load_image(bytes(data)).shape == (3, 200, 320)
    data[entry : entry + 4] = b"zzzz"  # a kind that nobody knows
    assert "truncated or damaged" in reason(bytes(data))


# --- JPEG XL, AVIF, JPEG 2000 ---------------------------------------------------------------------------------------


@pytest.mark.needs("imagecodecs")
def test_jpeg_xl_header_in_every_layout(rgb):
    import imagecodecs

    for shape in ((40, 60), (64, 64), (16, 8), (200, 300), (9, 500)):
        values = np.resize(rgb, (*shape, 3))
        for options in ({"lossless": True}, {"distance": 1.0}, {"usecontainer": True}):
            header = read_jxl_header(imagecodecs.jpegxl_encode(values, **options))
            assert (header.height, header.width) == shape and header.transfer == 13
    alpha = imagecodecs.jpegxl_encode(np.dstack([rgb, rgb[..., 0]]), lossless=True)
    assert read_jxl_header(alpha).transfer == 13
    for broken in (b"", b"\xff\x0a", b"\xff" * 9, b"\xff\x0a\xff"):
        with pytest.raises(ValueError, match="codestream"):
            read_jxl_header(broken)


@pytest.mark.needs("PIL._avif")
def test_avif_beside_exif_of_a_wrong_type(rgb):
    plain = load_image(encoded(Image.fromarray(rgb), "AVIF", quality=100))
    good = exif((0x0110, 2, 4, b"abc\x00"), (0x0112, 3, 1, struct.pack("<H", 6)), (0x0128, 3, 1, b"\x02\x00"))
    data = encoded(Image.fromarray(rgb), "AVIF", quality=100, exif=good)
    bad = data.replace(struct.pack("<HHI", 0x0128, 3, 1), struct.pack("<HHI", 0x0128, 12, 1))
    assert bad != data
    torch.testing.assert_close(load_image(bad), torch.rot90(plain, -1, (1, 2)))


@pytest.mark.needs("opj_compress", "opj_decompress")
@pytest.mark.parametrize("step", [1, 2])
def test_sycc_jpeg_2000_at_reduced_resolution(photo, tmp_path, step):
    """YCC of phones and cinema: against openjpeg's own program."""
    ycc = np.asarray(photo.convert("YCbCr"))
    pair = ycc[::step, ::step, 1:]
    raw = ycc[..., 0].tobytes() + pair[..., 0].tobytes() + pair[..., 1].tobytes()
    (tmp_path / "a.yuv").write_bytes(raw)
    form = f"320,200,3,8,u@1x1:{step}x{step}:{step}x{step}"
    command = ["opj_compress", "-i", "a.yuv", "-o", "a.jp2", "-F", form, "-mct", "0"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    data = bytearray((tmp_path / "a.jp2").read_bytes())
    struct.pack_into(">I", data, data.index(b"colr") + 7, 18)
    (tmp_path / "b.jp2").write_bytes(data)
    subprocess.run(["opj_decompress", "-i", "b.jp2", "-o", "b.png"], cwd=tmp_path, check=True, capture_output=True)
    theirs = np.asarray(Image.open(tmp_path / "b.png").convert("RGB")) / 255
    ours = load_image(tmp_path / "b.jp2").permute(1, 2, 0).numpy()
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 2 / 255
    assert np.abs(ours - np.asarray(photo) / 255).mean() < 6 / 255


# --- PSD, PNG, EXIF -------------------------------------------------------------------------------------------------


def psd(
    channels: list[np.ndarray], mode: int, depth: int, *, layers: int | None = None, resources: bytes = b""
) -> bytes:
    height, width = channels[0].shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, len(channels), height, width, depth, mode)
    info = b"" if layers is None else struct.pack(">Ih", 2, layers)
    sections = [struct.pack(">I", len(part)) + part for part in (b"", resources, info)]
    planes = [channel.astype(f">u{depth // 8}").tobytes() for channel in channels]
    return head + b"".join(sections) + struct.pack(">H", 0) + b"".join(planes)


@pytest.mark.parametrize("depth", [8, 16])
def test_psd_is_put_on_white_once(rgb, depth):
    factor = 1 if depth == 8 else 257
    alpha = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    opacity = alpha[..., None] / 255
    want = rgb / 255 * opacity + 1 - opacity
    on_white = np.round(want * 255).astype(np.uint8)  # as Photoshop stores it
    for stored in (rgb, on_white):
        planes = [plane.astype(np.uint16) * factor for plane in (*stored.transpose(2, 0, 1), alpha)]
        close(psd(planes, 3, depth, layers=-1), want, 1.01 / 255)
        close(psd(planes, 3, depth, layers=1), stored / 255)  # a stored selection is no transparency


def test_psd_without_a_merged_picture(rgb):
    absent = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + b"\x00\x00\x00\x01\x00\x00"
    assert "without its merged picture" in reason(psd(list(rgb.transpose(2, 0, 1)), 3, 8, layers=2, resources=absent))


@pytest.mark.needs("imagecodecs")
def test_png_of_sixteen_bits_keeps_its_values(rgb, monkeypatch):
    fine = rgb.astype(np.int64) * 250 + np.arange(60)[:, None]
    unit, opacity = fine / 65535, fine[..., 1:2] / 65535
    transparent = chunk(b"tRNS", struct.pack(">3H", *fine[3, 3]))
    shown = np.where((fine == fine[3, 3]).all(-1)[..., None], 1, unit)
    gray = np.repeat(unit[..., :1], 3, -1) * opacity + 1 - opacity
    light = srgb_of(unit)
    kinds = [
        (png(fine, 16, 2), unit),
        (png(fine, 16, 2, transparent), shown),
        (png(np.dstack([fine, fine[..., 1]]), 16, 6), unit * opacity + 1 - opacity),
        (png(fine[..., :2], 16, 4), gray),
        (png(fine, 16, 2, chunk(b"gAMA", struct.pack(">I", 100_000))), light),
        (png(fine, 16, 2, chunk(b"eXIf", exif((0x0112, 3, 1, struct.pack("<H", 6))))), np.rot90(unit, -1)),
    ]
    for data, want in kinds:
        close(data, want, 1e-5 if want is not light else 1e-4)
        assert "truncated" in reason(data[: len(data) * 3 // 4])
    monkeypatch.setattr(formats, "has_codecs", lambda: False)
    for data, want in kinds[:4]:
        close(data, want, 2.01 / 255)


def test_damage_within_a_png_is_told(photo):
    for mode in ("RGB", "L", "P", "RGBA"):
        good = encoded(photo.convert(mode), "PNG")
        body = good.index(b"IDAT") + 4
        (length,) = struct.unpack_from(">I", good, body - 8)
        inside = body + length // 2
        flipped = good[:inside] + bytes(32) + good[inside + 32 :]
        fixed = flipped[: body + length] + struct.pack(">I", zlib.crc32(flipped[body - 4 : body + length]))
        for data in (flipped, fixed + flipped[body + length + 4 :], good[:inside] + good[inside + 5 :]):
            assert "damaged" in reason(data)


def test_png_beside_a_broken_animation(rgb):
    close(png(rgb, 8, 2, chunk(b"acTL", b"junk")), rgb / 255)
    close(png(rgb, 8, 2, chunk(b"acTL", bytes(8)), chunk(b"fcTL", b"junk")), rgb / 255)


@pytest.mark.parametrize(
    "entry",
    [(3, struct.pack("<H", 99)), (2, b"6\x00"), (5, struct.pack("<II", 13, 2)), (12, struct.pack("<d", 6.5)),
     (3, b"\0\0")],
)  # fmt: skip
def test_what_is_no_number_from_one_to_eight_turns_nothing(rgb, entry):
    block = exif((0x0112, entry[0], 1 if entry[0] != 2 else 2, entry[1]))
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        close(encoded(Image.fromarray(rgb), format, exif=b"Exif\0\0" + block, **options), rgb / 255)
    jpeg = encoded(Image.fromarray(rgb), "JPEG", quality=95)
    body = b"Exif\x00\x00" + block
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    torch.testing.assert_close(load_image(turned), load_image(jpeg))


def test_orientation_of_a_tiff_that_is_text(rgb):
    close(tiff(page(rgb, tags={274: (2, b"6\x00")})), rgb / 255)
    close(tiff(page(rgb, tags={274: 99})), rgb / 255)


# --- images that the caller opened ----------------------------------------------------------------------------------


def test_postscript_that_the_caller_opened_is_not_run(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    assert "EPS, which is not read" in reason(Image.open(io.BytesIO(text)))


def test_tiff_that_the_caller_opened_is_turned_once(rgb):
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(Image.fromarray(rgb), "TIFF", exif=turned)
    close(data, np.rot90(rgb, -1) / 255)
    close(Image.open(io.BytesIO(data)), np.rot90(rgb, -1) / 255)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    close(loaded, np.rot90(rgb, -1) / 255)


# --- raw files ------------------------------------------------------------------------------------------------------


def dng(rgb: np.ndarray, preview: bytes | None, orientation: int = 1) -> bytes:
    """A small DNG: a mosaic of one sensor, with a JPEG preview in front where there is one."""
    mosaic = rgb[..., 0].astype(np.uint16).copy() * 16
    mosaic[::2, 1::2] = rgb[::2, 1::2, 1].astype(np.uint16) * 16
    mosaic[1::2, ::2] = rgb[1::2, ::2, 1].astype(np.uint16) * 16
    mosaic[1::2, 1::2] = rgb[1::2, 1::2, 2].astype(np.uint16) * 16
    identity = (10, b"".join(struct.pack("<ii", v, 1) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    camera = {50706: (1, bytes([1, 4, 0, 0])), 50708: (2, b"Test\x00"), 271: (2, b"Test\x00"), 272: (2, b"Test\x00")}
    raw = page(mosaic, photometric=32803, tags={
        254: 0, 33421: [2, 2], 33422: (1, bytes([0, 1, 1, 2])), 50717: 4095, 274: orientation, 50721: identity,
        **camera,
    })  # fmt: skip
    if preview is None:
        return _counted(tiff(raw))
    with Image.open(io.BytesIO(preview)) as image:
        width, height = image.size
    front = {254: 1, 256: width, 257: height, 258: [8, 8, 8], 259: 7, 262: 6, 277: 3, 278: height, 274: orientation,
             50721: identity, **camera, "pixels": [preview], "below": raw}  # fmt: skip
    return _counted(tiff(front))


def _counted(data: bytes) -> bytes:
    """Fractions hold eight bytes each, so their number is not that of bytes."""
    out = bytearray(data)
    for at in range(0, len(out) - 12, 2):
        if out[at : at + 8] == struct.pack("<HHI", 50721, 10, 72):
            struct.pack_into("<I", out, at + 4, 9)
    return bytes(out)


@pytest.mark.needs("rawpy")
@pytest.mark.parametrize("named", [True, False])
def test_raw_files_by_their_preview(photo, tmp_path, named):
    sensor = np.asarray(photo.resize((1280, 800)))
    preview = encoded(photo.resize((960, 600)), "JPEG", quality=95)
    path = tmp_path / ("a.dng" if named else "a.tif")
    path.write_bytes(dng(sensor, preview))
    decoded = decode_image(path)
    torch.testing.assert_close(decoded.pixels, load_image(preview))
    assert "embedded preview" in decoded.warnings[0]
    path.write_bytes(dng(sensor, preview, orientation=6))
    torch.testing.assert_close(load_image(path), torch.rot90(load_image(preview), -1, (1, 2)))


@pytest.mark.needs("rawpy")
def test_raw_files_without_a_preview_of_use(photo, tmp_path):
    sensor = np.asarray(photo.resize((1280, 800)))
    for preview in (None, encoded(photo.resize((160, 100)), "JPEG")):
        (tmp_path / "a.dng").write_bytes(dng(sensor, preview))
        decoded = decode_image(tmp_path / "a.dng")
        assert decoded.pixels.shape == (3, 800, 1280) and "developed" in decoded.warnings[0]


def test_a_hidden_color_does_not_bleed_at_any_depth(tmp_path):
    """White beside black that is wholly transparent: on white all of it is white, also where pixels are merged."""
    seen = np.indices((64, 96)).sum(0) % 2 == 0
    for name, top in (("eight.png", 255), ("sixteen.tiff", 65535)):
        values = np.where(seen[..., None], top, 0).repeat(4, 2)
        if top == 255:
            Image.fromarray(values.astype(np.uint8), "RGBA").save(tmp_path / name)
        else:
            tifffile = pytest.importorskip("tifffile")
            tifffile.imwrite(tmp_path / name, values.astype(np.uint16), photometric="rgb", extrasamples=["unassalpha"])
        assert load_image(tmp_path / name).min() > 0.999
        assert load_image(tmp_path / name, max_side=48).min() > 0.98, name


def test_an_image_of_the_caller_stays_as_it_is(tmp_path, photos):
    with Image.open(photos[0]) as picture:
        size = picture.size
        shrunk = load_image(picture, max_side=96)
        assert max(shrunk.shape) == 96 and picture.size == size
        again = load_image(picture, max_side=96)
        np.testing.assert_array_equal(shrunk, again)
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "moving.gif") as moving:
        moving.seek(2)
        assert load_image(moving)[2].mean() > 0.9 and moving.tell() == 2  # the frame that the caller shows
        assert load_image(tmp_path / "moving.gif")[0].mean() > 0.9


def test_lack_of_memory_is_no_damage(tmp_path, photos, monkeypatch):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 1.9 GiB")

    for where in ("load", "draft"):
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load", full)
            if where == "draft":
                patch.setattr(Image, "open", full)
            with pytest.raises(ImageError, match="not enough memory for this picture") as caught:
                load_image(photos[0])
            assert "damaged" not in str(caught.value) and "--max-side" in str(caught.value)


def test_layers_of_a_tiff_are_not_spelled_out(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    layers = bytes(range(256)) * 4096
    tifffile.imwrite(
        tmp_path / "layers.tiff", np.full((20, 30, 3), 200, np.uint8), photometric="rgb",
        extratags=[(37724, 7, len(layers), layers, True)],
    )  # fmt: skip
    with (tmp_path / "layers.tiff").open("rb") as file:
        [page] = tiff_pages.read_pages(file)
    assert page.tags[37724] == layers and isinstance(page.tags[37724], bytes)
    assert load_image(tmp_path / "layers.tiff").mean() == pytest.approx(200 / 255, abs=1e-3)
