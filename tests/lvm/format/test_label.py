# SPDX-License-Identifier: Apache-2.0
"""Labels: the real ones byte by byte, and broken ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import CorruptError
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.ids import is_uuid, new_uuid, with_dashes, without_dashes
from lamella.lvm.format.label import Label, find_label, pack_label

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGES = [
    ("lvm-a.tar.zst", "lvm-a/vdb.img", 2),
    ("lvm-a.tar.zst", "lvm-a/vdc.img", 1),
    ("lvm-c.tar.zst", "lvm-c/vdb.img", 1),
    ("lvm-e.tar.zst", "lvm-e/vde.img", 1),
]


@pytest.mark.parametrize(("fixture", "image", "areas"), IMAGES)
def test_a_real_label_comes_out_as_it_was(
    fixture_dir: Callable[[str], Path], fixture: str, image: str, areas: int
) -> None:
    with (fixture_dir(fixture) / image).open("rb") as stream:
        start = stream.read(4096)
    said: list[str] = []
    label = find_label(start, image, said)
    assert label is not None
    assert said == []
    assert label.used
    assert len(label.metadata_areas) == areas
    assert label.data_areas == [(1 << 20, 0)]
    assert pack_label(label) == start[512:1024]


def test_uuids() -> None:
    uuid = new_uuid()
    assert is_uuid(uuid)
    assert with_dashes(without_dashes(uuid)) == uuid
    assert [len(part) for part in uuid.split("-")] == [6, 4, 4, 4, 4, 4, 6]
    assert not is_uuid(uuid[:-1])
    assert not is_uuid(uuid[:-1] + "é")


def test_checksum_of_pieces() -> None:
    assert lvm_crc(b"") == 0xF597A6CF
    assert lvm_crc(b"b", lvm_crc(b"a")) == lvm_crc(b"ab")


@given(
    st.lists(st.tuples(st.integers(1, 1 << 50), st.integers(0, 1 << 50)), max_size=2),
    st.lists(st.tuples(st.integers(1, 1 << 50), st.integers(0, 1 << 50)), max_size=2),
    st.integers(0, 1),
    st.integers(0, 3),
)
def test_round_trip(
    metadata: list[tuple[int, int]], boot: list[tuple[int, int]], flags: int, sector: int
) -> None:
    label = Label(new_uuid(), 1 << 40, [(1 << 20, 0)], metadata, boot, 2, flags, sector)
    start = bytes(512 * sector) + pack_label(label)
    said: list[str] = []
    assert find_label(start.ljust(2048, b"\0"), "disk", said) == label
    assert said == []


def test_labels_that_lvm_passes_over() -> None:
    block = pack_label(Label(new_uuid(), 1 << 20, [(1 << 20, 0)]))
    said: list[str] = []
    assert find_label(bytes(1024) + block + bytes(512), "disk", said) is None
    assert said == ["disk: Label for sector 1 found at sector 2 - ignoring."]
    said = []
    broken = bytearray(block)
    broken[100] ^= 1
    assert find_label(bytes(512) + bytes(broken), "disk", said) is None
    assert said == ["Label checksum incorrect on disk - ignoring"]
    said = []
    other = pack_label(Label(new_uuid(), 1 << 20, [(1 << 20, 0)], sector=2))
    found = find_label(bytes(512) + block + other, "disk", said)
    assert found is not None
    assert found.sector == 1
    assert said == ["Ignoring additional label on disk at sector 2"]


@given(st.integers(20, 511), st.binary(min_size=1, max_size=16))
def test_a_hostile_header_with_a_right_checksum(at: int, bytes_put: bytes) -> None:
    block = bytearray(pack_label(Label(new_uuid(), 1 << 20, [(1 << 20, 0)], [(4096, 1044480)])))
    block[at : at + len(bytes_put)] = bytes_put
    del block[512:]
    block[16:20] = lvm_crc(bytes(block[20:])).to_bytes(4, "little")
    with suppress(CorruptError):
        find_label(bytes(512) + bytes(block), "disk", [])


UUID = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"


def _sector(body: bytes, *, at: int = 32, kind: bytes = b"LVM2 001", sector: int = 1) -> bytes:
    """A label's sector with *body* at byte *at*, by the table in label.h."""
    block = bytearray(512)
    block[at : at + len(body)] = body
    block[:8] = b"LABELONE"
    block[8:16] = sector.to_bytes(8, "little")
    block[20:24] = at.to_bytes(4, "little")
    block[24:32] = kind
    block[16:20] = lvm_crc(bytes(block[20:512])).to_bytes(4, "little")
    return bytes(block[:512])


def _numbers(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def _found(body: bytes, at: int = 32) -> Label | None:
    return find_label(bytes(512) + _sector(body, at=at) + bytes(1024), "/dev/x", [])


IDENTIFIED = UUID.replace("-", "").encode()


def test_every_field_by_its_place() -> None:
    lists = _numbers(1 << 20, 0, 0, 0, 4096, 1044480, 1 << 30, 8192, 0, 0)
    extension = (2).to_bytes(4, "little") + (1).to_bytes(4, "little")
    body = IDENTIFIED + _numbers(2**64 - 1) + lists + extension + _numbers(7, 8, 0, 0)
    label = _found(body)
    assert label == Label(
        UUID, 2**64 - 1, [(1 << 20, 0)], [(4096, 1044480), (1 << 30, 8192)], [(7, 8)], 2, 1, sector=1
    )
    assert pack_label(label) == _sector(body)
    assert _found(body, at=40) == label  # the label says where the header starts
    assert (Label(UUID, 0).used, Label(UUID, 0, flags=2).used, Label(UUID, 0, flags=3).used) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize(("version", "boot"), [(0, []), (1, [(7, 8)]), (2, [(7, 8)])])
def test_without_an_extension_nothing_follows(version: int, boot: list[tuple[int, int]]) -> None:
    """Version 0 is what LVM2 wrote before there was one."""
    body = IDENTIFIED + _numbers(5, 9, 0, 0, 0, 0, 0, version | 1 << 32, 7, 8, 0, 0)
    label = _found(body)
    assert label is not None
    assert (label.data_areas, label.metadata_areas, label.boot_areas) == ([(9, 0)], [], boot)
    assert (label.extension_version, label.flags) == (version, 1)


def test_lists_that_fill_the_sector() -> None:
    """From byte 72 there is room for 27 pairs of 16 bytes and eight bytes more: just an extension's."""
    many = [(number, 4096) for number in range(1, 26)]
    pairs = [part for pair in many for part in pair]
    start = IDENTIFIED + _numbers(5)
    full = start + _numbers(*pairs, 0, 0, 0, 0)
    assert len(full) == 512 - 32 - 8
    label = _found(full + _numbers(0))
    assert label is not None
    assert (label.data_areas, label.metadata_areas, label.boot_areas) == (many, [], [])
    shifted = _found(full, at=40)  # no byte is left for the extension
    assert shifted is not None
    assert (shifted.data_areas, shifted.boot_areas, shifted.extension_version) == (many, [], 0)
    with pytest.raises(CorruptError, match="a list of areas has no end"):
        _found(start + _numbers(*pairs, 0, 0, 1, 1))
    with pytest.raises(CorruptError, match="a list of areas has no end"):
        _found(full + (2).to_bytes(8, "little"))
    last = _found(start + _numbers(*pairs[:48], 0, 0, 0, 0, 2, 0, 0))  # the third list's end is the last
    assert last is not None
    assert (last.data_areas, last.metadata_areas, last.boot_areas) == (many[:24], [], [])


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (31, "it starts at byte 31"),
        (473, "it starts at byte 473"),
        (472, "a list of areas has no end"),
        (0xFFFFFFFF, "it starts at byte 4294967295"),
    ],
)
def test_a_header_that_does_not_fit(at: int, what: str) -> None:
    body = IDENTIFIED + _numbers(5)
    block = bytearray(_sector(b""))
    if at < 512:
        block[max(at, 32) : at + len(body)] = body[max(32 - at, 0) :]
    del block[512:]
    block[20:24] = at.to_bytes(4, "little")
    block[16:20] = lvm_crc(bytes(block[20:])).to_bytes(4, "little")
    with pytest.raises(CorruptError) as caught:
        find_label(bytes(512) + bytes(block) + bytes(1024), "/dev/x", [])
    assert caught.value.message == f"/dev/x: the physical volume header in sector 1 is damaged: {what}"


def test_an_identifier_with_other_characters() -> None:
    with pytest.raises(CorruptError, match="sector 1 is damaged: its identifier has illegal characters"):
        _found(IDENTIFIED[:-1] + b"\xe9" + _numbers(5, 0, 0))


def test_a_label_behind_others_that_are_passed_over_is_found() -> None:
    """LVM2 looks at the first four sectors, each for itself."""
    good = pack_label(Label(UUID, 1 << 20, [(1 << 20, 0)], sector=3))
    wrong = bytearray(_sector(IDENTIFIED + _numbers(5)))
    wrong[511] ^= 1
    said: list[str] = []
    other = _sector(IDENTIFIED, kind=b"LVM1 001", sector=2)
    found = find_label(pack_label(Label(UUID, 7, sector=2)) + bytes(wrong) + other + good, "/dev/x", said)
    assert found == Label(UUID, 1 << 20, [(1 << 20, 0)], sector=3)
    assert said == [
        "/dev/x: Label for sector 2 found at sector 0 - ignoring.",
        "Label checksum incorrect on /dev/x - ignoring",
    ]
    # One in a fifth sector, or cut off by the disk's end, is none.
    fifth = pack_label(Label(UUID, 7, sector=4))
    assert find_label(bytes(2048) + fifth, "/dev/x", said) is None
    assert find_label(bytes(1536) + good[:511], "/dev/x", said) is None
    # A second one is passed over, and so is a third.
    three = b"".join(pack_label(Label(UUID, number, sector=number)) for number in range(3))
    said = []
    first = find_label(three + bytes(512), "/dev/x", said)
    assert first is not None
    assert first.device_size == 0
    assert said == [f"Ignoring additional label on /dev/x at sector {number}" for number in (1, 2)]
