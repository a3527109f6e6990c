# SPDX-License-Identifier: Apache-2.0
"""The reader's work on hostile file systems: it grows with their size, not with its square.

The kernel's ext4 keeps a map of each block's one owner in its bitmaps, and e2fsck calls a block with two
owners "multiply-claimed" (pass 1B): no sound file system has one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import CorruptError
from lamella.fs.ext4 import extents
from lamella.fs.ext4.extents import Run, append
from lamella.fs.ext4.reader import Reader
from tests.fs.trees import make_ext4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INODE = 256
BLOCK_MAP = 40
"""Where ``i_block`` lies in an inode (the kernel's filesystems/ext4/inodes.rst)."""


class Image:
    """An ext4 without checksums, with blocks of 1 KiB, that is changed in place."""

    def __init__(self, folder: Path, top: Path, size: str) -> None:
        make_ext4(
            folder / "image",
            top,
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^metadata_csum,^has_journal",
            "-N",
            "1024",
            size=size,
        )
        self.device = MemoryDevice(content=(folder / "image").read_bytes(), name="image")

    def inode(self, path: bytes) -> int:
        """The place of an inode on the device."""
        reader = Reader.open(self.device)
        group, index = reader.disk.inode_place(reader.resolve(path)[1].number)
        return reader.disk.tables[group] * 1024 + index * INODE

    def share(self, source: bytes, targets: list[bytes]) -> None:
        """Give inodes the size and the map of *source*."""
        whole = self.device.read(self.inode(source), INODE)
        for path in targets:
            place = self.inode(path)
            self.device.write(place + 4, whole[4:8])
            self.device.write(place + BLOCK_MAP, whole[BLOCK_MAP : BLOCK_MAP + 60])


def _directories(folder: Path, count: int) -> Image:
    """*count* directories with the blocks of one that has as many names."""
    top = folder / "top"
    (top / "many").mkdir(parents=True)
    for number in range(count):
        (top / f"d{number}").mkdir()
        (top / "many" / f"name{number:0196}").write_bytes(b"")
    image = Image(folder, top, "4M")
    image.share(b"many", [b"d%d" % number for number in range(count)])
    return image


def _files(folder: Path, count: int) -> Image:
    """*count* sparse files with the tree of one that has as many extents."""
    top = folder / "top"
    top.mkdir()
    with (top / "many").open("wb") as file:
        for number in range(count):
            file.seek(number * 4096)
            file.write(b"x")
    for number in range(count):
        (top / f"f{number}").write_bytes(b"")
    image = Image(folder, top, "4M")
    image.share(b"many", [b"f%d" % number for number in range(count)])
    return image


def _overlaps(folder: Path, count: int) -> Image:
    """A directory with *count* times the same blocks, which hold as many names."""
    top = folder / "top"
    (top / "many").mkdir(parents=True)
    for number in range(count):
        (top / "many" / f"name{number:0196}").write_bytes(b"")
    image = Image(folder, top, "4M")
    place = image.inode(b"many")
    reader = Reader.open(image.device)
    runs = reader.map(reader.resolve(b"many")[1]).runs
    _, first, length = max(runs, key=lambda run: run.length)
    leaf = reader.disk.blocks_count - 300
    for index in range(-(-count // 80)):
        entries = b"".join(
            struct.pack("<IHHI", (index * 80 + each) * length, length, 0, first) for each in range(80)
        )
        image.device.write((leaf + index) * 1024, struct.pack("<HHHHI", 0xF30A, 80, 80, 0, 0) + entries)
    roots = b"".join(
        struct.pack("<IIHH", index * 80 * length, leaf + index, 0, 0) for index in range(-(-count // 80))
    )
    head = struct.pack("<HHHHI", 0xF30A, -(-count // 80), 4, 1, 0)
    image.device.write(place + BLOCK_MAP, (head + roots).ljust(60, b"\0"))
    return image


@pytest.mark.parametrize("make", [_directories, _files, _overlaps])
def test_blocks_that_are_used_many_times(
    tmp_path: Path, make: Callable[[Path, int], Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks and names that are looked at stay within a multiple of the image's blocks."""
    looked_at = 0

    def counted(runs: list[Run], logical: int, physical: int, length: int) -> None:
        nonlocal looked_at
        looked_at += length
        append(runs, logical, physical, length)

    monkeypatch.setattr(extents, "append", counted)
    image = make(tmp_path, 320)
    names = 0

    def count() -> None:
        nonlocal names
        for _ in reader.walk():
            names += 1

    with Reader.open(image.device) as reader, pytest.raises(CorruptError, match="more blocks than it has"):
        count()
    assert looked_at + names < 11 * reader.disk.blocks_count
