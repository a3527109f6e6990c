# SPDX-License-Identifier: Apache-2.0
"""The fast and the full reader of XML agree, and neither reads without end."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.block import MemoryDevice
from lamella.errors import BadInputError
from lamella.thin.format.mappings import Runs
from lamella.thin.tools import xml as xml_read
from lamella.thin.tools.restore import restore_xml
from lamella.thin.tools.xml import parse_stretch, read_xml
from tests.thin.metadata_files import DEVICE, END, ONE, SUPER


def _parts(text: bytes, **limits: int) -> list[object]:
    """All parts, neighbouring runs joined, or the error."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(xml_read, name, value)
        found: list[object] = []
        try:
            for part in read_xml(io.BytesIO(text).read, name="it"):
                if isinstance(part, Runs):
                    found += zip(*(column.tolist() for column in part), strict=True)
                else:
                    found.append(part)
        except BadInputError as error:
            # How much is given before it, and the line where it is noticed, depend on the way.
            found = [error.message.split(":")[0]]
    return found


WAYS = (
    {"_SHORTEST_STRETCH": 1 << 60},
    {"_SHORTEST_STRETCH": 1},
    {"_SHORTEST_STRETCH": 1, "CHUNK": 100},
    {"_SHORTEST_STRETCH": 200, "CHUNK": 333, "_PLAIN_ROWS": 2},
)
PIECES = st.sampled_from(
    [
        SUPER, DEVICE, ONE, END, "</device>", '<ref name="a"/>', '<def name="a">', "</def>", " ", "\n    ",
        '<range_mapping origin_begin="50" data_begin="9" length="3" time="0"/>\n',
        "<single_mapping origin_block='8' data_block='9' time='1'></single_mapping>",
        '<single_mapping data_block="9" time="1" origin_block="77" />', "<!-- x -->",
        "5", '"', "<", ">", "/>",
        '<single_mapping origin_block="" data_block="7" t4ime="1"/>', "\0", "\1", "&amp;", "time=", "\u00e9",
        '<single_mapping origin_block="99999999999999999999" data_block="7" time="1"/>',
        '<single_mapping origin_block="18446744073709551615" data_block="7" time="1"/>',
        '<single_mapping origin_block="9" data_block="7" time="16777216"/>',
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=25), st.booleans())
def test_all_ways_of_reading_agree(pieces: list[str], framed: bool) -> None:
    middle = "".join(pieces)
    text = (f"{SUPER}{DEVICE}{middle}{END}" if framed else middle).encode()
    expected = _parts(text, **WAYS[0])
    for limits in WAYS[1:]:
        assert _parts(text, **limits) == expected


def test_a_stretch_is_only_taken_as_the_tools_write_it() -> None:
    good = b'<single_mapping origin_block="5" data_block="7" time="1"/>\n'
    runs = parse_stretch(good * 3)
    assert runs is not None
    assert [column.tolist() for column in runs] == [[5] * 3, [7] * 3, [1] * 3, [1] * 3]
    largest = b'<range_mapping origin_begin="9999999999999999999" data_begin="0" length="7" time="16777215"/>'
    runs = parse_stretch(largest)
    assert runs is not None
    assert runs.begin.dtype == np.uint64
    assert [int(column[0]) for column in runs] == [9999999999999999999, 0, 7, 16777215]
    for bad in (
        b"", b"5", good + b"5", b"5" + good, good.replace(b'"5"', b'""'), good.replace(b'"5"', b'"5""5"'),
        good.replace(b'"5"', b'"" 5'), good.replace(b"time", b"ti5me"), good.replace(b' d', b'd'),
        good + b"\0", good + b"x", good.replace(b'"1"', b'"16777216"'), good.replace(b'"5"', b'" 5"'),
        good.replace(b'"5"', b'"5 5"').replace(b'"7"', b'""'), good.replace(b'"5"', b'"-5"'),
    ):  # fmt: skip
        assert parse_stretch(bad) is None, bad


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"<!--", b"a"),
        (b"<superblock", b" "),
        (b"<superblock ", b"a"),
        (b'<superblock uuid="', b"a"),
        (b"<?xml", b"?"),
        (f"{SUPER}{DEVICE}<single_mapping ".encode(), b"a"),
        (f"{SUPER}{DEVICE}<single_mapping".encode(), b' a="1"'),
        (f"{SUPER}<".encode(), b"<"),
    ],
)
def test_endless_elements_and_comments_are_cut_short(start: bytes, more: bytes) -> None:
    class Endless:
        """Gives a start, then the same again and again, and counts."""

        def __init__(self, start: bytes, more: bytes) -> None:
            self.start, self.more, self.given = start, more, 0

        def read(self, size: int) -> bytes:
            result, self.start = self.start, b""
            result = result or self.more * (size // len(self.more))
            self.given += len(result)
            return result

    source = Endless(start, more)
    with pytest.raises(BadInputError):
        restore_xml(source.read, MemoryDevice(1 << 20))
    assert source.given < 8 << 20
