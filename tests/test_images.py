"""Every kind of file a person may have, made here, against the pixels that it should give."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from grepq_iqa.data.images import load_image, split_batch
from grepq_iqa.errors import ImageError


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """A small picture without symmetry, so that a turn or a swap shows."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def expected(array: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) as the loader should return it."""
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP"])
def test_lossless_formats_give_exact_pixels(rgb, format):
    options = {"lossless": True} if format == "WEBP" else {}
    torch.testing.assert_close(load_image(encoded(Image.fromarray(rgb), format, **options)), expected(rgb))


def test_every_kind_of_source_gives_the_same_pixels(rgb, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    tensor = expected(rgb)
    sources = [path, str(path), path.read_bytes(), path.open("rb"), io.BytesIO(path.read_bytes()), Image.open(path)]
    sources += [rgb, rgb.astype(np.float64) / 255, tensor, tensor[None], torch.from_numpy(rgb).permute(2, 0, 1)]
    sources += [rgb.astype(np.uint16) * 257, (rgb / 255).astype(np.float32), rgb[:, ::-1][:, ::-1]]
    for source in sources:
        loaded = load_image(source)
        assert loaded.dtype == torch.float32 and loaded.is_contiguous()
        torch.testing.assert_close(loaded, tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(rgb, orientation):
    turned = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1),
        7: rgb.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(rgb),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(encoded(Image.fromarray(rgb), "PNG", exif=exif))
    torch.testing.assert_close(loaded, expected(np.ascontiguousarray(turned)))


def test_transparency_is_composited_on_white(rgb):
    alpha = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    image = Image.fromarray(np.dstack([rgb, alpha]))
    a = expected(np.repeat(alpha[..., None], 3, -1))
    want = expected(rgb) * a + 1 - a
    torch.testing.assert_close(load_image(encoded(image, "PNG")), want)
    torch.testing.assert_close(load_image(np.dstack([rgb, alpha])), want)
    gray = Image.fromarray(np.dstack([rgb[..., 0], alpha]), "LA")
    want_gray = expected(np.repeat(rgb[..., :1], 3, -1)) * a + 1 - a
    torch.testing.assert_close(load_image(encoded(gray, "PNG")), want_gray)


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50] + [0] * 762)
    want = torch.tensor([200, 100, 50]).div(255).view(3, 1, 1).expand(3, 8, 8)
    torch.testing.assert_close(load_image(encoded(image, "PNG")), want)
    transparent = load_image(encoded(image, "PNG", transparency=1))
    torch.testing.assert_close(transparent, torch.ones(3, 8, 8))


def test_gray_one_bit_and_sixteen_bit_keep_their_values(rgb):
    gray = rgb[..., 0]
    want = expected(np.repeat(gray[..., None], 3, -1))
    torch.testing.assert_close(load_image(encoded(Image.fromarray(gray), "PNG")), want)
    bits = Image.fromarray(gray > 100).convert("1")
    assert set(load_image(encoded(bits, "PNG")).unique().tolist()) == {0.0, 1.0}
    wide = (np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        loaded = load_image(encoded(Image.fromarray(wide), format))
        torch.testing.assert_close(loaded[1], torch.from_numpy(wide.astype(np.float32) / 65535), atol=1e-6, rtol=0)


def test_float_and_32_bit_tiff():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    torch.testing.assert_close(load_image(encoded(Image.fromarray(values), "TIFF"))[0], torch.from_numpy(values))
    torch.testing.assert_close(load_image(Image.fromarray(values * 255))[0], torch.from_numpy(values))
    with pytest.raises(ImageError, match="NaN"):
        load_image(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


def test_cmyk_jpeg_and_ycbcr(rgb):
    smooth = Image.fromarray(rgb)
    loaded = load_image(encoded(smooth.convert("CMYK"), "JPEG", quality=100))
    assert (loaded - expected(rgb)).abs().mean() < 0.02
    assert (load_image(smooth.convert("YCbCr")) - expected(rgb)).abs().max() < 0.02


def test_embedded_profile_is_converted_to_srgb():
    # a linear-light profile: the value 0.5 means 0.5 of the light, which sRGB encodes as 0.735
    linear = _linear_profile()
    image = Image.new("RGB", (8, 8), (128, 128, 128))
    loaded = load_image(encoded(image, "PNG", icc_profile=linear))
    assert abs(loaded.mean().item() - 0.735) < 0.01
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    torch.testing.assert_close(load_image(encoded(image, "PNG", icc_profile=srgb)), load_image(encoded(image, "PNG")))
    torch.testing.assert_close(
        load_image(encoded(image, "PNG", icc_profile=b"junk")), load_image(encoded(image, "PNG"))
    )


def _linear_profile() -> bytes:
    """sRGB's profile with its three tone curves replaced by gamma 1.0."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    for i in range(count):
        name, offset, size = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 12] = b"curv" + struct.pack(">II", 0, 0)
        if name == b"desc":  # the loader skips profiles that call themselves sRGB
            text = bytes(data[offset : offset + size])
            data[offset : offset + size] = text.replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    return bytes(data)


def test_first_frame_of_an_animation(rgb):
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    for format in ("PNG", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        torch.testing.assert_close(load_image(data), expected(rgb))
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (load_image(gif) - expected(rgb)).abs().mean() < 0.05


def test_max_side_shrinks_and_keeps_the_shape(rgb):
    big = np.kron(rgb, np.ones((8, 8, 1), np.uint8))
    want = expected(rgb)
    sources = [big, Image.fromarray(big), encoded(Image.fromarray(big), "JPEG", quality=95), expected(big)]
    for source in sources:
        small = load_image(source, max_side=60)
        assert small.shape == (3, 40, 60)
        assert (small - want).abs().mean() < 0.02
    assert load_image(rgb, max_side=1000).shape == (3, 40, 60)
    assert load_image(np.zeros((3, 3000), np.uint8), max_side=100).shape == (3, 1, 100)


def test_missing_empty_and_foreign_files(tmp_path):
    def message(path) -> str:
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert str(path) in str(caught.value) and caught.value.source == str(path)
        return caught.value.reason

    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    assert message(tmp_path / "gone.jpg") == "does not exist"
    assert message(tmp_path / "dangling.jpg") == "is a link to a file that does not exist"
    assert message(tmp_path / "empty.jpg") == "is empty"
    assert "not an image" in message(tmp_path / "text.jpg")
    assert "folder" in message(tmp_path / "folder.jpg")
    if os.geteuid():
        (tmp_path / "locked.jpg").touch(mode=0)
        assert "permission" in message(tmp_path / "locked.jpg")


def test_wrong_extension_and_odd_names(rgb, tmp_path):
    for name in ("really-a-png.jpg", "line\nbreak.png", "snow \u2603 \U0001f600.png", "no-ending"):
        path = tmp_path / name
        path.write_bytes(encoded(Image.fromarray(rgb), "PNG"))
        torch.testing.assert_close(load_image(path), expected(rgb))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_at_every_tenth(rgb, format):
    data = encoded(Image.fromarray(np.kron(rgb, np.ones((4, 4, 1), np.uint8))), format)
    for tenth in range(10):
        with pytest.raises(ImageError):
            load_image(data[: len(data) * tenth // 10])


def test_bombs_are_refused_before_decoding():
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    import zlib

    header += (
        struct.pack(">I", zlib.crc32(header[12:29])) + b"\x00\x00\x00\x00IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    with pytest.raises(ImageError, match="megapixels"):
        load_image(header)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 5, 7), np.uint8), "shape"),
        (np.zeros((2, 5, 5, 3), np.uint8), "shape"),
        (np.zeros((3, 50, 50), np.uint8), "channels go last"),
        (np.full((5, 5), np.nan, np.float32), "NaN"),
        (np.full((5, 5), np.inf, np.float32), "NaN or infinite"),
        (np.full((5, 5), 200.0), "0..1"),
        (np.full((5, 5), -0.5), "0..1"),
        (np.zeros((5, 5), np.int64), "range"),
        (torch.zeros(5, 9, 9), "channels go first"),
        (torch.zeros(3, 0, 9), "no pixels"),
        (torch.zeros(3, 9, 9, dtype=torch.int64), "range"),
        (torch.full((3, 9, 9), float("nan")), "NaN"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_unusable_arrays_and_objects(bad, words):
    with pytest.raises(ImageError, match=words):
        load_image(bad)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (10, 3000)])
def test_odd_shapes_load_at_their_size(shape):
    assert load_image(np.zeros((*shape, 3), np.uint8)).shape == (3, *shape)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), format=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000"]))
def test_flipped_bytes_give_pixels_or_an_image_error(data, format):
    good = bytearray(encoded(Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)), format))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = load_image(bytes(good))
    except ImageError:
        return
    assert pixels.ndim == 3 and len(pixels) == 3 and torch.isfinite(pixels).all()
    assert pixels.min() >= 0 and pixels.max() <= 1


def test_split_batch_knows_one_from_many(rgb):
    path = Path("a.png")
    assert split_batch(path) == ([path], True)
    assert split_batch("a.png") == (["a.png"], True)
    assert split_batch([path, path]) == ([path, path], False)
    assert split_batch([]) == ([], False)
    assert split_batch(p for p in [path])[0] == [path]
    assert len(split_batch(torch.zeros(5, 3, 8, 8))[0]) == 5
    assert split_batch(rgb)[1] and split_batch(Image.fromarray(rgb))[1]
    with pytest.raises(ImageError, match="four axes"):
        split_batch(rgb[None])
