"""Ratings in XMP packets: read, and put in with every other byte left as it is.

XMP is RDF in XML (ISO 16684-1). A rating is ``xmp:Rating``, an attribute of an ``rdf:Description`` or an element in it,
under whatever prefix the packet binds to the namespace. A parser and a serializer would give back the same properties
in other words: quotes, line breaks and the wrapper of the packet changed. Here the parser (expat, of Python's standard
library) only says where things stand, and the new bytes are put in there; then the result is parsed and compared, so
that nothing but the rating can have changed. Packets with a document type are refused: XMP has none, and attacks do.

Whose a rating is: beside ours stands ``grepq:Rating`` with the same value. A person who gives stars in any program
changes ``xmp:Rating`` only, and from then on the two differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP = "http://ns.adobe.com/xap/1.0/"
GREPQ = "https://pypi.org/project/grepq-iqa/xmp/1.0/"
"""Namespace of our own mark; a name, no page."""

_NEW = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="grepq-iqa">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:grepq="{grepq}"
    xmp:Rating="{stars}"
    grepq:Rating="{stars}"/>
 </rdf:RDF>
</x:xmpmeta>
"""
_SEPARATOR = "\x1f"  # between namespace and name in what expat reports
_DESCRIPTION, _ROOT, _ABOUT = (f"{RDF}{_SEPARATOR}{name}" for name in ("Description", "RDF", "about"))
_RATINGS = {XMP + _SEPARATOR + "Rating": "xmp", GREPQ + _SEPARATOR + "Rating": "grepq"}
_NAME = re.compile(r"<([^\s/>]+)")
_ATTRIBUTE = re.compile(r"\s*([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_END = re.compile(r"\s*(/?)>")


class XmpError(ValueError):
    """A packet cannot be read or added to; it is left as it is."""


@dataclass(frozen=True)
class Rating:
    """What a packet says.

    Attributes:
        stars: -1 (rejected) to 5, 0 for unrated; None where it does not say.
        ours: the value of our mark, or None.
    """

    stars: int | None = None
    ours: int | None = None

    @property
    def by_person(self) -> bool:
        """Whether somebody else gave stars, or took ours back: a 0 beside nothing of ours is no rating."""
        if self.stars is None:
            return False
        return self.stars != self.ours if self.ours is not None else self.stars != 0


@dataclass
class _Place:
    """Bytes of a value, its text, and what to write there in its stead."""

    start: int
    end: int
    text: str = ""
    template: str = "{}"


@dataclass
class _Packet:
    """Where things stand in a packet: all offsets are of bytes."""

    encoding: str = "utf-8"
    xmp: list[_Place] = field(default_factory=list)
    grepq: list[_Place] = field(default_factory=list)
    # Just behind the name in the tag of the first rdf:Description, and the namespaces bound there: prefix -> URI.
    description: tuple[int, dict[str, str]] | None = None
    root: tuple[int, bool] | None = None  # end of rdf:RDF's start tag, and whether that is the element's end, too
    others: list[tuple[str, ...]] = field(default_factory=list)  # everything but ratings, in order

    @property
    def rating(self) -> Rating:
        """Of several ratings that differ, one that is not ours."""
        ours = next(iter(_numbers(self.grepq)), None)
        stars = sorted(_numbers(self.xmp), key=lambda value: value == ours)
        return Rating(next(iter(stars), None), ours)


def read_rating(packet: bytes) -> Rating:
    """The rating in a packet, a sidecar's or an embedded one.

    Raises:
        XmpError: it is no XML with RDF in it, or has a document type.
    """
    return _scan(packet).rating


def new_packet(stars: int) -> bytes:
    """A sidecar with nothing but a rating of ours."""
    return _NEW.format(grepq=GREPQ, stars=stars).encode()


def with_rating(packet: bytes, stars: int) -> bytes:
    """The packet with this rating, marked as ours, and not another byte changed.

    Raises:
        XmpError: it cannot be read, or has no place for a rating.
    """
    found = _scan(packet)
    found.rating  # noqa: B018 - one that is not understood is not written over
    edits = [(place.start, place.end, place.template.format(stars)) for place in (*found.xmp, *found.grepq)]
    missing = [name for name, places in (("xmp", found.xmp), ("grepq", found.grepq)) if not places]
    if missing and found.description is not None:
        at, bound = found.description
        edits.append((at, at, "".join(_attribute(name, stars, bound) for name in missing)))
    elif missing and found.root is not None and not found.root[1]:
        attributes = "".join(_attribute(name, stars, {}) for name in missing)
        at = found.root[0]
        edits.append((at, at, f'\n  <rdf:Description xmlns:rdf="{RDF}" rdf:about=""{attributes}/>'))
    elif missing:
        raise XmpError("has no place for a rating: there is nothing in it")
    result = packet
    for start, end, text in sorted(edits, reverse=True):
        result = result[:start] + text.encode(found.encoding) + result[end:]
    again = _scan(result)
    kept = found.description is None or again.others == found.others
    if not kept or again.rating != Rating(stars, stars) or len(set(_numbers(again.xmp))) != 1:
        raise XmpError("could not be added to without changing other things in it")
    return result


def _attribute(name: str, stars: int, bound: dict[str, str]) -> str:
    """An attribute for a rating, with the prefix that the namespace has there, or with a new one."""
    uri = XMP if name == "xmp" else GREPQ
    for prefix, other in bound.items():
        if other == uri and prefix:
            return f'\n   {prefix}:Rating="{stars}"'
    while name in bound:
        name += "_"
    return f'\n   xmlns:{name}="{uri}"\n   {name}:Rating="{stars}"'


def _numbers(places: list[_Place]) -> list[int]:
    try:
        return [round(float(place.text)) for place in places]
    except (ValueError, OverflowError):
        raise XmpError(f"holds a rating that is no number: {places[0].text!r}") from None


def _scan(packet: bytes) -> _Packet:
    scanner = _Scanner(packet)
    try:
        scanner.parser.Parse(packet, True)
    except expat.ExpatError as error:
        raise XmpError(f"is no XML: {error}") from error
    except (UnicodeError, LookupError) as error:
        raise XmpError(f"is in no encoding that can be read: {error}") from error
    if scanner.found.root is None:
        raise XmpError("has no rdf:RDF element")
    return scanner.found


class _Scanner:
    """What expat reports, and where it stands."""

    def __init__(self, packet: bytes) -> None:
        self.packet, self.found = packet, _Packet(_encoding_by_mark(packet) or "utf-8")
        self._marked = _encoding_by_mark(packet) is not None
        self._path: list[str] = []
        self._bound: dict[str, list[str]] = {}
        self._open: _Place | None = None
        self.parser = parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        parser.ordered_attributes = parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartNamespaceDeclHandler = self._bind
        parser.EndNamespaceDeclHandler = self._unbind
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = lambda text: self.found.others.append(("comment", text))
        parser.ProcessingInstructionHandler = lambda *parts: self.found.others.append(("instruction", *parts))

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding and not self._marked:
            "".encode(encoding)  # which knows it, or raises
            self.found.encoding = encoding

    def _doctype(self, *parts: object) -> None:
        raise XmpError("has a document type, which XMP never has")

    def _bind(self, prefix: str | None, uri: str | None) -> None:
        self._bound.setdefault(prefix or "", []).append(uri or "")

    def _unbind(self, prefix: str | None) -> None:
        self._bound[prefix or ""].pop()

    def _start(self, name: str, attributes: list[str]) -> None:
        if self._open is not None:
            raise XmpError("holds a rating with more than a number in it")
        pairs = list(zip(attributes[::2], attributes[1::2], strict=True))
        if name == _DESCRIPTION and self._path[-1:] == [_ROOT]:
            tag = self._tag()
            if self.found.description is None:
                bound = {prefix: uris[-1] for prefix, uris in self._bound.items() if uris}
                self.found.description = (tag.name_end, bound)
            for (key, value), (at, end) in zip(pairs, tag.values, strict=True):
                if key in _RATINGS:
                    getattr(self.found, _RATINGS[key]).append(_Place(at, end, value))
            pairs = [(key, value) for key, value in pairs if key not in _RATINGS]
        if name == _ROOT and self.found.root is None:
            tag = self._tag()
            self.found.root = (tag.end, tag.empty)
        if name in _RATINGS and self._path[-2:] == [_ROOT, _DESCRIPTION]:
            tag = self._tag()
            self._open = _Place(tag.end, tag.end)
            if tag.empty:
                self._open = _Place(tag.slash, tag.end, template=f">{{}}</{tag.name}>")
            getattr(self.found, _RATINGS[name]).append(self._open)
        else:
            self.found.others.append(("start", name, *(part for pair in pairs for part in pair)))
        self._path.append(name)

    def _tag(self) -> _Tag:
        """The start tag that the parser stands at."""
        start = self.parser.CurrentByteIndex
        return _Tag(self.packet[start:].decode(self.found.encoding, errors="replace"), start, self.found.encoding)

    def _end(self, name: str) -> None:
        self._path.pop()
        if self._open is None:
            self.found.others.append(("end", name))
            return
        if self._open.template == "{}":
            self._open.end = self.parser.CurrentByteIndex
        else:
            self._open.text = "0"
        self._open = None

    def _text(self, text: str) -> None:
        if self._open is not None:
            self._open.text += text
        else:
            self.found.others.append(("text", text))


class _Tag:
    """A start tag: expat has read it already, so that it is well-formed.

    Attributes:
        name_end, end: offsets of bytes behind the name and behind the tag.
        slash: offset where the tag's end begins.
        values: offsets of the values of all attributes that bind no namespace, without their quotes.
        empty: whether it ends the element, too.
        name: with its prefix.
    """

    def __init__(self, text: str, start: int, encoding: str) -> None:
        def offset(position: int) -> int:
            return start + len(text[:position].encode(encoding))

        name = _NAME.match(text)
        assert name is not None
        self.name, self.name_end = name[1], offset(name.end())
        self.values = []
        position = name.end()
        while match := _ATTRIBUTE.match(text, position):
            if match[1] != "xmlns" and not match[1].startswith("xmlns:"):
                self.values.append((offset(match.start(2) + 1), offset(match.end(2) - 1)))
            position = match.end()
        end = _END.match(text, position)
        assert end is not None
        self.empty, self.end = bool(end[1]), offset(end.end())
        self.slash = offset(position)


def _encoding_by_mark(packet: bytes) -> str | None:
    """By the byte order mark, or by the zeros of UTF-16 without one."""
    if packet.startswith(b"\xef\xbb\xbf"):
        return "utf-8"
    if packet.startswith((b"\xff\xfe", b"<\0")):
        return "utf-16-le"
    return "utf-16-be" if packet.startswith((b"\xfe\xff", b"\0<")) else None
