# SPDX-License-Identifier: Apache-2.0
"""thin-provisioning-tools' XML, read as a stream of parts; long stretches of mappings as arrays.

The tools write one element for each run of mappings, always in the same form. Such a stretch is read
without a Python step per line: taking the digits away must leave nothing but the two known lines, and the
digits are the columns. What looks different goes through a plain reader of one element at a time, which
also finds the reason when something is wrong.

Elements: ``superblock``, ``device``, ``single_mapping``, ``range_mapping``; of the 1.x series also ``def``
(mappings with a name) and ``ref`` (those mappings again, here). There is no document type declaration, no
entity but the five of XML itself, and no text between elements.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.errors import BadInputError
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.mappings import Runs
from lamella.thin.format.node import TIME_BITS
from lamella.thin.format.superblock import VERSION
from lamella.thin.tools.header import Header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 20
"""Bytes read at a time."""
LONGEST = 1 << 16
"""Bytes that one element or comment may have."""
_SHORTEST_STRETCH = 2048
"""Bytes; below this the plain reader is as fast."""
_PLAIN_ROWS = 4096
"""Runs that the plain reader gives at once."""


class BeginDevice(NamedTuple):
    """``<device>``: what follows belongs to it."""

    dev_id: int
    details: DeviceDetails


class EndDevice(NamedTuple):
    """``</device>``"""


class BeginShared(NamedTuple):
    """``<def>``: mappings that devices refer to by this name."""

    name: str


class EndShared(NamedTuple):
    """``</def>``"""


class UseShared(NamedTuple):
    """``<ref>``: the mappings of that name come here."""

    name: str


Part = Header | BeginDevice | EndDevice | BeginShared | EndShared | UseShared | Runs

_SINGLE = b'<single_mapping origin_block="" data_block="" time=""/>'
_RANGE = b'<range_mapping origin_begin="" data_begin="" length="" time=""/>'
_DIGITS = b"0123456789"
_SPACE = b" \t\r\n"
_OTHER_ELEMENT = re.compile(rb"<(?!single_mapping |range_mapping )")
_ONLY_DIGITS = bytes(byte if byte in _DIGITS else 32 for byte in range(256))
_IS_DIGIT = np.array([byte in _DIGITS for byte in range(256)])

_NAME = rb"[A-Za-z_][A-Za-z0-9_.\-]*"
_ATTRIBUTE = re.compile(rb"\s+(" + _NAME + rb")\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')")
_ELEMENT = re.compile(
    rb"<(/?)(" + _NAME + rb")((?:\s+" + _NAME + rb"\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*)\s*(/?)>"
)
_SKIPPED = re.compile(rb"\s+|<!--(?:(?!--).)*-->|<\?.*?\?>", re.DOTALL)
_ENTITY = re.compile(rb"&([^;&]*;?)")
_ENTITIES = {b"amp;": b"&", b"lt;": b"<", b"gt;": b">", b"quot;": b'"', b"apos;": b"'"}

_U64, _U32 = (1 << 64) - 1, (1 << 32) - 1
_LARGEST_TIME = (1 << TIME_BITS) - 1

_KNOWN: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    # element: required numbers and their largest values, optional ones
    "superblock": (
        {"time": _U32, "transaction": _U64, "data_block_size": _U32, "nr_data_blocks": _U64},
        {"flags": _U32, "version": _U32, "metadata_snap": _U64},
    ),
    "device": (
        {
            "dev_id": _U64, "mapped_blocks": _U64, "transaction": _U64, "creation_time": _U32,
            "snap_time": _U32,
        },
        {},
    ),
    "single_mapping": ({"origin_block": _U64, "data_block": _U64, "time": _LARGEST_TIME}, {}),
    "range_mapping": (
        {"origin_begin": _U64, "data_begin": _U64, "length": _U64, "time": _LARGEST_TIME}, {},
    ),
    "def": ({}, {}),
    "ref": ({}, {}),
}  # fmt: skip
_TEXTS = {"superblock": {"uuid"}, "def": {"name"}, "ref": {"name"}}


def read_xml(read: Callable[[int], bytes], *, name: str) -> Iterator[Part]:
    """The parts of the XML that *read* (as a binary file's) gives, in order; *name* is for errors.

    First comes the header, then devices and shared mappings in turns, each with its runs. Numbers are in
    range for their fields, and elements nest as they must; whether mappings make sense is for
    :mod:`lamella.thin.tools.restore`. Raises :class:`BadInputError` naming the line.
    """
    return _Reader(read, name).parts()


class _Reader:
    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self._read = read
        self._name = name
        self._buffer = b""
        self._at = 0
        self._line = 1
        self._ended = False
        self._open: list[str] = []
        self._plain_to = 0
        """Up to here in the buffer the fast way has failed already."""

    # -- the text --------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Read more; False at the end of the input."""
        if self._ended:
            return False
        more = self._read(CHUNK)
        if not more:
            self._ended = True
            return False
        self._plain_to = max(self._plain_to - self._at, 0)
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        return True

    def _advance(self, to: int) -> None:
        self._line += self._buffer.count(b"\n", self._at, to)
        self._at = to

    def _wrong(self, reason: str) -> BadInputError:
        return BadInputError(
            f"{self._name} is not thin metadata XML: line {self._line}: {reason}",
            hint="thin_dump writes such XML; nothing was restored",
        )

    def _skip(self) -> bool:
        """Pass over white space and comments; False at the end of the input."""
        while True:
            if self._at == len(self._buffer) and not self._fill():
                return False
            found = _SKIPPED.match(self._buffer, self._at, self._at + LONGEST)
            if found:
                self._advance(found.end())
            elif self._buffer.startswith((b"<!--", b"<?"), self._at) and self._more():
                continue
            elif len(self._buffer) - self._at >= 4 or not self._fill():
                return True

    def _more(self) -> bool:
        """Read more unless what is there should have been enough."""
        return len(self._buffer) - self._at < LONGEST and self._fill()

    def _element(self) -> tuple[bool, str, bytes, bool]:
        """The next element: whether it closes, its name, its attributes' text, whether it is empty."""
        while True:
            found = _ELEMENT.match(self._buffer, self._at, self._at + LONGEST)
            if found:
                closing, name, attributes, empty = found.groups()
                self._advance(found.end())
                if closing and (attributes or empty):
                    raise self._wrong("a closing element has attributes")
                return bool(closing), name.decode(), attributes, bool(empty)
            if not self._more():
                raise self._wrong(self._reason())

    def _reason(self) -> str:
        text = self._buffer[self._at : self._at + 40]
        if text.startswith(b"<!DOCTYPE"):
            return "document type declarations are refused"
        if text.startswith(b"<!["):
            return "it has character data"
        if text.startswith(b"<") and self._ended and b">" not in self._buffer[self._at :]:
            return "it ends in the middle of an element"
        shown = text.decode("ascii", "replace").split("\n")[0]
        return f"not understood: {shown!r}" if shown else "an empty line where an element should be"

    def _values(self, element: str, text: bytes) -> dict[str, str]:
        """The attributes of *element*, none missing, none unknown, none twice."""
        found: dict[str, str] = {}
        required, optional = _KNOWN[element]
        texts = _TEXTS.get(element, set())
        for match in _ATTRIBUTE.finditer(text):
            key = match[1].decode()
            if key in found:
                raise self._wrong(f"{element} has attribute {key} twice")
            if key not in required and key not in optional and key not in texts:
                raise self._wrong(f"{element} has an unknown attribute {key}")
            found[key] = self._text(match[2] if match[2] is not None else match[3])
        for key in (*required, *texts):
            if key not in found:
                raise self._wrong(f"{element} lacks attribute {key}")
        return found

    def _text(self, raw: bytes) -> str:
        def one(match: re.Match[bytes]) -> bytes:
            if match[1] not in _ENTITIES:
                raise self._wrong(f"entity {match[0][:20].decode('ascii', 'replace')!r} is refused")
            return _ENTITIES[match[1]]

        try:
            return _ENTITY.sub(one, raw).decode()
        except UnicodeDecodeError:
            raise self._wrong("it is not UTF-8") from None

    def _numbers(self, element: str, values: dict[str, str]) -> dict[str, int]:
        required, optional = _KNOWN[element]
        numbers = {}
        for key, largest in (*required.items(), *optional.items()):
            text = values.get(key)
            if text is None:
                continue
            if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > largest:
                raise self._wrong(f"{element}: {key} is {text[:30]!r}, not a number from 0 to {largest}")
            numbers[key] = int(text)
        return numbers

    # -- what it means ---------------------------------------------------------------------------

    def parts(self) -> Iterator[Part]:
        """See :func:`read_xml`."""
        self._fill()
        if self._buffer.startswith(b"\xef\xbb\xbf"):
            self._advance(3)
        if not self._skip():
            raise self._wrong("it is empty")
        closing, element, text, empty = self._element()
        if closing or element != "superblock":
            raise self._wrong(f"it begins with {element} instead of superblock")
        yield self._header(text)
        if not empty:
            self._open.append("superblock")
        while self._open:
            yield from self._inside()
        if self._skip():
            raise self._wrong("there is something after the end of superblock")

    def _inside(self) -> Iterator[Part]:
        if not self._skip():
            raise self._wrong(f"it ends before {self._open[-1]} does")
        if len(self._open) > 1:
            if self._at >= self._plain_to:
                stretch = self._stretch()
                if stretch is not None:
                    yield stretch
                    return
            runs = self._plain_runs()
            if runs is not None:
                yield runs
                return
        closing, element, text, empty = self._element()
        if closing:
            if element != self._open.pop():
                raise self._wrong(f"{element} is closed, but was not the last one opened")
            if element != "superblock":
                yield EndDevice() if element == "device" else EndShared()
        elif element == "device" and self._open == ["superblock"]:
            yield self._device(text)
            yield from self._opened(element, EndDevice(), empty)
        elif element == "def" and self._open == ["superblock"]:
            yield BeginShared(self._values(element, text)["name"])
            yield from self._opened(element, EndShared(), empty)
        elif element == "ref" and len(self._open) > 1:
            yield UseShared(self._values(element, text)["name"])
            if not empty:
                self._close(element)
        else:
            known = "misplaced" if element in _KNOWN else "unknown"
            raise self._wrong(f"{known} element {element}")

    def _opened(self, element: str, end: Part, empty: bool) -> Iterator[Part]:
        if empty:
            yield end
        else:
            self._open.append(element)

    def _close(self, element: str) -> None:
        """Something that holds nothing must be closed next."""
        if not self._skip():
            raise self._wrong(f"it ends before {element} does")
        closing, name, _, _ = self._element()
        if not closing or name != element:
            raise self._wrong(f"{element} is not closed")

    def _header(self, text: bytes) -> Header:
        numbers = self._numbers("superblock", self._values("superblock", text))
        return Header(
            numbers["time"], numbers["transaction"], numbers.get("flags", 0),
            numbers.get("version", VERSION), numbers["data_block_size"], numbers["nr_data_blocks"],
        )  # fmt: skip

    def _device(self, text: bytes) -> BeginDevice:
        numbers = self._numbers("device", self._values("device", text))
        return BeginDevice(
            numbers["dev_id"],
            DeviceDetails(
                numbers["mapped_blocks"], numbers["transaction"], numbers["creation_time"],
                numbers["snap_time"],
            ),
        )  # fmt: skip

    # -- mappings --------------------------------------------------------------------------------

    def _stretch(self) -> Runs | None:
        """The mappings from here on as arrays, if they are many and look as the tools write them."""
        found = _OTHER_ELEMENT.search(self._buffer, self._at)
        if found is None and len(self._buffer) - self._at < CHUNK and self._fill():
            found = _OTHER_ELEMENT.search(self._buffer, self._at)
        end = found.start() if found else self._buffer.rfind(b"/>", self._at) + 2
        if end - self._at < _SHORTEST_STRETCH:
            return None
        runs = parse_stretch(self._buffer[self._at : end])
        if runs is None:
            self._plain_to = end
            return None
        self._advance(end)
        return runs

    def _plain_runs(self) -> Runs | None:
        """The mappings from here on, one by one, until something else comes or the fast way may go on."""
        rows: list[tuple[int, int, int, int]] = []
        while self._skip():
            if not self._buffer.startswith((b"<single_mapping", b"<range_mapping"), self._at):
                if len(self._buffer) - self._at < 16 and self._fill():
                    continue
                break
            if len(rows) >= _PLAIN_ROWS or (rows and self._at >= self._plain_to > 0):
                break
            _, element, text, empty = self._element()
            if element not in ("single_mapping", "range_mapping"):
                raise self._wrong(f"unknown element {element}")
            numbers = self._numbers(element, self._values(element, text))
            if element == "single_mapping":
                rows.append((numbers["origin_block"], numbers["data_block"], 1, numbers["time"]))
            else:
                rows.append(
                    (numbers["origin_begin"], numbers["data_begin"], numbers["length"], numbers["time"])
                )
            if not empty:
                self._close(element)
        return _columns(rows) if rows else None


def _columns(rows: list[tuple[int, int, int, int]]) -> Runs:
    table = np.array(rows, dtype=np.uint64)
    return Runs(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


def parse_stretch(text: bytes) -> Runs | None:
    """The runs in *text* if it is nothing but mappings as the tools write them, else None."""
    if b"\0" in text or b"\1" in text:
        return None
    rest = text.translate(None, _DIGITS).replace(_SINGLE, b"\0").replace(_RANGE, b"\1")
    rest = rest.translate(None, _SPACE)
    kinds = np.frombuffer(rest, dtype=np.uint8)
    if not len(kinds) or (kinds > 1).any():
        return None
    several = kinds == 1
    # Each number must fill its quotes: then there are as many numbers as pairs of quotes.
    raw = np.frombuffer(text, dtype=np.uint8)
    digit = np.zeros(len(raw) + 2, dtype=np.int8)
    digit[1:-1] = _IS_DIGIT[raw]
    edges = np.flatnonzero(np.diff(digit))
    starts, ends = edges[::2], edges[1::2]
    quote = ord('"')
    if (
        len(starts) != 3 * len(kinds) + int(several.sum())
        or ends[-1] >= len(raw)
        or starts[0] == 0
        or (raw[starts - 1] != quote).any()
        or (raw[ends] != quote).any()
        or (ends - starts > 19).any()
    ):
        return None
    numbers = np.fromstring(text.translate(_ONLY_DIGITS), dtype=np.uint64, sep=" ")
    places = np.cumsum(3 + several) - 3 - several
    length = np.where(several, numbers[np.minimum(places + 2, len(numbers) - 1)], np.uint64(1))
    time = numbers[places + 2 + several]
    if (time > _LARGEST_TIME).any():
        return None
    return Runs(numbers[places], numbers[places + 1], length, time)
