# SPDX-License-Identifier: Apache-2.0
"""Signatures of file systems: found and wiped on new physical and logical volumes."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import BusyError
from lamella.lvm.disks.signatures import find_signatures
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.physical_volumes import create_pv
from lamella.lvm.operations.thin_volumes import remove_any
from lamella.lvm.operations.volume_groups import GroupOptions, create_group
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lvm.memory_groups import Edit


def test_signatures_are_found_asked_about_and_wiped(tool: Callable[[str], str], tmp_path: Path) -> None:
    mkfs = tool("mkfs.ext4")
    path = tmp_path / "disk"
    FileDevice.create(path, 24 << 20).close()
    subprocess.run([mkfs, "-q", str(path)], check=True)
    with FileDevice(path, read_only=True) as disk:
        (signature,) = find_signatures(disk)
    assert (signature.type, signature.offset, signature.length) == ("ext4", 1080, 2)
    before = path.read_bytes()
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    with (
        Session([str(path)], environment()) as session,
        session.all_locked(),
        pytest.raises(BusyError, match="not initialized"),
    ):
        create_pv(session, str(path), confirm=refuse)
    assert asked == [f"WARNING: ext4 signature detected on {path} at offset 1080. Wipe it? [y/n]: "]
    assert path.read_bytes() == before
    with Session([str(path)], environment()) as session, session.all_locked():
        create_pv(session, str(path), confirm=lambda question: True)
        assert str(session.notices[-1]) == f"Wiping ext4 signature on {path}."
    with FileDevice(path, read_only=True) as disk:
        assert [found.type for found in find_signatures(disk)] == ["LVM2_member"]


def test_an_old_file_system_in_a_new_volume(tool: Callable[[str], str], edit: Edit, tmp_path: Path) -> None:
    mkfs = tool("mkfs.ext4")
    session, found = edit
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(20 * (128 << 10))
    subprocess.run([mkfs, "-q", str(image)], check=True)
    lv = create_lv(session, found, LvRequest(20, "old", stripes=2))
    open_lv(found, "old").write(0, image.read_bytes())
    remove_any(session, found, lv)
    create_lv(session, found, LvRequest(20, "new", stripes=2, zero=False), confirm=lambda question: True)
    assert "Wiping ext4 signature on /dev/vg/new." in [str(notice) for notice in session.notices]
    assert find_signatures(open_lv(found, "new")) == []


def test_a_disk_over_the_network(tool: Callable[[str], str], tmp_path: Path) -> None:
    nbdkit = tool("nbdkit")
    socket, image = tmp_path / "socket", tmp_path / "image"
    FileDevice.create(image, 32 << 20).close()
    uri = f"nbd+unix:///?socket={socket}"
    server = subprocess.Popen([nbdkit, "-f", "-U", str(socket), "file", str(image)])
    try:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.01)
        local = tmp_path / "local"
        FileDevice.create(local, 32 << 20).close()
        with Session([uri, str(local)], environment()) as session, session.creating("vg"):
            create_group(session, "vg", [uri, str(local)], GroupOptions(extent_size=1 << 20))
        with Session([uri, str(local)], environment()) as session, session.editing("vg") as found:
            ranges = parse_pv_ranges(found, [f"{uri}:2-9"], session.say)
            create_lv(session, found, LvRequest(8, "far", ranges=ranges))
            create_lv(session, found, LvRequest(8, "both", stripes=2))
            device = open_lv(found, "both")
            device.write(1000, b"x" * 200_000)
            device.flush()
            assert device.read(999, 200_002) == b"\0" + b"x" * 200_000 + b"\0"
    finally:
        server.terminate()
        server.wait()
    with Session([str(image), str(local)], environment()) as session:
        group = session.find("vg").group
        assert [area.extent for area in group.lvs["far"].segments[0].areas()] == [2]
        assert {pv.device for pv in group.pvs} == {str(image), str(local)}
