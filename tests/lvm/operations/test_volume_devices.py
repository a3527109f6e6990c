# SPDX-License-Identifier: Apache-2.0
"""Logical volumes as devices: their content, what cannot be opened, and ranges of extents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import BusyError, CorruptError, NoSpaceError, NotFoundError, UnsupportedError, UsageError
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.thin_pools import create_pool
from lamella.lvm.operations.volume_groups import GroupOptions, create_group, extend_group
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, find_lv

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lvm.memory_groups import Edit


def test_ranges_of_extents(edit: Edit) -> None:
    session, found = edit
    group = found.group
    group.pvs[2].tags.append("fast")
    last = group.pvs[0].pe_count - 1

    def ranges(*arguments: str) -> list[tuple[str, list[tuple[int, int]]]]:
        return [(pv.device, pairs) for pv, pairs in parse_pv_ranges(found, arguments, session.say)]

    assert ranges("disk0") == [("disk0", [(0, last + 1)])]
    assert ranges("disk0:5", "disk1:0-9:20+5") == [("disk0", [(5, 1)]), ("disk1", [(0, 10), (20, 5)])]
    assert ranges("disk0:10-") == [("disk0", [(10, last - 9)])]
    assert ranges("disk0:-9") == [("disk0", [(0, 10)])]
    assert ranges("@fast") == [("disk2", [(0, last + 1)])]
    assert ranges("disk0:0-3", "disk0:7") == [("disk0", [(0, 4), (7, 1)])]
    for wrong in ("disk0:", "disk0::1", "disk0:x", "disk0:9-3", "disk0:0-9999", "disk0:0-5:3"):
        with pytest.raises(UsageError):
            ranges(wrong)
    with pytest.raises(NotFoundError, match='"nothing" not found'):
        ranges("nothing:1-2")
    group.pvs[1].status = []
    with pytest.raises(NoSpaceError, match="No specified PVs"):
        ranges("disk1")
    assert str(session.notices[-1]) == "WARNING: Physical volume disk1 not allocatable."


def test_linear_and_striped_volumes_hold_their_bytes(edit: Edit) -> None:
    session, found = edit
    for name, stripes in (("linear", 1), ("striped", 3)):
        create_lv(session, found, LvRequest(9, name, stripes=stripes, stripe_size=8 << 10))
        create_lv(session, found, LvRequest(1))
        resize_lv(session, found, find_lv(found, name), 18)
        device = open_lv(found, name)
        assert device.size == 18 * (128 << 10)
        content = bytes(number * 7 % 251 for number in range(device.size))
        device.write_many([(at, content[at : at + 100_001]) for at in range(0, device.size, 100_001)])
        device.flush()
        assert device.read(0, device.size) == content
        buffers = [
            (offset, bytearray(5000)) for offset in (0, 3, 8190, 9 * (128 << 10) - 7, device.size - 5000)
        ]
        device.read_many(buffers)
        assert all(bytes(buffer) == content[at : at + 5000] for at, buffer in buffers)
        device.write_zeros(100, 300_000)
        assert device.read(0, device.size) == content[:100] + bytes(300_000) + content[300_100:]
        with pytest.raises(ValueError, match="reach outside"):
            device.read(device.size - 1, 2)
        assert sum(length for _at, length in device.data_ranges()) == device.size
    # Where the extents lie is what the text says.
    lv = find_lv(found, "striped")
    area = lv.segments[0].areas()[1]
    assert area.pv is not None
    disk = found.disks[area.pv.uuid].reader
    place = area.pv.pe_start * 512 + area.extent * (128 << 10)
    assert disk.read(place, 4096) == open_lv(found, "striped").read(8 << 10, 4096)


def test_a_volume_stays_open_while_its_group_changes(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        paths.append(str(tmp_path / f"disk{number}"))
        FileDevice.create(paths[-1], 16 << 20).close()
    with Session(paths, environment()) as session:
        with session.creating("vg"):
            create_group(session, "vg", paths[:1], GroupOptions(extent_size=1 << 20))
        with session.editing("vg") as found:
            create_lv(session, found, LvRequest(5, "lv"))
        device = open_lv(session.find("vg"), "lv")
        device.write(0, b"before")
        with session.all_locked(), session.editing("vg") as found:
            extend_group(session, found, paths[1:])
            resize_lv(session, found, find_lv(found, "lv"), 20)
        device.write(6, b" and after")
        device.flush()
        grown = open_lv(session.find("vg"), "lv")
        assert grown.size == 20 << 20
        assert grown.read(0, 16) == b"before and after"
        with Session(paths, environment()) as other:
            assert other.find("vg").group.lvs["lv"].extents == 20
            with pytest.raises(BusyError), other.editing("vg") as found:
                create_lv(other, found, LvRequest(1))
    with Session(paths, environment()) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(1))


def test_what_cannot_be_opened(edit: Edit) -> None:
    session, found = edit
    create_pool(session, found, "pool", 20)
    with pytest.raises(UnsupportedError, match="thin-pool"):
        open_lv(found, "pool")
    with pytest.raises(NotFoundError):
        open_lv(found, "nothing")
    lv = create_lv(session, found, LvRequest(3, "lost"))
    pv = lv.segments[0].areas()[0].pv
    assert pv is not None
    del found.disks[pv.uuid]
    with pytest.raises(CorruptError, match="missing disk"):
        open_lv(found, "lost")
