"""Any image a person has -> an RGB tensor with the right pixels. The only place that decodes.

"Right" means: upright (EXIF), in sRGB (embedded ICC profile), composited on white where transparent, and converted by
value where the file has fewer or more than eight bits. Files come from strangers, so every fault of a decoder ends in
an :class:`~grepq_iqa.errors.ImageError` that names the file.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.data import containers, formats, psd, tiff
from grepq_iqa.data.formats import EXTENSIONS as EXTENSIONS
from grepq_iqa.data.orientation import orientation_of, turned
from grepq_iqa.errors import ImageError, UsageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"
Pixels: TypeAlias = "NDArray[np.float32]"
T = TypeVar("T")

MAX_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded; the limit at which Pillow itself suspects a bomb."""

_ALPHA_MODES = {"LA", "La", "RGBA", "RGBa", "PA"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
_SRGB = ImageCms.createProfile("sRGB")
_MOST_BYTES = 2 << 30
_LEAST_PREVIEW = 640
_TOO_LARGE_HINT = "raise max_pixels (--max-pixels), or shrink it first"
_OPEN_LOCK = threading.Lock()
_HIGH_DYNAMIC_RANGE = (16, 18)  # PQ and HLG among the transfer characteristics of H.273
_QUIET_LOCK = threading.Lock()
_quieting: list[Any] = []


@dataclass(frozen=True)
class DecodedImage:
    """A picture and what is to be known of it.

    Attributes:
        pixels: float32 ``(3, H, W)`` in [0, 1], shrunk where that was asked for.
        warnings: what makes the pixels less than the file promised, a sentence each; empty for a sound file.
        width: of the whole picture in pixels, upright, before shrinking.
        height: likewise.
    """

    pixels: Tensor
    warnings: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True)
class _Signal:
    """Colors by numbers instead of by a profile."""

    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    cicp: tuple[int, int, int, int] | None = None
    bit_depth: int = 8

    def __bool__(self) -> bool:
        return not (self.gamma is None and self.chromaticities is None and self.cicp is None)


_PLAIN = _Signal()


@dataclass
class _Job:
    """What is asked of one source, and what was found out on the way."""

    name: str
    max_side: int | None
    max_pixels: int
    warnings: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def check_size(self, width: int, height: int, *, reducible: bool = False) -> None:
        """Refuse what has no pixels or too many; ``reducible``: fewer could be decoded, were a size given."""
        if width <= 0 or height <= 0:
            raise ImageError(self.name, f"has no pixels ({width}x{height})")
        if width * height > self.max_pixels:
            reason = f"has {width * height / 1e6:.3g} megapixels, more than {self.max_pixels / 1e6:.3g}"
            hint = (
                "give a max_side, raise max_pixels (--max-pixels), or shrink it first" if reducible else _TOO_LARGE_HINT
            )
            raise ImageError(self.name, reason, hint)


def decode_image(source: ImageSource, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode ``source``, and say what was wrong with it though it could be read.

    Args:
        source: a path, encoded bytes, a binary file object, a PIL image, an array or a tensor. Arrays are ``(H, W)`` or
            ``(H, W, C)`` and tensors ``(C, H, W)``, with C of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha);
            bool, uint8, uint16, or floats in [0, 1].
        max_side: shrink so that the longer side has at most this many pixels; None keeps the native size.
        max_pixels: refuse larger pictures before they are decoded, except for JPEGs that ``max_side`` lets decode
            reduced to fewer.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, not finite or out of range.
    """
    job = _Job(describe_source(source), max_side, max_pixels)
    if isinstance(source, (Tensor, np.ndarray)):
        whole = _from_tensor(source, job) if isinstance(source, Tensor) else _from_array(source, job)
        job.size = (whole.shape[-1], whole.shape[-2])
        pixels = _shrink(whole, max_side)
    elif isinstance(source, Image.Image):
        pixels = torch.from_numpy(_guarded(lambda: _decode(source, job), job))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        pixels = torch.from_numpy(_read(io.BytesIO(source), job))
    elif isinstance(source, (str, os.PathLike)):
        pixels = torch.from_numpy(_read_path(source, job))
    elif hasattr(source, "read"):
        pixels = torch.from_numpy(_read(source, job))
    else:
        reason = f"cannot read an image from {type(source).__name__}"
        raise ImageError(job.name, reason, "give a path, bytes, PIL image, array or tensor")
    return DecodedImage(pixels, tuple(dict.fromkeys(job.warnings)), *job.size)


def load_image(source: ImageSource, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode ``source`` to float32 ``(3, H, W)`` in [0, 1]; as :func:`decode_image`, for the pixels alone.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, not finite or out of range.
    """
    return decode_image(source, max_side=max_side, max_pixels=max_pixels).pixels


def describe_source(source: object) -> str:
    """What messages call ``source``: its path or name where it has one, else ``<type>``."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if not isinstance(os.fspath(source), bytes) else os.fsdecode(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"


def split_batch(images: Any) -> tuple[list[Any], bool]:
    """``(sources, is_single)``: one image, or several as a list.

    Several are whatever can be gone through: a list, a tuple, a column of a table, an array of names, the values of a
    dictionary, a generator, or a ``(B, C, H, W)`` tensor.

    Raises:
        ImageError: an array with a leading batch axis, whose meaning would be a guess.
        UsageError: a whole table or a dictionary, of which only a part can be images.
    """
    if isinstance(images, Tensor):
        return (list(images), False) if images.ndim == 4 else ([images], True)
    if isinstance(images, np.ndarray):
        if images.ndim == 4:
            raise ImageError("<ndarray>", "has four axes", "pass list(array) of (H, W, C) images")
        if images.ndim == 1 and images.dtype.kind in "OUST":  # names, or pictures in a column
            return [os.fsdecode(one) if images.dtype.kind == "S" else one for one in images], False
        return [images], True
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read"):
        return [images], True
    if isinstance(images, Mapping):
        raise UsageError("a dictionary could mean its keys or its values: pass list(images) or images.values()")
    if hasattr(images, "columns") and not isinstance(images, Image.Image):
        raise UsageError('a table holds more than images: pass its column of paths, such as table["path"]')
    if isinstance(images, Iterable):
        return list(images), False
    return [images], True


def as_listed(values: Any) -> Any:
    """``values`` for NumPy: a generator or the values of a dictionary as a list, all else as it is."""
    if hasattr(values, "__array__") or hasattr(values, "__getitem__") or not isinstance(values, Iterable):
        return values
    return list(values)


# --- files ----------------------------------------------------------------------------------------------------------


def _read_path(source: str | os.PathLike[str], job: _Job) -> Pixels:
    path = Path(source)
    try:
        if path.is_dir():
            with os.scandir(path):  # a folder that may not be looked into is not the user's mistake
                raise ImageError(job.name, "is a folder, not an image")
        with path.open("rb") as file:
            return _read(file, job)
    except FileNotFoundError:
        reason = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise ImageError(job.name, reason) from None
    except PermissionError:
        raise ImageError(job.name, "permission denied", "check its permissions and those of its folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name; ImageError passes, being raised below
        if isinstance(error, ImageError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or _reason_of(error)
        raise ImageError(job.name, f"cannot be opened: {reason}") from error


def _read(file: Any, job: _Job) -> Pixels:
    """By what the file begins with: a reader of ours where Pillow's is not enough, else Pillow's."""
    file = _seekable(file, job)
    head = _guarded(lambda: _head_of(file), job)
    if not head:
        raise ImageError(job.name, "is empty")
    if head.startswith(b"\xff\xd8"):
        return _read_jpeg(_guarded(lambda: _all_of(file, job), job), job)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png(_guarded(lambda: _all_of(file, job), job), job)
    is_tiff = head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if formats.is_raw(head, job.name):
        if not formats.has_raw():
            raise _unidentified(head, job.name)
        try:
            return _read_raw(file, job)
        except ImageError:
            ordinary = is_tiff and head[8:10] != b"CR"  # Canon's do not mark which of their pages is the sensor's
            if not ordinary or _guarded(lambda: tiff.is_raw_photograph(tiff.read_pages(file)), job):
                raise
            job.warnings.clear()
    if is_tiff:  # some are named as raw files are, and hold an ordinary picture
        return _read_tiff(file, job)
    if head.startswith(b"8BPS\0\1"):
        return _read_psd(_guarded(lambda: _all_of(file, job), job), job)
    if formats.is_jxl(head) and formats.has_codecs():
        return _read_jxl(_guarded(lambda: _all_of(file, job), job), job)
    with _opened(file, job) as image:
        signal = _Signal(cicp=containers.color_code_points(file)) if image.format in ("AVIF", "HEIF") else _Signal()
        return _guarded(lambda: _decode(image, job, signal), job)


def _seekable(file: Any, job: _Job) -> Any:
    try:
        file.seek(0)
    except (AttributeError, OSError):  # a pipe
        return io.BytesIO(_guarded(lambda: file.read(_MOST_BYTES + 1), job))
    except ValueError as error:
        raise ImageError(job.name, f"cannot be opened: {_reason_of(error)}") from None
    return file


def _head_of(file: Any) -> bytes:
    file.seek(0)
    head = file.read(64)
    if not isinstance(head, bytes):
        raise TypeError("it gives text instead of bytes")
    return head


def _all_of(file: Any, job: _Job) -> bytes:
    file.seek(0)
    data: bytes = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ImageError(job.name, f"is larger than {_MOST_BYTES >> 30} GB")
    return data


def _opened(file: Any, job: _Job, names: tuple[str, ...] | None = None) -> Image.Image:
    """Pillow's image, not yet decoded; ``names``: the formats that it may be of."""
    names = names or formats.pillow_formats()
    try:
        with _quiet(), _bomb_check(job, is_lifted=names == ("JPEG",)):
            return Image.open(file, formats=names)
    except UnidentifiedImageError:
        raise _unidentified(_head_of(file), job.name) from None
    except Image.DecompressionBombError:
        raise ImageError(job.name, f"has more than {job.max_pixels / 1e6:.0f} megapixels", _TOO_LARGE_HINT) from None
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(job.name, f"cannot be decoded: {_reason_of(error)}") from error


@contextmanager
def _bomb_check(job: _Job, *, is_lifted: bool = False) -> Iterator[None]:
    """Pillow's limit, lifted where the user's is higher or a JPEG may be decoded reduced; `_Job.check_size` remains.

    It is the process's, so that only one thread at a time may be in here.
    """
    with _OPEN_LOCK:
        limit = Image.MAX_IMAGE_PIXELS
        if limit and (is_lifted or job.max_pixels > 2 * limit):
            Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _unidentified(head: bytes, name: str) -> ImageError:
    missing = formats.missing_decoder(head, name)
    if missing:
        return ImageError(name, f"is a {missing} picture, which needs an optional decoder", formats.INSTALL)
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return ImageError(name, "is PostScript, a program that is not run", "export it as PNG or JPEG")
    if head.startswith(b"%PDF"):
        return ImageError(name, "is a PDF document", "export its pages as PNG or JPEG")
    return ImageError(name, "is not an image, or of a format that Pillow cannot read")


def _guarded(decode: Callable[[], T], job: _Job) -> T:
    try:
        with _quiet():
            return decode()
    except ImageError:
        raise
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(job.name, f"is truncated or damaged: {_reason_of(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without decoders' warnings. Filters are the process's: the first thread in sets them, the last resets them."""
    with _QUIET_LOCK:
        if not _quieting:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quieting.append(catcher)
        else:
            _quieting.append(_quieting[0])
    try:
        yield
    finally:
        with _QUIET_LOCK:
            catcher = _quieting.pop()
            if not _quieting:
                catcher.__exit__(None, None, None)


# --- formats that need more than Pillow -----------------------------------------------------------------------------


def _read_jpeg(data: bytes, job: _Job) -> Pixels:
    from grepq_iqa.data.jpeg import inspect_jpeg

    state = _guarded(lambda: inspect_jpeg(data), job)
    if state.truncated:
        raise ImageError(job.name, "is truncated or damaged: " + ("; ".join(state.warnings) or "its end is missing"))
    job.warnings += state.warnings
    with _opened(io.BytesIO(state.repaired or data), job, ("JPEG",)) as image:
        return _guarded(lambda: _decode(image, job), job)


def _read_png(data: bytes, job: _Job) -> Pixels:
    from grepq_iqa.data.png import read_png_chunks

    state = _guarded(lambda: read_png_chunks(data), job)
    with _opened(io.BytesIO(state.repaired or data), job, ("PNG",)) as image:
        transparent = image.info.get("transparency")
        if state.color_type == 0 and isinstance(transparent, int) and state.bit_depth < 8:
            # Pillow scales the pixels to 8 bits and leaves the transparent value as it is stored
            image.info["transparency"] = transparent * 255 // (2**state.bit_depth - 1)
        elif state.color_type == 2 and isinstance(transparent, tuple) and state.bit_depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # Pillow keeps the high bytes
        image.info["icc_profile"] = state.icc if state.color_source == "iCCP" else None
        signal = _PLAIN
        if state.color_source == "cICP":
            signal = _Signal(cicp=state.cicp, bit_depth=state.bit_depth)
        elif state.color_source in ("gAMA", "cHRM"):
            signal = _Signal(state.gamma, state.chromaticities)
        return _guarded(lambda: _decode(image, job, signal), job)


def _read_tiff(file: Any, job: _Job) -> Pixels:
    pages = _guarded(lambda: tiff.read_pages(file), job)
    if not pages:
        raise ImageError(job.name, "is truncated or damaged: it has no pages")
    if tiff.is_raw_photograph(pages):
        if formats.has_raw():
            return _read_raw(file, job)
        raise ImageError(job.name, "is a raw picture, which needs an optional decoder", formats.INSTALL)
    page = tiff.choose_page(pages)
    if page.index is None or (page.needs_own_reader and not _pillow_will_do(page)):
        return _guarded(lambda: _decode_tiff(file, page, job), job)
    try:
        image = _opened(file, job, ("TIFF",))
    except ImageError:
        if page.photometric not in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB, tiff.CMYK):
            raise
        return _guarded(lambda: _decode_tiff(file, page, job), job)
    with image:
        return _guarded(lambda: _decode_tiff_by_pillow(image, page, job), job)


def _pillow_will_do(page: tiff.TiffPage) -> bool:
    """Without tifffile: one channel of 16 bits or of floats is read right by Pillow, but for the sense of black."""
    by_numpy = page.number(tiff.COMPRESSION, 1) in (1, 8, 32946)
    plain = page.bits in ((16,), (32,)) and page.formats <= {1, 3} and page.photometric != tiff.PALETTE
    return plain and not by_numpy and not formats.has_tifffile()


def _decode_tiff_by_pillow(image: Image.Image, page: tiff.TiffPage, job: _Job) -> Pixels:
    if page.index:
        image.seek(page.index)
    # Newer Pillow turns TIFFs while loading, by rewriting the EXIF block, which fails where another tag is badly typed.
    image.getexif = Image.Exif  # type: ignore[method-assign]
    job.check_size(*image.size)
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > 2 * Image.MAX_IMAGE_PIXELS:
        with _bomb_check(job):  # TIFFs are checked again while they load
            image.load()
    image.load()
    loaded = image._new(image.im)
    palette = page.narrow_palette
    if palette:
        loaded.putpalette(palette)
    loaded.info.setdefault("icc_profile", page.icc)
    inverted = page.photometric == tiff.WHITE_IS_ZERO and loaded.mode in _SIXTEEN_BIT_MODES
    if inverted:
        loaded = Image.fromarray(65535 - np.asarray(loaded).astype(np.uint16))
    return _decode(loaded, job, orientation=_orientation_of_page(page))


def _decode_tiff(file: Any, page: tiff.TiffPage, job: _Job) -> Pixels:
    read = tiff.read_pixels(file, page, job.name, job.max_pixels)
    job.warnings += read.warnings
    orientation = _orientation_of_page(page)
    if read.whole and read.values.shape[-1] > 1:  # colors of whole numbers: Pillow's way with profiles
        bytes_of = np.rint(read.values * 255).astype(np.uint8)
        mode = "CMYK" if bytes_of.shape[-1] == 4 else "RGB"
        image = Image.frombytes(mode, bytes_of.shape[1::-1], bytes_of.tobytes())
        if read.alpha is not None and image.mode == "RGB":
            image.putalpha(Image.fromarray(np.rint(read.alpha * 255).astype(np.uint8)))
        image.info["icc_profile"] = page.icc
        return _decode(image, job, orientation=orientation)
    if read.values.shape[-1] == 4:
        raise ImageError(job.name, "is a CMYK TIFF of floating-point values", "save it with 8 bits a channel")
    return _finish_values(read.values, read.alpha, job, page.icc, orientation=orientation)


def _orientation_of_page(page: tiff.TiffPage) -> int:
    value = page.number(tiff.ORIENTATION, 1)
    value = value - 48 if 49 <= value <= 56 else value  # written as text
    return value if 1 <= value <= 8 else 1


def _read_raw(file: Any, job: _Job) -> Pixels:
    """The preview that the camera put into the file; where there is no fair one, the sensor's values developed."""
    import rawpy

    def take() -> Any:
        file.seek(0)
        with rawpy.imread(file) as raw:
            job.check_size(raw.sizes.width, raw.sizes.height)
            with suppress(rawpy.LibRawError):
                thumb = raw.extract_thumb()
                if thumb.format == rawpy.ThumbFormat.JPEG:
                    with _opened(io.BytesIO(bytes(thumb.data)), job, ("JPEG",)) as preview:
                        fair = max(preview.size) >= min(_LEAST_PREVIEW, raw.sizes.width)
                    if fair:
                        return bytes(thumb.data)
                elif not isinstance(thumb.data, bytes) and max(thumb.data.shape[:2]) >= min(
                    _LEAST_PREVIEW, raw.sizes.width
                ):
                    return np.ascontiguousarray(np.rot90(thumb.data, {3: 2, 5: 1, 6: 3}.get(raw.sizes.flip, 0)))
            job.warnings.append("is a raw file without a preview of use, and was developed with default settings")
            return raw.postprocess(use_camera_wb=True)

    found = _guarded(take, job)
    if not job.warnings:
        job.warnings.append("is a raw file, of which the embedded preview was read")
    if isinstance(found, bytes):
        return _read_jpeg(found, job)
    return _guarded(lambda: _decode(Image.fromarray(found), job), job)


def _read_psd(data: bytes, job: _Job) -> Pixels:
    header = _guarded(lambda: psd.read_header(data), job)
    if header.bits <= 8:
        with _opened(io.BytesIO(data), job, ("PSD",)) as image:
            return _guarded(lambda: _decode(image, job, keep_alpha=header.merged_alpha), job)
    job.check_size(header.width, header.height)

    def decode() -> Pixels:
        samples = psd.read_merged(data, header, job.name)
        values, said = tiff.unit_range(samples.astype(samples.dtype.newbyteorder("=")), header.bits, job.name)
        job.warnings += said
        colors = 1 if header.mode == psd.GRAY else 3
        alpha = values[..., colors] if values.shape[-1] > colors else None
        return _finish_values(values[..., :colors], alpha, job, header.icc)

    return _guarded(decode, job)


def _read_jxl(data: bytes, job: _Job) -> Pixels:
    def decode() -> Pixels:
        import imagecodecs

        size = containers.jxl_size(data)
        if size is None:
            raise ValueError("its header is missing")
        job.check_size(*size)
        values = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
        values = values[..., None] if values.ndim == 2 else values
        if values.dtype == np.uint8 and values.shape[-1] in (1, 3):
            return _decode(Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values), job)
        bits = 8 * values.dtype.itemsize
        unit, said = tiff.unit_range(values, bits, job.name)
        job.warnings += said
        has_alpha = unit.shape[-1] in (2, 4)
        return _finish_values(unit[..., :-1] if has_alpha else unit, unit[..., -1] if has_alpha else None, job, None)

    return _guarded(decode, job)


# --- Pillow's images -> pixels --------------------------------------------------------------------------------------


def _decode(
    image: Image.Image,
    job: _Job,
    signal: _Signal = _PLAIN,
    orientation: int | None = None,
    keep_alpha: bool = True,
) -> Pixels:
    """An opened image -> upright sRGB ``(3, H, W)`` on white; without ``keep_alpha`` its fourth channel is no alpha."""
    width, height = image.size
    photograph = image.format in ("JPEG", "MPO")
    if not (photograph and job.max_side):
        job.check_size(width, height, reducible=photograph)
    if image.format not in ("PSD", "HEIF") and getattr(image, "is_animated", False):  # these two open at what they show
        image.seek(0)
    if job.max_side and photograph and isinstance(image, ImageFile.ImageFile):
        image.draft(None, (job.max_side, job.max_side))  # decodes at 1/2, 1/4 or 1/8, never below max_side
        job.check_size(*image.size)
    tiles = getattr(image, "tile", None)
    frame = tiles[0][1] if image.format == "GIF" and tiles else None
    if orientation is None:
        orientation = orientation_of(image)
    job.size = (height, width) if orientation >= 5 else (width, height)
    inverted = image.format == "PSD" and image.mode == "1"  # Photoshop's bitmaps hold 1 for black
    image.load()
    profile = image.info.get("icc_profile")
    transparency = image.info.get("transparency")
    image = turned(image, orientation)
    if not keep_alpha and image.mode == "RGBA":
        image = image.convert("RGB")
    if image.mode in _SIXTEEN_BIT_MODES or image.mode in {"I", "F"}:
        values, alpha = _wide_values(image, job), None
        if isinstance(transparency, int) and image.mode != "F":
            alpha = (np.asarray(image) != transparency).astype(np.float32)
        return _finish_values(values[..., None], alpha, job, profile, signal)

    if image.mode == "1":
        image = image.convert("L")
        if inverted:
            image = ImageOps.invert(image)
        if isinstance(transparency, int):
            image.info["transparency"] = transparency
    elif image.mode in {"P", "PA", "La", "RGBa"}:
        transparent = image.mode in _ALPHA_MODES or transparency is not None
        image = image.convert("RGBA" if transparent else "RGB")
    if image.mode in {"L", "RGB"} and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if frame and tuple(frame) != (0, 0, *image.size):
        image = _on_white(image, tuple(frame))
    if job.max_side and max(image.size) > job.max_side:
        image = image.resize(_fitted(image.size, job.max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    alpha_image = image.getchannel("A") if image.mode in _ALPHA_MODES else None
    pixels = _signaled(_unit(_flat(image)), signal, job) if signal else _unit(_to_srgb(image, profile))
    if alpha_image is not None:
        opacity = _unit(alpha_image)
        pixels = pixels * opacity + (1 - opacity)
    return pixels


def _on_white(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """White outside of ``box``, the part of the canvas that the first frame covers."""
    canvas = Image.new(image.mode, image.size, "white")
    canvas.paste(image.crop(box), box[:2])
    return canvas


def _finish_values(
    values: NDArray[np.float32],
    alpha: NDArray[np.float32] | None,
    job: _Job,
    profile: bytes | None,
    signal: _Signal = _PLAIN,
    orientation: int = 1,
) -> Pixels:
    """``(H, W, 1 or 3)`` of more than eight bits -> sRGB ``(3, H, W)`` on white."""
    planes = [np.ascontiguousarray(values[..., channel]) for channel in range(values.shape[-1])]
    if alpha is not None:
        planes.append(np.ascontiguousarray(alpha))
    height, width = planes[0].shape
    job.check_size(width, height)
    if orientation > 1 or not any(job.size):
        job.size = (height, width) if orientation >= 5 else (width, height)
    planes = [_resized(plane, job.max_side, orientation) for plane in planes]
    opacity = planes.pop() if alpha is not None else None
    colors = np.stack(planes if len(planes) == 3 else planes[:1] * 3)
    if signal:
        colors = _signaled(colors, signal, job)
    elif profile:
        colors = _managed(colors, profile, gray=len(planes) == 1)
    if opacity is not None:
        colors = colors * opacity + (1 - opacity)
    return np.ascontiguousarray(colors, dtype=np.float32)


def _resized(plane: NDArray[np.float32], max_side: int | None, orientation: int) -> NDArray[np.float32]:
    height, width = plane.shape
    if not (max_side and max(height, width) > max_side) and orientation == 1:
        return plane
    image = turned(Image.fromarray(plane), orientation)
    if max_side and max(image.size) > max_side:
        image = image.resize(_fitted(image.size, max_side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, np.float32), 0, 1)


def _wide_values(image: Image.Image, job: _Job) -> NDArray[np.float32]:
    """16-bit, 32-bit integer and float pictures as values in [0, 1], scaled by their range."""
    values = np.asarray(image)
    if image.mode in _SIXTEEN_BIT_MODES:
        return np.asarray(values.astype(np.float32) / np.float32(65535), np.float32)
    # "I" is Pillow's name for 16-bit PNG and PGM in its older releases, and for 32-bit TIFF. Its float pictures are
    # 0..255 when made from 8 bits, 0..1 in most TIFF files.
    unit, said = tiff.unit_range(values, 32, job.name)
    job.warnings += said
    return unit


def _flat(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _signaled(pixels: Pixels, signal: _Signal, job: _Job) -> Pixels:
    """Colors that the file describes by gamma, chromaticities or code points, in sRGB."""
    from grepq_iqa.data.color import to_srgb

    try:
        managed = to_srgb(
            np.ascontiguousarray(pixels.transpose(1, 2, 0)),
            gamma=signal.gamma,
            chromaticities=signal.chromaticities,
            cicp=signal.cicp,
            bit_depth=signal.bit_depth,
        )
    except ValueError as error:
        if signal.cicp and signal.cicp[1] in _HIGH_DYNAMIC_RANGE:
            raise ImageError(job.name, _reason_of(error), "export it as an ordinary JPEG or PNG") from None
        job.warnings.append(f"names colors that are not known, and was taken as sRGB: {_reason_of(error)}")
        return pixels
    return np.ascontiguousarray(managed.transpose(2, 0, 1), dtype=np.float32)


def _managed(pixels: Pixels, profile: bytes, *, gray: bool) -> Pixels:
    """Values of more than eight bits through an embedded profile; an unusable one is ignored, as browsers do."""
    from grepq_iqa.data.color import is_srgb_profile

    if is_srgb_profile(profile):
        return pixels
    if not gray:  # littleCMS takes eight bits from Pillow
        image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8).transpose(1, 2, 0).copy())
        return _unit(_to_srgb(image, profile))
    # One curve: what the profile makes of 256 steps, and straight lines between them.
    steps = _unit(_to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), profile))[1, 0]
    managed: Pixels = np.interp(pixels, np.linspace(0, 1, 256), steps).astype(np.float32)
    return managed


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Color-managed RGB without alpha; an unusable profile is ignored, as browsers do."""
    from grepq_iqa.data.color import is_srgb_profile

    mode = {"LA": "L", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, _SRGB, outputMode="RGB") or image.convert("RGB")
    if mode == "L" and profile and profile[16:20] == b"RGB ":  # a color picture made gray that kept its profile
        mode = "RGB"
    flat = image if image.mode == mode else image.convert(mode)
    if profile and mode in {"L", "RGB", "CMYK"}:
        with suppress(Exception):
            if not is_srgb_profile(profile):
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                managed = ImageCms.profileToProfile(flat, source, _SRGB, outputMode="RGB")
                if managed is not None:
                    return managed
    return flat.convert("RGB")


def _unit(image: Image.Image) -> Pixels:
    """An 8-bit picture as ``(C, H, W)`` in [0, 1].

    By NumPy, which stays in the calling thread: torch would start threads of its own for every thread that decodes, and
    those then wait on the cores where the model computes, which cost a fifth of a picture's time.
    """
    values = np.asarray(image, dtype=np.uint8)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    pixels: Pixels = np.empty(values.shape, dtype=np.float32)
    np.divide(values, np.float32(255), out=pixels)
    return pixels


def _reason_of(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# --- arrays and tensors ---------------------------------------------------------------------------------------------


def _from_array(array: NDArray[Any], job: _Job) -> Tensor:
    name = job.name
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4):
        hint = "channels go last, (H, W) or (H, W, C)"
        raise ImageError(name, f"an array of shape {array.shape} is not an image", hint)
    scale = {"b": 1.0, "u": float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else 0.0, "f": 1.0}.get(
        array.dtype.kind
    )
    if scale is None or (array.dtype.itemsize > 2 and array.dtype.kind == "u"):
        raise ImageError(name, f"cannot tell the range of {array.dtype}", "use uint8, uint16, or floats in 0..1")
    values = np.ascontiguousarray(array).astype(np.float32)
    return _finish(torch.from_numpy(values).permute(2, 0, 1) / scale, job)


def _from_tensor(tensor: Tensor, job: _Job) -> Tensor:
    name = job.name
    if tensor.ndim == 4 and len(tensor) == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 2, 3, 4):
        hint = "channels go first, (C, H, W)"
        raise ImageError(name, f"a tensor of shape {tuple(tensor.shape)} is not an image", hint)
    scales = {torch.bool: 1.0, torch.uint8: 255.0, torch.uint16: 65535.0}
    if not tensor.is_floating_point() and tensor.dtype not in scales:
        raise ImageError(name, f"cannot tell the range of {tensor.dtype}", "use uint8, or floats in 0..1")
    return _finish(tensor.detach().to("cpu", torch.float32) / scales.get(tensor.dtype, 1.0), job)


def _finish(pixels: Tensor, job: _Job) -> Tensor:
    """Range check, alpha on white, gray to RGB, for ``(C, H, W)`` floats."""
    channels, height, width = pixels.shape
    name = job.name
    job.check_size(width, height)
    if not torch.isfinite(pixels).all():
        raise ImageError(name, "has pixels that are NaN or infinite")
    low, high = pixels.min().item(), pixels.max().item()
    if low < -1e-3 or high > 1 + 1e-3:  # resampling overshoots by a hair; anything more is another range
        raise ImageError(name, f"has values from {low:g} to {high:g}", "floats must be in 0..1: divide by 255?")
    pixels = pixels.clamp(0, 1)
    if channels in (2, 4):
        alpha = pixels[-1:]
        pixels = pixels[:-1] * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).contiguous()


def _shrink(pixels: Tensor, max_side: int | None) -> Tensor:
    height, width = pixels.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return pixels
    width, height = _fitted((width, height), max_side)
    return F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)


def _fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    ratio = max_side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
