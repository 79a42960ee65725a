"""JPEG damage, PNG chunks and color spaces, each against a slow version or a decoder that shares no code with ours."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from grepq_iqa.data.decoding.color import is_srgb_profile, to_srgb
from grepq_iqa.data.decoding.jpeg_damage import DAMAGED, NO_END_MARKER, JpegState, inspect_jpeg
from grepq_iqa.data.decoding.png_chunks import PngState, apply_transparency, read_png_chunks
from grepq_iqa.data.images import load_image

PHOTOS = sorted((Path(__file__).parent.parent / "examples" / "photos").glob("*.jpg"))
GOOD = JpegState()
WRITERS = [
    pytest.param(options, id="-".join(options) or "plain")
    for options in (
        {},
        {"optimize": True},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 1},
        {"progressive": True, "restart_marker_rows": 2},
        {"optimize": True, "subsampling": 0},
    )
]


def crop(name: str = "osprey", size: tuple[int, int] = (320, 240)) -> Image.Image:
    with Image.open(next(path for path in PHOTOS if path.stem == name)) as image:
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        return image.convert("RGB").crop((left, top, left + size[0], top + size[1]))


def jpeg(image: Image.Image, quality: int = 85, **options: object) -> bytes:
    # To a file, since Pillow's buffer in memory is too small for an optimized picture that grows with restart markers.
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def scan_of(data: bytes) -> tuple[int, int]:
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"), len(data) - 2


# --- JPEG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_good_photographs_are_good(path: Path) -> None:
    assert inspect_jpeg(path.read_bytes(), thorough=True) == GOOD


@pytest.mark.parametrize("options", WRITERS)
@pytest.mark.parametrize("content", ["photo", "black", "white", "half flat", "gray", "one pixel", "cmyk"])
def test_good_files_of_any_writer_are_good(options: dict[str, object], content: str) -> None:
    photo = crop(size=(203, 151))
    half = np.array(photo)
    half[70:] = 128
    image = {
        "photo": photo,
        "black": Image.new("RGB", (203, 151)),
        "white": Image.new("RGB", (203, 151), "white"),
        "half flat": Image.fromarray(half),
        "gray": Image.new("L", (640, 480), 128),
        "one pixel": photo.crop((0, 0, 1, 1)),
        "cmyk": photo.convert("CMYK"),
    }[content]
    for quality in (1, 20, 50, 75, 90, 95):
        data = jpeg(image, quality, **options)
        assert inspect_jpeg(data, thorough=True) == GOOD, quality
        assert inspect_jpeg(data + bytes(100), thorough=True) == GOOD, quality  # padding after the end
        assert inspect_jpeg(data + b"film" * 1000 + data, thorough=True) == GOOD, quality  # a motion photo
        if "optimize" not in options:  # those may write flat areas in zeros, which padding cannot be told from
            assert inspect_jpeg(data[:-2] + bytes(20) + data[-2:], thorough=True) == GOOD, quality  # aligned output
        for cut in (1, 2):
            state = inspect_jpeg(data[:-cut])
            assert state == JpegState((NO_END_MARKER,), data), (quality, cut)


@pytest.mark.parametrize("options", WRITERS)
@pytest.mark.parametrize("kind", ["zeros", "ones", "random", "lost"])
def test_large_damage_is_found(options: dict[str, object], kind: str) -> None:
    data = jpeg(crop(size=(480, 360)), **options)
    start, end = scan_of(data)
    assert end - start > 20_000
    source, found = random.Random(7), 0
    for _ in range(20):
        place = source.randrange(start, end - 2000)
        piece = {"zeros": bytes(2000), "ones": b"\xff" * 2000, "random": source.randbytes(2000), "lost": b""}[kind]
        state = inspect_jpeg(data[:place] + piece + data[place + 2000 :])
        found += DAMAGED in state.warnings or state.truncated
    # Refinement in progressive files is mostly raw bits, of which zeros are as many as others.
    assert found >= (16 if "progressive" in options else 19)


def test_damage_in_a_large_file_is_found_without_counting() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    data = jpeg(Image.fromarray(noise))
    assert len(data) > 800_000
    assert inspect_jpeg(data) == GOOD
    middle = len(data) // 2
    for piece in (bytes(2000), b"\xff" * 2000, b"\x55" * 2000, random.Random(0).randbytes(2000)):
        assert inspect_jpeg(data[:middle] + piece + data[middle + 2000 :]).warnings == (DAMAGED,)
    lost = data[:middle] + data[middle + 2000 :]
    assert inspect_jpeg(lost, thorough=True).warnings == (DAMAGED,)


def test_missing_restart_marker_is_found() -> None:
    data = jpeg(crop(), restart_marker_rows=1)
    place = data.index(b"\xff\xd3", scan_of(data)[0])
    assert inspect_jpeg(data[:place] + data[place + 2 :], thorough=False).warnings == (DAMAGED,)


@pytest.mark.parametrize("options", WRITERS)
@pytest.mark.parametrize("tail", [b"", bytes(5000), b"\xff\xd8"[:1]], ids=["cut", "zeros", "half a marker"])
def test_truncated_is_not_repaired(options: dict[str, object], tail: bytes) -> None:
    data = jpeg(crop(), **options)
    start, end = scan_of(data)
    for share in (0.0, 0.3, 0.6, 0.9):
        state = inspect_jpeg(data[: start + int(share * (end - start))] + tail)
        assert state.truncated, share


def test_complete_but_preallocated_is_repaired() -> None:
    data = jpeg(crop())
    state = inspect_jpeg(data[:-2] + bytes(5000))
    assert state.warnings == (NO_END_MARKER,) and state.repaired is not None
    with Image.open(io.BytesIO(state.repaired)) as repaired, Image.open(io.BytesIO(data)) as original:
        assert np.array_equal(np.asarray(repaired), np.asarray(original))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_make_inspection_raise(data: st.DataObject) -> None:
    file = bytearray(jpeg(crop(size=(48, 40)), **data.draw(st.sampled_from([{}, {"progressive": True}]))))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(file) - 1))
        file[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        if not file:
            break
    for thorough in (None, True, False):
        state = inspect_jpeg(bytes(file), thorough=thorough)
        assert state.repaired is None or NO_END_MARKER in state.warnings


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"GIF89a", b"\xff\xd8\xff" * 1000])
def test_what_is_no_jpeg_is_left_to_the_decoder(data: bytes) -> None:
    assert inspect_jpeg(data) == GOOD


@pytest.mark.parametrize(
    "filler", [b"\xff", b"\xff\xd0", b"\xff\x01", b"\xff\xff\x00", b"\xff\xda\0\x08", b"\xff\xfe\0\2"]
)
def test_walk_takes_bounded_time_on_anything(filler: bytes) -> None:
    data = jpeg(crop(size=(64, 64)))
    middle = len(data) - 100
    inspect_jpeg(data[:middle] + filler * (2_000_000 // len(filler)) + data[middle:])


# --- PNG -------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes, *, good: bool = True) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ (not good))


def png(values: np.ndarray, depth: int, *extra: bytes, late: bytes = b"") -> bytes:
    """A PNG of native ``values``, (H, W) or (H, W, 3), with ``extra`` chunks before the data and ``late`` after."""
    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if values.ndim == 3 else 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(raw)), late, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PIXELS = np.asarray(crop(size=(32, 24)))
SRGB_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CHRM = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def chrm(values: tuple[float, ...] = CHRM) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *[round(value * 100_000) for value in values]))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def test_color_chunks_and_their_order() -> None:
    chunks = {
        "cICP": chunk(b"cICP", bytes([12, 13, 0, 1])),
        "iCCP": iccp(SRGB_ICC),
        "sRGB": chunk(b"sRGB", b"\0"),
        "gAMA": chunk(b"gAMA", struct.pack(">I", 45455)),
        "cHRM": chrm(),
    }
    state = read_png_chunks(png(PIXELS, 8, *chunks.values()))
    expected = PngState(8, 2, 0.45455, CHRM, True, (12, 13, 0, 1), SRGB_ICC, None, None)
    assert state == expected
    names = list(chunks)
    for first in range(len(names)):
        state = read_png_chunks(png(PIXELS, 8, *[chunks[name] for name in reversed(names[first:])]))
        assert state.color_source == names[first]
    assert read_png_chunks(png(PIXELS, 8)).color_source is None
    late = read_png_chunks(png(PIXELS, 8, late=b"".join(chunks.values())))
    assert late.color_source is None


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(chunk(b"tEXt", b"Comment\0hello", good=False), id="checksum of text"),
        pytest.param(chunk(b"gAMA", struct.pack(">I", 100_000), good=False), id="checksum of gAMA"),
        pytest.param(chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20)), id="long tEXt"),
        pytest.param(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))), id="long zTXt"),
        pytest.param(chunk(b"zTXt", b"Comment\0\7" + b"abc"), id="unknown compression"),
        pytest.param(chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3 << 20))), id="long iTXt"),
        pytest.param(iccp(SRGB_ICC[:36] + b"acsp" + bytes(3 << 20)), id="long profile"),
        pytest.param(iccp(bytes(200)), id="no profile"),
        pytest.param(chunk(b"iCCP", b"name\0\0" + b"not zlib"), id="profile not compressed"),
        pytest.param(chunk(b"iCCP", b"name\0\7abc"), id="profile compressed otherwise"),
        pytest.param(chunk(b"tRNS", b"\0"), id="short tRNS"),
        pytest.param(chunk(b"cHRM", b"\0"), id="short cHRM"),
        pytest.param(chunk(b"gAMA", b""), id="short gAMA"),
        pytest.param(chunk(b"sRGB", b""), id="short sRGB"),
        pytest.param(chunk(b"pHYs", b"\0"), id="short pHYs"),
        pytest.param(
            chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(26), good=False), id="damaged animation"
        ),
        pytest.param(b"".join(chunk(b"tEXt", b"A%d\0" % n + b"x" * (1 << 19)) for n in range(140)), id="70 MB in all"),
    ],
)
def test_bad_ancillary_chunks_cost_nothing(bad: bytes) -> None:
    kept = chunk(b"tEXt", b"Author\0someone")
    state = read_png_chunks(png(PIXELS, 8, kept, bad))
    assert state.repaired is not None and state.gamma is None
    with Image.open(io.BytesIO(state.repaired)) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), PIXELS)
        assert image.info["Author"] == "someone"
    assert read_png_chunks(state.repaired).repaired is None


def test_long_profile_is_handed_over_and_taken_out() -> None:
    profile = SRGB_ICC + bytes(2 << 20)
    state = read_png_chunks(png(PIXELS, 8, iccp(profile)))
    assert state.icc == profile and state.repaired == png(PIXELS, 8)


def test_bomb_of_a_profile_stays_small() -> None:
    bomb = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(200 << 20)))
    state = read_png_chunks(png(PIXELS, 8, bomb))
    assert state.icc is None and state.repaired == png(PIXELS, 8)


@pytest.mark.parametrize("kind", [b"IDAT", b"IHDR"])
def test_critical_chunks_stay(kind: bytes) -> None:
    data = bytearray(png(PIXELS, 8))
    place = data.index(kind)
    data[place + 4 + int.from_bytes(data[place - 4 : place], "big")] ^= 1
    assert read_png_chunks(bytes(data)).repaired is None


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_gray_by_native_value(depth: int) -> None:
    values = np.random.default_rng(depth).integers(0, 2**depth, (9, 13)).astype(np.uint16)
    wanted = int(values[3, 4])
    # The bits above the depth have no meaning.
    trns = chunk(b"tRNS", struct.pack(">H", wanted | (0xFFFF ^ (2**depth - 1))))
    state = read_png_chunks(png(values, depth, trns))
    assert state.transparent == (wanted,) and state.bit_depth == depth and state.color_type == 0
    opacity = apply_transparency(values, state.transparent)
    slow = [[0.0 if values[row, column] == wanted else 1.0 for column in range(13)] for row in range(9)]
    assert opacity.dtype == np.float32 and opacity.tolist() == slow
    assert opacity[3, 4] == 0


def test_transparent_rgb_of_sixteen_bits() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    values[0, 0] = values[2, 3] = (1000, 2000, 3000)
    values[1, 1] = (1000, 2000, 3001)  # differs in the low byte only
    state = read_png_chunks(png(values, 16, chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    assert state.transparent == (1000, 2000, 3000)
    opacity = apply_transparency(values, state.transparent)
    assert np.argwhere(opacity == 0).tolist() == [[0, 0], [2, 3]]
    with pytest.raises(ValueError, match="do not fit"):
        apply_transparency(values, (5,))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bytes_make_reading_chunks_raise(data: st.DataObject) -> None:
    extra = [
        chunk(b"cICP", bytes([9, 16, 0, 1])),
        iccp(SRGB_ICC),
        chrm(),
        chunk(b"tRNS", bytes(6)),
        chunk(b"zTXt", b"A\0\0" + zlib.compress(b"text")),
        chunk(b"iTXt", b"A\0\1\0\0\0" + zlib.compress(b"text")),
        chunk(b"gAMA", bytes(4)),
    ]
    chosen = data.draw(st.lists(st.sampled_from(extra), max_size=6))
    drawn = st.builds(
        chunk,
        st.sampled_from([b"tRNS", b"cHRM", b"gAMA", b"cICP", b"sRGB", b"iCCP", b"iTXt", b"zTXt", b"IHDR", b"quUX"]),
        st.binary(max_size=40),
        good=st.booleans(),
    )
    file = bytearray(png(PIXELS[:4, :4], 8, *chosen, *data.draw(st.lists(drawn, max_size=3))))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, max(0, len(file) - 1)))
        file[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    state = read_png_chunks(bytes(file))
    assert isinstance(state, PngState)
    if state.repaired is not None:
        assert len(state.repaired) < len(file) and read_png_chunks(state.repaired).repaired is None


def test_many_chunks_take_bounded_time() -> None:
    read_png_chunks(b"\x89PNG\r\n\x1a\n" + chunk(b"quUX", b"") * 500_000)


# --- color -----------------------------------------------------------------------------------------------------------


def slow_to_srgb(pixel: tuple[float, ...], power: float, chromaticities: tuple[float, ...]) -> list[float]:
    """One pixel by the textbook, with equations solved another way than in the package."""
    white, *points = np.array(chromaticities).reshape(4, 2).tolist()

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x, y, 1 - x - y]) / y

    basis = np.array([xyz(*point) for point in points])  # rows, each with Y = 1
    luminances = np.linalg.lstsq(basis.T, xyz(*white), rcond=None)[0]
    light = sum(luminances[i] * basis[i] * pixel[i] ** power for i in range(3))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gains = (bradford @ xyz(0.3127, 0.3290)) / (bradford @ xyz(*white))
    light = np.linalg.solve(bradford, gains * (bradford @ light))
    # The matrix of IEC 61966-2-1, rounded as printed there.
    linear = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]) @ light
    return [
        12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
        for value in (min(1.0, max(0.0, float(value))) for value in linear)
    ]


P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
COLORS = np.random.default_rng(1).random((6, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("chromaticities", [CHRM, P3, PROPHOTO])
@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.6, 0.3])
def test_gamma_and_chromaticities_by_the_textbook(gamma: float, chromaticities: tuple[float, ...]) -> None:
    result = to_srgb(COLORS, gamma=gamma, chromaticities=chromaticities)
    slow = [[slow_to_srgb(tuple(map(float, pixel)), 1 / gamma, chromaticities) for pixel in row] for row in COLORS]
    assert result.dtype == np.float32 and result.shape == COLORS.shape
    assert np.abs(result - slow).max() < 2e-3  # the printed matrix has four digits


def test_linear_photograph_comes_back() -> None:
    photo = np.asarray(crop(), np.float32) / 255
    light = np.where(photo <= 0.04045, photo / 12.92, ((photo + 0.055) / 1.055) ** 2.4).astype(np.float32)
    assert np.abs(to_srgb(light, gamma=1.0) - photo).max() < 1e-5
    assert np.abs(to_srgb(light, cicp=(1, 8, 0, 1)) - photo).max() < 1e-5
    assert np.array_equal(to_srgb(photo, gamma=0.45455, chromaticities=CHRM), photo)
    assert np.array_equal(to_srgb(photo), photo) and to_srgb(photo) is not photo


# The light that a value of one half stands for, by table 3 of ITU-T H.273.
HALF = {
    13: 0.21404,
    4: 0.5**2.2,
    5: 0.5**2.8,
    8: 0.5,
    1: 0.25972,
    7: (0.6116 / 1.1116) ** (1 / 0.45),
    9: 0.1,
    17: 52.37 / 48 * 0.5**2.6,
}


@pytest.mark.parametrize("primaries", [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22])
@pytest.mark.parametrize("curve", sorted(HALF))
def test_grays_of_code_points(primaries: int, curve: int) -> None:
    cicp = (primaries, curve, 0, 1)
    result = to_srgb(np.full((1, 1, 3), 0.5, np.float32), cicp=cicp)
    assert np.ptp(result) < 1e-3  # gray whatever the white
    assert abs(float(result.mean()) - (1.055 * HALF[curve] ** (1 / 2.4) - 0.055)) < 3e-4
    assert np.allclose(to_srgb(np.ones((1, 1, 3), np.float32), cicp=cicp), 1, atol=1e-4) or cicp[1] == 17
    assert not to_srgb(np.zeros((1, 1, 3), np.float32), cicp=cicp).any()


def test_display_p3_green() -> None:
    # What CSS Color 4 gives for color(srgb 0 1 0) in Display P3.
    inside = np.array([[[0.45840, 0.98527, 0.29829]]], np.float32)
    assert np.allclose(to_srgb(inside, cicp=(12, 13, 0, 1)), [[[0, 1, 0]]], atol=2e-3)
    assert to_srgb(np.array([[[0, 1, 0]]], np.float32), cicp=(12, 13, 0, 1))[0, 0, 1] > 0.9999


@pytest.mark.parametrize("depth", [8, 16])
def test_narrow_range(depth: int) -> None:
    top = 2**depth - 1
    values = np.array([16, 126, 235, 255, 0], np.float64) * 2 ** (depth - 8) / top
    pixels = np.repeat(values[None, :, None], 3, axis=2).astype(np.float32)
    result = to_srgb(pixels, cicp=(1, 13, 0, 0), bit_depth=depth)
    assert np.allclose(result[0, :, 0], [0, 110 / 219, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("cicp", [(1, 3, 0, 1), (3, 13, 0, 1), (200, 200, 0, 1)])
def test_code_points_without_one_meaning_are_refused(cicp: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="not defined"):
        to_srgb(COLORS, cicp=cicp)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"gamma": 1e-5},
        {"gamma": 20_000.0},
        {"chromaticities": (0.3127, 0.329, *[0.3, 0.3] * 3)},
        {"chromaticities": (0.9, 0.05, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)},
        {"chromaticities": (0.0,) * 8},
    ],
)
def test_nonsense_is_passed_over(nonsense: dict[str, object]) -> None:
    assert np.array_equal(to_srgb(COLORS, **nonsense), COLORS)


def profile(curve: bytes, chromaticities: tuple[float, ...] = CHRM, space: bytes = b"RGB ") -> bytes:
    """A version 4 profile with one curve, and for RGB a matrix, laid out by ICC.1:2022."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    points = np.array(chromaticities).reshape(4, 2)
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1]
    d50 = np.array([0.9642, 1.0, 0.8249])
    matrix = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    matrix = np.linalg.solve(bradford, np.diag(bradford @ d50 / (bradford @ xyz[:, 0])) @ bradford @ matrix)

    def point(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *[round(value * 65536) for value in values])

    name = "sRGB (linear)".encode("utf-16-be")
    text = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(name), 28) + name
    tags = {b"desc": text, b"cprt": text, b"wtpt": point(d50)}
    if space == b"RGB ":
        tags |= {key + b"TRC": curve for key in (b"r", b"g", b"b")}
        tags |= {key + b"XYZ": point(matrix[:, index]) for index, key in enumerate((b"r", b"g", b"b"))}
    else:
        tags[b"kTRC"] = curve
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for key, value in tags.items():
        value += bytes(-len(value) % 4)
        table += key + struct.pack(">II", offset + len(body), len(value))
        body += value
    header = struct.pack(
        ">I4sI4s4s4s12s4s", offset + len(body), b"lcms", 0x04300000, b"mntr", space, b"XYZ ", b"", b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", *[round(value * 65536) for value in d50])
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def power_curve(power: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, round(power * 65536))


SRGB_CURVE = b"para\0\0\0\0" + struct.pack(
    ">HH5i", 3, 0, *[round(value * 65536) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)]
)
TABLE_CURVE = b"curv\0\0\0\0" + struct.pack(
    ">I1024H", 1024, *[round(65535 * (step / 1023) ** 1.8) for step in range(1024)]
)
LINEAR_CURVE = b"curv\0\0\0\0" + struct.pack(">I", 0)
GAMMA_CURVE = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256))


def little_cms(values: np.ndarray, icc: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(values), source, target, outputMode="RGB"))


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_gray_pictures_through_profiles_of_gray_and_of_colors(kind: str, space: bytes) -> None:
    linear = profile(LINEAR_CURVE, space=space)
    for values in (np.full((8, 8), 128, np.uint8), np.full((8, 8), 32896, np.uint16)):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, kind, icc_profile=linear)
        loaded = load_image(buffer.getvalue())
        assert abs(loaded - 0.7365).max() < 0.004  # the curve of IEC 61966-2-1 at 128/255


def test_profiles_are_judged_by_what_they_do() -> None:
    assert is_srgb_profile(SRGB_ICC)
    assert is_srgb_profile(profile(SRGB_CURVE))  # whatever its name
    assert is_srgb_profile(profile(SRGB_CURVE, space=b"GRAY"))
    for icc in (
        profile(power_curve(1.0)),  # named "sRGB (linear)"
        profile(power_curve(1.8)),
        profile(SRGB_CURVE, P3),
        profile(LINEAR_CURVE, space=b"GRAY"),
        SRGB_ICC[:200],
        b"",
        bytes(300),
        SRGB_ICC[:16] + b"CMYK" + SRGB_ICC[20:],
    ):
        assert not is_srgb_profile(icc)


@pytest.mark.parametrize("chromaticities", [CHRM, P3])
@pytest.mark.parametrize("power", [1.0, 1.8])
def test_formulas_agree_with_little_cms(power: float, chromaticities: tuple[float, ...]) -> None:
    values = np.array(crop("spices_compressed", (64, 48)))
    ours = to_srgb((values / 255).astype(np.float32), gamma=1 / power, chromaticities=chromaticities)
    theirs = little_cms(values, profile(power_curve(power), chromaticities))
    assert np.abs(ours * 255 - theirs).max() < 2.1  # eight bits of linear light are coarse near black
    assert np.abs(ours * 255 - theirs).mean() < 0.4


@pytest.mark.parametrize("chromaticities", [CHRM, P3])
@pytest.mark.parametrize(
    "curve", [SRGB_CURVE, TABLE_CURVE, LINEAR_CURVE, GAMMA_CURVE], ids=["para", "table", "none", "one"]
)
def test_profiles_on_fine_values_agree_with_little_cms(curve: bytes, chromaticities: tuple[float, ...]) -> None:
    values = np.array(crop("spices_compressed", (64, 48)))
    icc = profile(curve, chromaticities)
    ours = to_srgb((values / 255).astype(np.float32), icc=icc)
    difference = np.abs(ours * 255 - little_cms(values, icc))
    assert difference.max() < 2.1 and difference.mean() < 0.4


def test_fine_steps_survive_a_profile() -> None:
    ramp = np.repeat(np.linspace(0, 1, 4096, dtype=np.float32)[None, :, None], 3, axis=2)
    result = to_srgb(ramp, icc=profile(power_curve(1.8), P3))
    assert len(np.unique(result[0, :, 1])) == 4096
    assert np.allclose(result, to_srgb(ramp, gamma=1 / 1.8, chromaticities=P3), atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_profiles_raise_only_what_is_documented(data: st.DataObject) -> None:
    icc = bytearray(profile(data.draw(st.sampled_from([SRGB_CURVE, GAMMA_CURVE, LINEAR_CURVE]))))
    for _ in range(data.draw(st.integers(1, 8))):
        icc[data.draw(st.integers(0, len(icc) - 1))] = data.draw(st.integers(0, 255))
    icc = icc[: data.draw(st.integers(0, len(icc)))] if data.draw(st.booleans()) else icc
    assert is_srgb_profile(bytes(icc)) in {True, False}
    try:
        result = to_srgb(COLORS, icc=bytes(icc))
    except ValueError:
        return
    assert result.shape == COLORS.shape and np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
