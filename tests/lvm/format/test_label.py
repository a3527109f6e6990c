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
