"""What is wrong with the bytes of a JPEG that decodes without complaint.

libjpeg repairs damaged data as well as it can and says so in warnings, which Pillow drops: a photograph whose lower
half is gray or shifted then looks like any other picture. Two kinds of check find such files (the rules of markers are
those of ISO/IEC 10918-1, annex B):

- The **walk** over the markers needs NumPy only and takes a millisecond for some megabytes. In entropy-coded data a
  byte 0xFF is followed by 0x00 or begins a marker (B.1.1.5), restart markers come in order (B.2.1), and what follows a
  scan is a chain of segments up to the end marker.
- The **count** feeds the bytes to Pillow's own decoder and looks at whether every scan, and every restart interval of
  it, is satisfied exactly when its bytes end. Data that were overwritten, lost or doubled hold another number of blocks
  than the frame asks for. libjpeg leaves no byte behind where it looks for a marker, and some where it waits for the
  rest of a code, so that the difference is seen from outside. It costs a decoding at an eighth of the size.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

__all__ = ["ALWAYS_COUNTED_BYTES", "JpegState", "inspect_jpeg"]

ALWAYS_COUNTED_BYTES = 6_000_000
"""Smaller files are always counted, which takes some milliseconds; larger ones where something looks suspicious."""

NO_END_MARKER = "lacks its end marker"
DAMAGED = "has damaged image data, so that parts of the picture are wrong"

_END = b"\xff\xd9"
_MAX_COUNTED_PIXELS = 178_956_970  # larger pictures are refused by the caller; counting them could take gigabytes
_MAX_COUNTED_SCANS = 200  # writers use ten or so; each scan of a few bytes costs a pass over the whole picture
_MAX_COUNTED_SEGMENTS = 2_000  # of more restart intervals an evenly spaced part is looked at
_TAIL = 8  # bytes before a segment's end in which the decoder must still have been at work; cameras pad with some
# libjpeg reads up to eight bytes ahead of the code that it decodes. Ones are the longest codes, so that a decoder which
# lacks blocks does not get them out of these.
_FILL = b"\xfe" * 10
_MOST_FILL = 4096  # bytes 0xFF before markers, of one scan; writers that align put a few, if any
_COUNTABLE_FRAMES = {0xC0, 0xC1, 0xC2}  # Huffman-coded; arithmetic decoding cannot be interrupted in libjpeg


@dataclass(frozen=True)
class JpegState:
    """What :func:`inspect_jpeg` found.

    Attributes:
        warnings: clauses to follow the file's name, such as "lacks its end marker". Empty for a good file.
        repaired: the bytes to decode in place of the file's, or None where those can be decoded as they are.
        truncated: picture data are missing at the end, not only the end marker: an error for whoever wants the picture.
    """

    warnings: tuple[str, ...] = ()
    repaired: bytes | None = None
    truncated: bool = False


def inspect_jpeg(data: bytes, *, thorough: bool | None = None) -> JpegState:
    """Judge the encoded picture that ``data`` begins with; what follows its end marker is ignored.

    Never raises for any bytes. What is not a JPEG, or breaks off before its first scan, gets an empty state: the
    decoder has its own words for those.

    Args:
        data: the file.
        thorough: count the blocks of every file (True), only where the walk finds something suspicious (False), or of
            those up to :data:`ALWAYS_COUNTED_BYTES` and of suspicious ones (None). The walk alone misses damage that
            leaves the markers in order and no repeated bytes: flipped bits, lost, doubled or foreign pieces.
    """
    walk = _walk(data)
    if walk is None or not walk.segments:
        return JpegState()
    if not walk.has_end:
        return _without_end(data, walk)
    if walk.is_broken:
        return JpegState((DAMAGED,))
    if thorough is None:
        thorough = walk.size <= ALWAYS_COUNTED_BYTES
    if (thorough or _is_suspicious(data, walk)) and _count(data, walk) not in {_Count.UNKNOWN, _Count.EXACT}:
        return JpegState((DAMAGED,))
    return JpegState()


def _without_end(data: bytes, walk: _Walk) -> JpegState:
    kept = data
    if kept.endswith(b"\xff"):  # the first half of the end marker; before a code it would be followed by a zero
        kept = kept[:-1]
        walk.segments[-1] = (walk.segments[-1][0], len(kept))
    outcome = _count(data, walk)
    if outcome == _Count.SURPLUS and kept.endswith(bytes(16)):
        # A download or a copy that broke off may have been given its full length beforehand, in zeros.
        kept = kept.rstrip(b"\0")
        kept += b"\0" if kept.endswith(b"\xff") else b""
        walk.segments[-1] = (walk.segments[-1][0], max(walk.segments[-1][0], len(kept)))
        outcome = _count(data, walk)
    if outcome in {_Count.UNKNOWN, _Count.SHORT_AT_END} or not walk.covers_frame():
        return JpegState(truncated=True)
    warnings = [NO_END_MARKER]
    if walk.is_broken or outcome != _Count.EXACT:
        warnings.append(DAMAGED)
    return JpegState(tuple(warnings), kept + _END)


# --- the walk --------------------------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """The layout of a file.

    Attributes:
        frame: the second byte of the frame's marker, SOF0 to SOF15.
        width, height: of the frame; the height is 0 where it follows the first scan.
        components: by identifier, the horizontal and vertical sampling factors.
        restart_interval: MCUs between restart markers, 0 for none.
        segments: the entropy-coded pieces between markers, in order, as ``[start, stop)``.
        scans: how many scans they make up.
        size: bytes up to the end marker.
        has_end: whether there is one.
        is_broken: whether something stands where no encoder writes it.
        bits_left: by component and coefficient, the lowest bit that has not come yet (progressive mode).
    """

    frame: int = 0
    width: int = 0
    height: int = 0
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart_interval: int = 0
    segments: list[tuple[int, int]] = field(default_factory=list)
    scans: int = 0
    size: int = 0
    has_end: bool = False
    is_broken: bool = False
    bits_left: dict[int, list[int]] = field(default_factory=dict)

    def covers_frame(self) -> bool:
        """Whether the scans so far carry every coefficient of every component to its last bit."""
        return all(component in self.bits_left and not any(self.bits_left[component]) for component in self.components)

    @property
    def pixels(self) -> int:
        """How many the frame has."""
        return self.width * self.height

    def intervals_of(self, header: bytes) -> int:
        """Restart intervals of a scan with this header (A.2, E.1.4); 0 where they cannot be told."""
        if not self.restart_interval or not self.pixels:
            return 0
        widest = max(horizontal for horizontal, _ in self.components.values())
        tallest = max(vertical for _, vertical in self.components.values())
        if header[0] == 1:  # not interleaved: an MCU is one block of the component
            horizontal, vertical = self.components[header[1]]
            across = _ceil(_ceil(self.width * horizontal, widest), 8)
            down = _ceil(_ceil(self.height * vertical, tallest), 8)
        else:
            across, down = _ceil(self.width, 8 * widest), _ceil(self.height, 8 * tallest)
        return _ceil(across * down, self.restart_interval)

    def note_scan(self, header: bytes) -> bool:
        """Take in a scan header (B.2.3); False where it is malformed."""
        count = header[0] if header else 0
        if not 1 <= count <= 4 or len(header) != 2 * count + 4:
            return False
        first, last, approximation = header[2 * count + 1 : 2 * count + 4]
        if self.frame != 0xC2:
            first, last, approximation = 0, 63, 0
        if not first <= last <= 63:
            return False
        for component in header[1 : 2 * count : 2]:
            if component not in self.components:
                return False
            bits = self.bits_left.setdefault(component, [255] * 64)
            bits[first : last + 1] = [approximation & 15] * (last + 1 - first)
        self.scans += 1
        return True


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _walk(data: bytes) -> _Walk | None:
    """The layout of ``data``, or None where it does not begin as a JPEG with a frame and a scan."""
    if data[:2] != b"\xff\xd8":
        return None
    walk, position, length = _Walk(size=len(data)), 2, len(data)
    markers: Iterator[tuple[int, int]] | None = None
    while True:
        # Between segments: 0xFF any number of times, then the code (B.1.1.2).
        begin = position
        while position < length and data[position] == 0xFF:
            position += 1
        if position >= length:
            return walk if walk.segments else None
        code = data[position]
        if position == begin or code == 0:
            # Before the first scan libjpeg skips to the next marker; cameras do write stray bytes there.
            position = data.find(b"\xff", position)
            if walk.segments:
                walk.is_broken = True
            if position < 0:
                return walk if walk.segments else None
            continue
        position += 1
        if code == 0xD9:
            walk.has_end, walk.size = True, position
            return walk
        if 0xD0 <= code <= 0xD7 or code == 0x01:
            walk.is_broken = walk.is_broken or bool(walk.segments)
            continue
        if code == 0xD8 or code < 0xC0:
            if not walk.segments:
                return None
            walk.is_broken = True
            continue
        size = int.from_bytes(data[position : position + 2], "big")
        if size < 2 or position + size > length:
            if not walk.segments:
                return None
            walk.is_broken = True
            if position + 2 > length or position + size > length:
                return walk
            continue
        body = data[position + 2 : position + size]
        position += size
        if 0xC0 <= code <= 0xCF and code not in {0xC4, 0xC8, 0xCC}:
            if walk.frame:  # a second frame can only come from damage (hierarchical JPEGs are not read by anyone)
                walk.is_broken = True
            elif len(body) < 6 or len(body) != 6 + 3 * body[5]:
                return None
            else:
                walk.frame = code
                walk.height, walk.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
                walk.components = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)}
                if not walk.components or 0 in {factor for pair in walk.components.values() for factor in pair}:
                    return None
        elif code == 0xDD and len(body) >= 2:
            walk.restart_interval = int.from_bytes(body[:2], "big")
        elif code == 0xDA:
            if not walk.frame:
                return None
            intervals = 0
            if walk.note_scan(body):
                intervals = walk.intervals_of(body)
            else:
                walk.is_broken = True
            if markers is None:
                markers = _markers(data, position)
            before = len(walk.segments)
            position = _walk_scan(data, position, walk, markers)
            if intervals and position < length:
                start, stop = walk.segments[-1]
                found = len(walk.segments) - before - (start == stop)  # a marker after the last interval does no harm
                walk.is_broken = walk.is_broken or found != intervals


def _walk_scan(data: bytes, position: int, walk: _Walk, markers: Iterator[tuple[int, int]]) -> int:
    """Note the entropy-coded segments from ``position`` on; the position of what ends them."""
    start, expected, fill = position, 0, 0
    for place, code in markers:
        if place < start:  # inside a header between scans
            continue
        if code == 0xFF:
            # Fill bytes are allowed before a marker only: 0xFF 0xFF 0x00 is in no encoder's output.
            walk.is_broken = walk.is_broken or data[place + 2 : place + 3] == b"\0"
            fill += 1
            walk.is_broken = walk.is_broken or fill > _MOST_FILL
            continue
        end = place
        while end > start and data[end - 1] == 0xFF:
            end -= 1
        if 0xD0 <= code <= 0xD7:
            walk.segments.append((start, end))
            walk.is_broken = walk.is_broken or code - 0xD0 != expected
            start, expected = place + 2, (expected + 1) % 8
        elif code in {0xD9, 0xDA, 0xC4, 0xDB, 0xDC, 0xDD, 0xFE} or 0xE0 <= code <= 0xEF:
            walk.segments.append((start, end))
            return place
        else:
            walk.is_broken = True
    walk.segments.append((start, len(data)))
    return len(data)


def _markers(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """``(position, code)`` of every 0xFF from ``start`` on that is not followed by 0x00, by pieces of a megabyte.

    By pieces, because megabytes may follow the picture (a film, a depth map), and nobody looks at those.
    """
    values = np.frombuffer(data, np.uint8)
    for begin in range(start, len(data) - 1, 1 << 20):
        piece = values[begin : begin + (1 << 20) + 1]
        places = np.flatnonzero(piece[:-1] == 0xFF)
        codes = piece[places + 1]
        kept = codes != 0
        yield from zip((places[kept] + begin).tolist(), codes[kept].tolist(), strict=True)


def _is_suspicious(data: bytes, walk: _Walk) -> bool:
    """Whether the count is worth its time: repeated bytes, or bytes after the end that no second picture explains.

    Overwritten pieces mostly repeat one byte or word. Good files do so too, where optimal codes meet flat areas, hence
    nothing is concluded from it. An end marker that damage put into the middle leaves much behind it.
    """
    if len(data) - walk.size > 16 and data[walk.size :].lstrip(b"\0")[:2] != b"\xff\xd8":
        return True
    start, stop = walk.segments[0][0], walk.segments[-1][1]
    words = np.frombuffer(data, np.uint64, count=(stop - start) // 8, offset=start)
    return bool((words[1:] == words[:-1]).any())


# --- the count -------------------------------------------------------------------------------------------------------


class _Count:
    """How a decoder's needs compare with what it was given."""

    UNKNOWN, EXACT, SHORT, SHORT_AT_END, SURPLUS = range(5)


class _Feed:
    """Pillow's decoder, fed by hand.

    Attributes:
        rest: the bytes that it has not taken yet.
        is_over: it has delivered its last row, or given up.
        has_failed: it has given up.
    """

    def __init__(self, data: bytes) -> None:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        # An eighth of the size in gray: the codes are read in full, and next to nothing else is done.
        image.draft("L" if image.mode in {"RGB", "L"} else None, (1, 1))
        image.load_prepare()
        _, box, _, arguments = image.tile[0]
        self._decoder: Any = Image._getdecoder(image.mode, "jpeg", arguments, image.decoderconfig)
        self._decoder.setimage(image.im, box)
        self._image = image  # the decoder writes into its memory
        self.rest = b""
        self.is_over = self.has_failed = False

    def give(self, piece: bytes) -> None:
        if self.is_over:
            return
        self.rest += piece
        taken, error = self._decoder.decode(self.rest)
        if taken < 0:
            self.is_over, self.has_failed, self.rest = True, error != 0, b""
        else:
            self.rest = self.rest[taken:]

    def seeks_marker(self) -> bool:
        """Whether entropy-coded data are no longer wanted; gives bytes to find out, which are skipped if so."""
        self.give(_FILL)
        for _ in range(2):
            self.give(_FILL[:1])
            if self.rest:
                return False
        return True

    def give_tail(self, tail: bytes) -> bool:
        """Give the last bytes of a segment one by one; whether the decoder was at work when it got them."""
        worked = False
        for value in tail:
            self.give(bytes([value]))
            worked = worked or (bool(self.rest) and value != 0xFF)
        return worked


def _count(data: bytes, walk: _Walk) -> int:
    """Whether the entropy-coded bytes are as many as the frame needs."""
    if (
        walk.frame not in _COUNTABLE_FRAMES
        or not 0 < walk.pixels <= _MAX_COUNTED_PIXELS
        or walk.scans > _MAX_COUNTED_SCANS
    ):
        return _Count.UNKNOWN
    step = 1 + len(walk.segments) // _MAX_COUNTED_SEGMENTS
    last = len(walk.segments) - 1
    outcome = _Count.EXACT
    try:
        feed, position = _Feed(data), 0
        for number, (start, stop) in enumerate(walk.segments):
            if number % step and number != last:
                continue
            end = start + len(data[start:stop].rstrip(b"\0"))
            tail = max(start, end - _TAIL)
            feed.give(data[position:tail])
            if feed.is_over:
                return _Count.UNKNOWN if feed.has_failed else _Count.SURPLUS
            worked = feed.give_tail(data[tail:end])
            if stop - end < len(_FILL) + 2 + _TAIL:
                worked = feed.give_tail(data[end:stop]) or worked
            else:
                # Writers that align their output put zeros before a marker, and zeros are codes of flat areas: the
                # decoder had its fill either before them or at their end.
                feed.give(data[end : end + len(_FILL)])
                end += len(_FILL)
                if feed.give_tail(data[end : end + 2]):
                    feed.give(data[end + 2 : stop - _TAIL])
                    worked = feed.give_tail(data[stop - _TAIL : stop])
                else:
                    feed.give(data[end + 2 : stop])
            position = stop
            if not feed.seeks_marker():
                if number == last:
                    return _Count.SHORT_AT_END if outcome == _Count.EXACT else outcome
                outcome = _Count.SHORT
            elif not worked and stop - start > 2 * _TAIL:
                outcome = _Count.SURPLUS
            if outcome != _Count.EXACT and walk.has_end:
                return outcome
    except Exception:  # a header that Pillow does not take, or a Pillow that is built otherwise
        return _Count.UNKNOWN
    return outcome
