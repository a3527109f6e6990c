# SPDX-License-Identifier: Apache-2.0
"""Hostile disks: never a traceback, never a hang, never a write."""

from __future__ import annotations

import struct
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.block import MemoryDevice
from lamella.errors import LamellaError
from lamella.lvm.disks.scan import Scan, scan
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.thin_pools import create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_thin
from tests.lvm.memory_groups import group_on, memory_disks, session_on, text_of

AREA = 4096


def _made() -> tuple[bytes, bytes]:
    disks = memory_disks(2)
    group_on(disks, copies=2)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(5, "lin"))
        create_lv(session, found, LvRequest(6, "str", stripes=2))
        pool = create_pool(session, found, "pool", 16)
        create_thin(session, found, pool, 10, ThinRequest("thin"))
    return bytes(disks["disk0"].content), bytes(disks["disk1"].content)


FIRST, SECOND = _made()
(TEXT,) = struct.unpack_from("<Q", FIRST, AREA + 40)
(LENGTH,) = struct.unpack_from("<Q", FIRST, AREA + 48)


def seal(disk: bytearray) -> None:
    """Right checksums over whatever is there now, so that the content itself gets read."""
    disk[528:532] = lvm_crc(bytes(disk[532:1024])).to_bytes(4, "little")
    offset, size = struct.unpack_from("<QQ", disk, AREA + 40)
    if offset + size < len(disk) - AREA:
        struct.pack_into("<I", disk, AREA + 56, lvm_crc(bytes(disk[AREA + offset : AREA + offset + size])))
    disk[AREA : AREA + 4] = lvm_crc(bytes(disk[AREA + 4 : AREA + 512])).to_bytes(4, "little")


def look_at_everything(found: Scan) -> None:
    found.all_notices()
    for each in found.groups:
        text_of(each.group)
        each.partial_lvs()
        each.group.users()
        each.group.free_extents()
        assert 0 <= each.mda_used_count <= each.mda_count
        for name in each.group.lvs:
            with suppress(LamellaError):
                open_lv(each, name, read_only=True).read(0, 512)


spots = st.one_of(
    st.integers(512, 1023), st.integers(AREA, AREA + 100), st.integers(AREA + TEXT, AREA + TEXT + LENGTH)
)
edits = st.lists(
    st.tuples(
        spots, st.one_of(st.binary(min_size=1, max_size=8), st.from_regex(rb"[{}\[\]\"=0-9a-z, \n]{1,12}"))
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits, st.booleans(), st.booleans())
def test_damage_anywhere(changes: list[tuple[int, bytes]], sealed: bool, alone: bool) -> None:
    disk = bytearray(FIRST)
    for place, data in changes:
        disk[place : place + len(data)] = data
    if sealed:
        seal(disk)
    disks = {"disk0": MemoryDevice(content=bytes(disk), name="disk0")}
    if not alone:
        disks["disk1"] = MemoryDevice(content=SECOND, name="disk1")
    look_at_everything(scan([], given=disks))
    assert bytes(disks["disk0"].content) == bytes(disk)
    before = {path: bytes(each.content) for path, each in disks.items()}
    with session_on(disks) as session:
        try:
            with session.editing("vg") as found:
                change_group(session, found, GroupChanges(add_tags=["x"]))
        except LamellaError:
            assert before == {path: bytes(each.content) for path, each in disks.items()}
        else:
            again = scan([], given=disks)
            assert [each.group.tags for each in again.groups if each.group.name == "vg"] == [["x"]]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=6000))
def test_noise(noise: bytes) -> None:
    disk = MemoryDevice(content=noise.ljust(1 << 20, b"\0"), name="noise")
    assert scan([], given={"noise": disk}).groups == []
    small = MemoryDevice(content=noise, name="small")
    assert scan([], given={"small": small}).groups == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(FIRST) // 512))
def test_disks_that_were_cut_off(sectors: int) -> None:
    disk = MemoryDevice(content=FIRST[: sectors * 512], name="cut")
    look_at_everything(scan([], given={"cut": disk}))
