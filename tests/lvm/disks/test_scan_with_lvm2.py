# SPDX-License-Identifier: Apache-2.0
"""Faulty disks: we say of them what LVM2 says, line by line, and choose the same group."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks.scan import scan
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.session.locks import group_lock

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.lvm.real import RealLvm

    Start = Callable[..., RealLvm]

AREA = 4096


def put(device: str, offset: int, data: bytes) -> None:
    with Path(device).open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def get(device: str, offset: int, length: int) -> bytes:
    with Path(device).open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def compare(lvm: RealLvm) -> None:
    """Equal warnings, equal group."""
    result: subprocess.CompletedProcess[str] = lvm.run(
        "vgs", "--noheadings", "-o", "vg_name,vg_seqno,vg_tags"
    )
    found = scan(lvm.devices, min_size=512 << 10)
    said = [str(notice) for notice in found.all_notices() if notice.level not in ("verbose", "print")]
    assert said == lvm.complaints(result)
    rows = [[each.group.name, str(each.group.seqno), ",".join(each.group.tags)] for each in found.groups]
    shown = [line.split() for line in result.stdout.splitlines() if "Retrying" not in line]
    assert shown == sorted([word for word in row if word] for row in rows)
    found.close()


@pytest.fixture
def lvm(real_lvm: Start) -> RealLvm:
    started = real_lvm(3, 32 << 20)
    started.ok("vgcreate", "-s", "1m", "vg", *started.devices[:2])
    started.ok("vgchange", "--addtag", "x", "vg")
    return started


def broken_grammar(device: str) -> None:
    """Text that is no text, under right checksums."""
    offset, size, _checksum, flags = struct.unpack("<QQII", get(device, AREA + 40, 24))
    text = bytearray(get(device, AREA + offset, size))
    text[10:20] = b"}}}}{{{{=="
    put(device, AREA + offset, bytes(text))
    header = bytearray(get(device, AREA, 512))
    struct.pack_into("<QQII", header, 40, offset, size, lvm_crc(bytes(text)), flags)
    struct.pack_into("<I", header, 0, lvm_crc(bytes(header[4:])))
    put(device, AREA, bytes(header))


DAMAGES: dict[str, Callable[[str], None]] = {
    "nothing": lambda device: None,
    "checksum of the header": lambda device: put(device, AREA, b"\1\2\3"),
    "magic of the header": lambda device: put(device, AREA + 4, b"zz"),
    "slot of the header": lambda device: put(device, AREA + 40, b"\xff"),
    "whole header": lambda device: put(device, AREA, bytes(512)),
    "text": lambda device: put(
        device, AREA + struct.unpack("<Q", get(device, AREA + 40, 8))[0] + 40, b"\xff"
    ),
    "grammar": broken_grammar,
    "label": lambda device: put(device, 520, b"\xff"),
    "checksum of the label": lambda device: put(device, 700, b"\xff"),
    "everything": lambda device: put(device, 0, bytes(1 << 20)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(lvm: RealLvm, damage: str) -> None:
    DAMAGES[damage](lvm.devices[0])
    compare(lvm)


def test_stale_and_outdated_disks(lvm: RealLvm) -> None:
    old = get(lvm.devices[1], 0, 1 << 20)
    lvm.ok("vgchange", "--addtag", "y", "vg")
    put(lvm.devices[1], 0, old)
    compare(lvm)
    put(lvm.devices[1], 0, bytes(1 << 20))
    lvm.ok("vgreduce", "--removemissing", "vg")
    put(lvm.devices[1], 0, old)
    compare(lvm)


def test_doubles(lvm: RealLvm) -> None:
    put(lvm.devices[2], 0, get(lvm.devices[0], 0, 1 << 20))
    compare(lvm)


def test_groups_of_one_name(lvm: RealLvm) -> None:
    lvm.ok("vgcreate", "other", lvm.devices[2])
    compare(lvm)


def test_our_lock_holds_lvm_up(lvm: RealLvm, tmp_path: Path) -> None:
    """LVM2 waits for the lock that we hold, in the folder where it keeps its own."""
    lvm.extra = f'global/locking_dir="{tmp_path}" global/wait_for_locks=0'
    with group_lock(tmp_path, "vg", write=True):
        result = lvm.run("vgchange", "--addtag", "z", "vg")
        assert result.returncode != 0
        assert "Can't get lock for vg" in result.stderr
    lvm.ok("vgchange", "--addtag", "z", "vg")
