"""Which kinds of picture are read, and by whom. Light: neither torch nor a decoder is imported with it.

Pillow is asked for the formats named here only. What it could open besides is left out for a reason: EPS starts
Ghostscript, which runs the file as a program; WMF, FPX and MIC hand it to other parts of the system; the rest (BUFR,
GRIB, HDF5, MPEG, ...) are stubs that never give pixels.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import PurePath

PILLOW_FORMATS = (
    *("AVIF", "BMP", "BLP", "CUR", "DCX", "DDS", "DIB", "FITS", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000"),
    *("MSP", "PCD", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
"""Names for the argument ``formats`` of Pillow's opener. All of them are decoded inside this process."""

RAW_EXTENSIONS = (
    frozenset((".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"))
    | frozenset((".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"))
    | frozenset([".x3f"])
)
"""What cameras write. Read by the preview in the file, where rawpy is installed."""

_ALWAYS = frozenset(
    (".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg")
) | frozenset((".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".tga", ".tif", ".tiff", ".webp"))
_HEIF_EXTENSIONS = frozenset([".heic", ".heics", ".heif", ".heifs", ".hif"])
_JXL_EXTENSIONS = frozenset([".jxl"])
# libheif in wheels before 1.7 writes out of bounds on crafted files, which has been exploited.
_OLDEST_HEIF = (1, 7)

INSTALL = "pip install 'grepq-iqa[formats]'"
"""What to do where a picture needs an optional decoder."""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@cache
def has_heif() -> bool:
    """Whether a pillow-heif is installed that is safe to give strangers' files to."""
    if not _installed("pillow_heif"):
        return False
    from importlib.metadata import PackageNotFoundError, version

    try:
        numbers = version("pillow-heif").split(".")
        return (int(numbers[0]), int(numbers[1])) >= _OLDEST_HEIF
    except (PackageNotFoundError, ValueError, IndexError):
        return False


@cache
def has_raw() -> bool:
    """Whether the previews of raw files can be taken out."""
    return _installed("rawpy")


@cache
def has_tifffile() -> bool:
    """Whether the TIFFs can be read that Pillow cannot."""
    return _installed("tifffile") and _installed("imagecodecs")


@cache
def has_codecs() -> bool:
    """Whether JPEG XL can be read; by imagecodecs, since Pillow's plug-in for it is under the GPL."""
    return _installed("imagecodecs")


@cache
def pillow_formats() -> tuple[str, ...]:
    """The allow-list for `Image.open`, with the optional decoders that are installed registered in Pillow."""
    if not has_heif():
        return PILLOW_FORMATS
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except Exception:  # a broken installation costs its own format only
        return PILLOW_FORMATS
    return (*PILLOW_FORMATS, "HEIF")


EXTENSIONS = (
    _ALWAYS
    | (_HEIF_EXTENSIONS if has_heif() else frozenset())
    | (_JXL_EXTENSIONS if has_codecs() else frozenset())
    | (RAW_EXTENSIONS - {".raw"} if has_raw() else frozenset())
)
"""What a folder is searched for, in lower case. A file that is named directly may have any name."""

_EXPORT = "export it as PNG or JPEG"
_NOT_READ = dict.fromkeys(
    (".ai", ".bpg", ".cdr", ".clip", ".emf", ".eps", ".exr", ".flif", ".hdr", ".jxr", ".kra"), _EXPORT
) | dict.fromkeys((".pdf", ".ps", ".psb", ".svg", ".svgz", ".wdp", ".wmf", ".xcf"), _EXPORT)

OTHER_PICTURES: dict[str, str] = {
    **_NOT_READ,
    **dict.fromkeys((_HEIF_EXTENSIONS | _JXL_EXTENSIONS | RAW_EXTENSIONS) - EXTENSIONS, INSTALL),
    **({".raw": "name it directly"} if has_raw() else {}),
}
"""Endings of pictures that folders are not searched for, and what to do about them."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")


def missing_decoder(head: bytes, name: str) -> str | None:
    """What kind of picture this is, where an optional decoder would read it; None where none would.

    Args:
        head: the first 64 bytes or more of the file.
        name: the file's name, whose ending tells of raw files.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not has_heif():
        return "HEIC"
    if is_jxl(head) and not has_codecs():
        return "JPEG XL"
    if is_raw(head, name) and not has_raw():
        return "raw"
    return None


def known_kind(head: bytes) -> str | None:
    """What the file says it is, though no decoder took it; None where it says nothing that is known."""
    if head[4:8] == b"ftyp" and head[8:12] in (*_HEIF_BRANDS, b"avif", b"avis"):
        return "AVIF" if head[8:12] in (b"avif", b"avis") else "HEIC"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    starts = {b"GIF8": "GIF", b"BM": "BMP", b"8BPS": "Photoshop", b"\0\0\0\x0cjP  \r\n": "JPEG 2000"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)


def is_jxl(head: bytes) -> bool:
    """Whether the file begins as JPEG XL does, bare or in its container."""
    return head[:2] == b"\xff\x0a" or head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n"


def is_raw(head: bytes, name: str) -> bool:
    """Whether the file begins as a camera's raw file does; those that are TIFFs inside are known by their ending."""
    marks = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
    if head.startswith(marks) or head[8:10] == b"CR" or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR":
        return True
    is_tiff = head[:4] in (b"II*\0", b"MM\0*")
    return is_tiff and PurePath(name).suffix.lower() in RAW_EXTENSIONS
