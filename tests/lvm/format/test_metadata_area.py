# SPDX-License-Identifier: Apache-2.0
"""Metadata areas: headers, the circular buffer, and that a new text never touches the old one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import CorruptError, LamellaError, NoSpaceError
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.metadata_area import (
    HEADER_SIZE,
    AreaHeader,
    Slot,
    pack_header,
    place_text,
    text_ranges,
    unpack_header,
)


@given(
    st.builds(
        Slot, st.integers(512, 1 << 40), st.integers(1, 1 << 40), st.integers(0, 2**32 - 1), st.integers(0, 1)
    ),
    st.builds(Slot, st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 2**32 - 1), st.just(0)),
)
def test_header_round_trip(committed: Slot, precommitted: Slot) -> None:
    header = AreaHeader(4096, 1044480, committed, precommitted)
    assert unpack_header(pack_header(header), 4096, "disk", []) == header


@pytest.mark.parametrize(
    ("at", "words"),
    [(0, "wrong checksum"), (4, "wrong magic number"), (20, "wrong version 0"), (24, "wrong start sector")],
)
def test_damage_is_reported_in_lvms_words(at: int, words: str) -> None:
    block = bytearray(pack_header(AreaHeader(4096, 1044480)))
    block[at] ^= 1
    if at:
        block[:4] = lvm_crc(bytes(block[4:])).to_bytes(4, "little")
    said: list[str] = []
    with pytest.raises(CorruptError):
        unpack_header(bytes(block), 4096, "/dev/x", said)
    assert words in said[0]
    assert said[-1] == "WARNING: bad metadata header on /dev/x at 4096."


def test_texts_follow_one_another_and_wrap() -> None:
    """Many commits in a small area, as the disk would hold them."""
    start, size = 4096, 16 << 10
    disk = bytearray(start + size)
    header = AreaHeader(start, size)
    lengths = [header.max_text, 1, 511, 512, 513, 5000, header.max_text, 3000] * 10
    wrapped = 0
    for number, length in enumerate(lengths):
        text = bytes([number % 251 + 1]) * length
        before = bytes(disk)
        slot, pieces = place_text(header, text, "disk")
        assert slot.offset % 512 == 0
        for offset, piece in pieces:
            assert start + HEADER_SIZE <= offset
            assert offset + len(piece) <= start + size
            disk[offset : offset + len(piece)] = piece
        if not header.committed.empty:
            for offset, count in text_ranges(header, header.committed, "disk"):
                assert disk[offset : offset + count] == before[offset : offset + count]
        wrapped += len(pieces) - 1
        header = AreaHeader(start, size, slot)
        found = b"".join(bytes(disk[at : at + count]) for at, count in text_ranges(header, slot, "disk"))
        assert found == text
        assert lvm_crc(found) == slot.checksum
    assert wrapped > 5


def test_a_text_that_is_too_long() -> None:
    header = AreaHeader(4096, 16 << 10)
    with pytest.raises(NoSpaceError, match="exceeds maximum metadata size"):
        place_text(header, bytes(header.max_text + 1), "disk")


def test_an_old_text_that_is_longer_than_allowed_today() -> None:
    header = AreaHeader(4096, 16 << 10, Slot(512, 15 << 10))
    with pytest.raises(NoSpaceError, match="no room"):
        place_text(header, bytes(4096), "disk")


@given(st.integers(0, 1 << 64 - 1), st.integers(0, 1 << 64 - 1))
def test_slots_that_point_anywhere(offset: int, size: int) -> None:
    header = AreaHeader(4096, 1 << 20, Slot(offset, size))
    try:
        pieces = text_ranges(header, header.committed, "disk")
    except LamellaError:
        return
    assert sum(length for _at, length in pieces) == size
    assert all(at >= 4096 + HEADER_SIZE and at + length <= 4096 + (1 << 20) for at, length in pieces)
