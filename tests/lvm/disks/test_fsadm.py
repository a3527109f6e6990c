# SPDX-License-Identifier: Apache-2.0
"""``--resizefs`` without a kernel: which tools are run, and what is refused. A file stands for the volume."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, UnsupportedError
from lamella.lvm.disks import fsadm
from lamella.lvm.disks.fsadm import FileSystem, check, find_file_system, grow, shrink

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    with path.open("wb") as stream:
        stream.truncate(16 * MIB)
    return path


def blocks(path: Path) -> int:
    """Of 1024 bytes, from the superblock."""
    content = path.read_bytes()[1024:2048]
    return int.from_bytes(content[4:8], "little") << int.from_bytes(content[24:28], "little")


def test_ext4_fills_its_volume_and_shrinks(volume: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", str(volume), "8192"], check=True)
    found = find_file_system(str(volume))
    assert (found.kind, found.mounted_on) == ("ext4", "")
    check(found)
    grow(found)
    assert blocks(volume) == 16384
    shrink(found, 12 * MIB, confirm=lambda question: False)
    assert blocks(volume) == 12288
    assert subprocess.run(["e2fsck", "-fn", str(volume)], check=False, capture_output=True).returncode == 0


def test_nothing_to_resize_is_said(volume: Path) -> None:
    with pytest.raises(UnsupportedError, match="No file system"):
        find_file_system(str(volume))
    subprocess.run(["mkswap", str(volume)], check=True, capture_output=True)
    with pytest.raises(UnsupportedError, match="can be resized"):
        find_file_system(str(volume))


def test_xfs_does_not_shrink() -> None:
    with pytest.raises(UnsupportedError, match="shrinking is unsupported"):
        shrink(FileSystem("/dev/none", "xfs"), MIB, confirm=lambda question: True)


def test_a_mounted_file_system_is_not_unmounted_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **_: pytest.fail(f"ran {words}"))
    with pytest.raises(BusyError, match='mounted filesystem "/mnt"'):
        shrink(FileSystem("/dev/none", "ext4", "/mnt"), MIB, confirm=lambda question: False)
    check(FileSystem("/dev/none", "ext4", "/mnt"))


def test_a_mounted_file_system_is_mounted_again_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(words[0].rpartition("/")[2])
        return subprocess.CompletedProcess(words, int("resize2fs" in words[0]))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Exception, match="resize failed"):
        shrink(FileSystem("/dev/none", "ext4", "/mnt"), MIB, confirm=lambda question: True)
    assert ran == ["umount", "e2fsck", "resize2fs", "mount"]


def test_places_with_blanks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("25 1 0:0 / /a\\040b\\134c rw - ext4 /dev/x rw\nshort\n")
    monkeypatch.setattr(fsadm, "MOUNTS", table)
    assert fsadm.mounted_on(str(volume)) == "/a b\\c"


def test_a_place_with_odd_bytes_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Path
) -> None:
    """Bytes that Unicode counts as line ends, and a backslash before digits, which is one in the path."""
    table = tmp_path / "mountinfo"
    table.write_bytes(b"25 1 0:0 / /a\x0c\xc2\x85b\\134040\xff rw - ext4 /dev/x rw\n")
    monkeypatch.setattr(fsadm, "MOUNTS", table)
    assert os.fsencode(fsadm.mounted_on(str(volume))) == b"/a\x0c\xc2\x85b\\040\xff"
