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


AREA = 4096, 16 << 10  # where it starts on the disk, and its bytes


def test_sizes_of_texts_in_lvm2s_default_area() -> None:
    """LVM2 says of it: "exceeds maximum metadata size (521472 bytes)"; two texts fit behind the header."""
    area = AreaHeader(4096, 1044480)
    assert area.max_text == 521472 == (1044480 - 512) // 2 - 512
    assert area.free == 521472
    area.committed = Slot(512, 1000)
    assert area.free == 520472
    area.committed.flags = 1  # what an ignored area holds is out of date
    assert (area.ignored, area.free) == (True, 521472)
    area.committed = Slot(512, 600_000)  # written by another program
    assert area.free == 0
    for slot, empty in ((Slot(), True), (Slot(0, 5), False), (Slot(512, 0), False), (Slot(0, 0, 7, 1), True)):
        assert slot.empty is empty
    assert [Slot(flags=flags).ignored for flags in range(4)] == [False, True, False, True]


@pytest.mark.parametrize(("size", "good"), [(1535, False), (1536, True)])
def test_the_smallest_area_holds_a_header_and_two_sectors(size: int, good: bool) -> None:
    block, said = pack_header(AreaHeader(4096, size)), list[str]()
    if good:
        assert unpack_header(block, 4096, "/dev/x", said).size == 1536
        assert said == []
        return
    with pytest.raises(CorruptError):
        unpack_header(block, 4096, "/dev/x", said)
    assert said == [
        "WARNING: wrong size 1535 in mda header on /dev/x at 4096",
        "WARNING: bad metadata header on /dev/x at 4096.",
    ]


def test_all_that_is_wrong_is_said_in_lvms_order() -> None:
    """As LVM2 2.03.16 does; of a header that is wrong otherwise the size is not looked at."""
    said = ["before"]
    with pytest.raises(CorruptError):
        unpack_header(bytes(512), 4096, "/dev/x", said)
    assert said == [
        "before",
        "WARNING: wrong checksum 0 in mda header on /dev/x at 4096",
        "WARNING: wrong magic number in mda header on /dev/x at 4096",
        "WARNING: wrong version 0 in mda header on /dev/x at 4096",
        "WARNING: wrong start sector 0 in mda header on /dev/x at 4096",
        "WARNING: bad metadata header on /dev/x at 4096.",
    ]
    block = bytearray(pack_header(AreaHeader(4096, 1044480)))
    block[:4] = (0xABC).to_bytes(4, "little")
    said = []
    with pytest.raises(CorruptError):
        unpack_header(bytes(block), 4096, "/dev/x", said)
    assert said[0] == "WARNING: wrong checksum abc in mda header on /dev/x at 4096"


def test_a_second_slot_counts_only_behind_a_first() -> None:
    """The reader stops at a slot without an offset (layout.h: "raw_locns … NULL-terminated list")."""
    header = AreaHeader(4096, 1044480, Slot(0, 0, 0, 1), Slot(1024, 5, 6))
    assert unpack_header(pack_header(header), 4096, "x", []).precommitted == Slot()
    header.committed.offset = 512
    assert unpack_header(pack_header(header), 4096, "x", []) == header


@pytest.mark.parametrize(
    ("offset", "size", "pieces"),
    [
        (512, 1, [(4608, 1)]),
        (512, (16 << 10) - 512, [(4608, (16 << 10) - 512)]),  # the whole buffer
        (1024, (16 << 10) - 512, [(5120, (16 << 10) - 1024), (4608, 512)]),
        ((16 << 10) - 1, 1, [(4096 + (16 << 10) - 1, 1)]),
        ((16 << 10) - 1, 2, [(4096 + (16 << 10) - 1, 1), (4608, 1)]),
        (511, 1, None),
        (16 << 10, 1, None),
        (512, 0, None),
        (512, (16 << 10) - 511, None),
    ],
)
def test_where_a_text_lies(offset: int, size: int, pieces: list[tuple[int, int]] | None) -> None:
    header = AreaHeader(*AREA)
    if pieces is not None:
        assert text_ranges(header, Slot(offset, size), "disk") == pieces
        return
    with pytest.raises(CorruptError) as caught:
        text_ranges(header, Slot(offset, size), "disk")
    assert caught.value.message == (
        f"the metadata area of disk at 4096 points at text outside itself (offset {offset}, size {size})"
    )


@pytest.mark.parametrize(
    ("old", "following"),
    [
        (Slot(), 512),
        (Slot(2048, 100, 0, 1), 512),  # of an ignored area nothing is kept
        (Slot(512, 1), 1024),
        (Slot(512, 512), 1024),
        (Slot(512, 513), 1536),
        (Slot(15360, 512), 15872),  # the last sector
        (Slot(15360, 513), 512),
        (Slot(15360, 1023), 512),
        (Slot(15360, 1024), 512),
        (Slot(15360, 1025), 1024),  # one byte of it lies at the buffer's start
        (Slot(15872, 1024), 1024),
        (Slot(15872, 1025), 1536),
    ],
)
def test_where_the_next_text_goes(old: Slot, following: int) -> None:
    """To the next sector, and to the start where the area ends (format-text.c, _next_rlocn_offset)."""
    slot, pieces = place_text(AreaHeader(*AREA, old), b"new\0", "disk")
    assert slot == Slot(following, 4, lvm_crc(b"new\0"), 0)
    assert pieces == [(4096 + following, b"new\0".ljust(512, b"\0"))]


def test_a_text_that_runs_on_at_the_start_is_padded_there() -> None:
    text = bytes(range(1, 251)) * 5  # 1250 bytes: a sector at the end, and two at the start
    slot, pieces = place_text(AreaHeader(*AREA, Slot(15360, 512)), text, "disk")
    assert (slot.offset, slot.size) == (15872, 1250)
    assert pieces == [(4096 + 15872, text[:512]), (4096 + 512, text[512:].ljust(1024, b"\0"))]
    # An area whose end is no sector's: nothing is written behind it.
    odd = AreaHeader(4096, (16 << 10) + 100, Slot(15360, 513))
    slot, pieces = place_text(odd, text, "disk")
    assert slot.offset == 512
    slot, pieces = place_text(AreaHeader(4096, (16 << 10) + 100, Slot(15360, 512)), text, "disk")
    assert pieces == [(4096 + 15872, text[:612]), (4096 + 512, text[612:].ljust(1024, b"\0"))]


def test_the_longest_text_is_taken_and_no_longer_one() -> None:
    header = AreaHeader(*AREA)
    assert header.max_text == 7424
    slot, _pieces = place_text(header, bytes(7424), "disk")
    assert slot.size == 7424
    with pytest.raises(NoSpaceError) as caught:
        place_text(header, bytes(7425), "/dev/x")
    assert caught.value.message == (
        "VG metadata on /dev/x (7425 bytes) exceeds maximum metadata size (7424 bytes)"
    )


@pytest.mark.parametrize(
    ("old", "length", "pieces"),
    [
        (Slot(1024, 8448), 6656 + 512, [(9728, 6656), (512, 512)]),  # up to the old one's first byte
        (Slot(1023, 8449), 6656 + 1, None),
        (Slot(1023, 8449), 6656, [(9728, 6656)]),
    ],
)
def test_the_old_text_is_not_touched_by_a_single_byte(
    old: Slot, length: int, pieces: list[tuple[int, int]] | None
) -> None:
    header = AreaHeader(*AREA, old)
    if pieces is not None:
        found = place_text(header, bytes(length), "disk")[1]
        assert [(at - 4096, len(piece)) for at, piece in found] == pieces
        return
    with pytest.raises(NoSpaceError, match="no room for new VG metadata beside the present one on disk"):
        place_text(header, bytes(length), "disk")
