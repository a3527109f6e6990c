# SPDX-License-Identifier: Apache-2.0
"""The real LVM2 with Lamella's thin tools as its own, over every state that a pool's metadata can be in.

LVM2 runs ``thin_check -q --clear-needs-check-flag`` (its default, where its builder had a thin_check to look
at: Debian had none, so it is set here) before and after a pool is active, and for ``lvconvert
--repair`` ``thin_repair "" -i .. -o ..``, after which it reads the first line of ``thin_dump``.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE, SUPERBLOCK_XOR, seal
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import check
from tests.guest.machine import Disk, disk, run
from tests.support.leaks import leak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = "tools"
EXTENT = 4 << 20
SIZE = 4 << 20
"""Bytes of the pool's metadata."""


class PoolOnDisk:
    """A thin pool of LVM2's with one volume that was written to, and a snapshot of it."""

    def __init__(self, disk: Disk, config: str) -> None:
        self.disk, self.config = disk, config
        self.lvm("vgcreate", "-qq", GROUP, disk.device)
        self.lvm(
            "lvcreate", "-qq", "-L64m", "--poolmetadatasize", "4m", "-c64k", "-Zn", "-T", f"{GROUP}/pool"
        )
        self.lvm("lvcreate", "-qq", "-V32m", "-n", "one", "--thinpool", f"{GROUP}/pool")
        self.content = bytes(range(256)) * 4096
        Path(f"/dev/{GROUP}/one").write_bytes(self.content)
        run("sync")
        self.lvm("lvcreate", "-qq", "-s", "-n", "two", f"{GROUP}/one")
        self.lvm("vgchange", "-qq", "-an", GROUP)

    def lvm(self, command: str, *arguments: str) -> str:
        return self.disk.lvm(command, *arguments, config=self.config)

    def refused(self, command: str, *arguments: str) -> str:
        """What LVM2 says when it does not do it."""
        with pytest.raises(AssertionError) as caught:
            self.lvm(command, *arguments)
        return str(caught.value)

    def _place(self) -> int:
        ranges = self.lvm("lvs", "-a", "--noheadings", "-o", "seg_pe_ranges", f"{GROUP}/pool_tmeta")
        return (1 << 20) + int(ranges.strip().rpartition(":")[2].partition("-")[0]) * EXTENT

    def metadata(self) -> MemoryDevice:
        with FileDevice(self.disk.path, read_only=True, lock=False) as file:
            return MemoryDevice(content=file.read(self._place(), SIZE))

    def change(self, metadata: MemoryDevice) -> None:
        with FileDevice(self.disk.path, lock=False) as file:
            file.write(self._place(), metadata.content)
            file.flush()
        run("blockdev", "--flushbufs", self.disk.device)

    def assert_usable(self) -> None:
        """It becomes active, both volumes hold what was written, and its metadata are sound afterwards."""
        self.lvm("vgchange", "-qq", "-ay", GROUP)
        try:
            self.lvm("lvchange", "-qq", "-ay", "-K", f"{GROUP}/two")
            for name in ("one", "two"):
                with open(f"/dev/{GROUP}/{name}", "rb") as volume:
                    assert volume.read(len(self.content)) == self.content
            with open(f"/dev/{GROUP}/one", "r+b") as volume:
                volume.seek(20 << 20)
                volume.write(b"more")
            run("sync")
        finally:
            self.lvm("vgchange", "-qq", "-an", GROUP)
        assert check(self.metadata()).problems == []


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Callable[..., PoolOnDisk]]:
    modules = ":".join(filter(None, sys.path))
    for name in ("thin_check", "thin_repair", "thin_dump"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.calls\n'
            f'PYTHONPATH={modules} exec {sys.executable} -m lamella {name} "$@"\n'
        )
        program.chmod(0o755)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(disk(tmp_path / "disk", 200 << 20, GROUP))

        def make(options: str = '[ "" ]') -> PoolOnDisk:
            return PoolOnDisk(
                made,
                f'global {{ thin_check_executable="{tmp_path}/thin_check" '
                f'thin_repair_executable="{tmp_path}/thin_repair" '
                f'thin_dump_executable="{tmp_path}/thin_dump" thin_repair_options={options} '
                'thin_check_options=[ "-q", "--clear-needs-check-flag" ] }',
            )

        yield make


def test_a_sound_pool(pool: Callable[..., PoolOnDisk], tmp_path: Path) -> None:
    made = pool()
    made.assert_usable()
    calls = (tmp_path / "thin_check.calls").read_text().splitlines()
    assert all(call.startswith("-q --clear-needs-check-flag ") for call in calls)
    assert len(calls) >= 3


def test_needs_check_is_cleared(pool: Callable[..., PoolOnDisk]) -> None:
    made = pool()
    metadata = made.metadata()
    metadata.content[4] |= superblock.NEEDS_CHECK
    seal(memoryview(metadata.content)[:BLOCK_SIZE], SUPERBLOCK_XOR)
    made.change(metadata)
    made.assert_usable()
    assert not superblock.decode(bytes(made.metadata().content[:BLOCK_SIZE])).needs_check


def test_leaks_are_mended(pool: Callable[..., PoolOnDisk]) -> None:
    made = pool()
    metadata = made.metadata()
    leak(metadata, data=3, metadata=2)
    assert check(metadata).data_leaks == 3
    made.change(metadata)
    made.assert_usable()


@pytest.mark.parametrize("what", ["mapping_root", "details_root", "data_map"])
def test_damage_is_refused_and_repaired(pool: Callable[..., PoolOnDisk], tmp_path: Path, what: str) -> None:
    made = pool()
    metadata = made.metadata()
    fields = Metadata.open(metadata).superblock
    block = {
        "mapping_root": fields.mapping_root,
        "details_root": fields.details_root,
        "data_map": fields.data_sm_root.bitmap_root,
    }[what]
    metadata.content[block * BLOCK_SIZE + 200] ^= 1
    made.change(metadata)
    assert "Manual repair required!" in made.refused("lvchange", "-ay", f"{GROUP}/pool")
    made.lvm("lvconvert", "-qq", "-y", "--repair", f"{GROUP}/pool")
    assert (tmp_path / "thin_repair.calls").read_text().startswith(" -i ")
    assert (tmp_path / "thin_dump.calls").read_text().count("\n") == 1
    made.assert_usable()


def test_a_lost_superblock_is_repaired_with_the_block_size(pool: Callable[..., PoolOnDisk]) -> None:
    made = pool()
    metadata = made.metadata()
    metadata.content[:BLOCK_SIZE] = b"lost".ljust(BLOCK_SIZE, b"\1")
    made.change(metadata)
    assert "Manual repair required!" in made.refused("lvchange", "-ay", f"{GROUP}/pool")
    said = made.refused("lvconvert", "-y", "--repair", f"{GROUP}/pool")
    assert "data block size needs to be provided due to corruption in the superblock" in said
    assert "Repair of thin metadata volume of thin pool tools/pool failed (status:1)" in said
    made.config = made.config.replace('[ "" ]', '[ "--data-block-size", "128" ]')
    made.lvm("lvconvert", "-qq", "-y", "--repair", f"{GROUP}/pool")
    made.assert_usable()


def test_metadata_of_another_time_is_told(pool: Callable[..., PoolOnDisk], tmp_path: Path) -> None:
    """LVM2 compares the transaction id in the first line of the dump with the group's."""
    made = pool()
    metadata = made.metadata()
    fields = superblock.decode(bytes(metadata.content[:BLOCK_SIZE]))
    fields.transaction_id = 40
    metadata.content[:BLOCK_SIZE] = fields.pack()
    made.change(metadata)
    made.config += f' log {{ file="{tmp_path}/log" level=4 }}'
    made.lvm("lvconvert", "-y", "--repair", f"{GROUP}/pool")
    said = (tmp_path / "log").read_text()
    assert 'Transaction id 2 from pool "tools/pool" does not match repaired transaction id 40' in said
