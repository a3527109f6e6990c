# SPDX-License-Identifier: Apache-2.0
"""Repairing leaks: the real tools accept the result, nothing is lost, and a crash leaves old or new."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import CorruptError, NoSpaceError
from lamella.thin import superblock
from lamella.thin.check import check
from lamella.thin.checksum import BLOCK_SIZE
from lamella.thin.dump import dump
from lamella.thin.fix import clear_needs_check, repair_leaks
from lamella.thin.metadata import Metadata
from tests.thin.metadata_files import restore, xml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer


class Recorder(MemoryDevice):
    """Remembers every write and flush."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content=content)
        self.log: list[tuple[int, bytes] | None] = []

    def write(self, offset: int, data: Buffer) -> None:
        self.log.append((offset, bytes(data)))
        super().write(offset, data)

    def flush(self) -> None:
        self.log.append(None)


def _dump(content: bytes) -> bytes:
    pieces: list[bytes] = []
    dump(Metadata.open(MemoryDevice(content=content)), pieces.append)
    return b"".join(pieces)


def _leaky(fixture_dir: Callable[[str], Path], letter: str) -> bytes:
    folder = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / "damaged" / "leak_held_root"
    return (folder / "meta.bin").read_bytes()


@pytest.mark.parametrize("letter", ["a", "c"])
def test_leaks_are_given_back(
    fixture_dir: Callable[[str], Path], tool: Callable[[str], str], tmp_path: Path, letter: str
) -> None:
    before = _leaky(fixture_dir, letter)
    path = tmp_path / "meta.bin"
    path.write_bytes(before)
    with FileDevice(path) as device:
        repair_leaks(device, check(device))
        report = check(device)
        assert report.problems == []
        assert report.complete
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    assert _dump(path.read_bytes()) == _dump(before)


def test_a_crash_leaves_the_old_state_or_the_new_one(fixture_dir: Callable[[str], Path]) -> None:
    before = _leaky(fixture_dir, "a")
    device = Recorder(before)
    report = check(device)
    repair_leaks(device, report)
    assert device.log[-1] is None
    last_flush = max(place for place, entry in enumerate(device.log[:-1]) if entry is None)
    assert device.log[last_flush + 1][0] == 0  # type: ignore[index]  # the superblock comes last, alone
    assert len(device.log) == last_flush + 3
    wanted = _dump(before)
    writes = [entry for entry in device.log[:last_flush] if entry]
    # Before the flush any part of the writes may have got to the disk, in any order.
    for chosen in (*(writes[:cut] for cut in range(len(writes) + 1)), writes[1::2], writes[::-3]):
        image = bytearray(before)
        for offset, data in chosen:
            image[offset : offset + len(data)] = data
        again = check(MemoryDevice(content=bytes(image)))
        assert not again.fatal
        assert (again.metadata_leaks, again.data_leaks) == (report.metadata_leaks, report.data_leaks)
        assert _dump(bytes(image)) == wanted


def test_counts_above_two_and_many_bitmaps(tool: Callable[[str], str], tmp_path: Path) -> None:
    shared = [(0, 0, 300, 1), (1000, 40000, 500, 1), (2000, 99_000, 1000, 1)]
    devices = {number: [*shared, (5000, 10_000 + 10 * number, 10, 2)] for number in range(1, 9)}
    path = restore(tool, xml(devices, nr_data_blocks=100_000), tmp_path / "meta.bin")
    before = _dump(path.read_bytes())
    with FileDevice(path) as device:
        # One device fewer in the trees than in the counts: a leak of its own blocks and of one reference.
        fields = superblock.unpack(device.read(0, BLOCK_SIZE), name="it")
        report = check(device)
        assert report.ok
        repair_leaks(device, report)
        after = superblock.unpack(device.read(0, BLOCK_SIZE), name="it")
        assert after.data_sm_root.bitmap_root != fields.data_sm_root.bitmap_root
        assert after.data_sm_root.nr_allocated == fields.data_sm_root.nr_allocated
        assert check(device).problems == []
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    assert _dump(path.read_bytes()) == before


def test_no_room_is_told_and_nothing_written(tool: Callable[[str], str], tmp_path: Path) -> None:
    text = xml({1: [(0, 0, 60_000, 1)]}, nr_data_blocks=400_000)
    content = restore(tool, text, tmp_path / "meta.bin").read_bytes()
    fields = superblock.unpack(content[:BLOCK_SIZE], name="it")
    device = Recorder(content)
    report = check(device)
    assert report.superblock is not None
    # Pretend that all but five blocks are in use.
    assert report.metadata_references is not None
    free = fields.metadata_sm_root.nr_blocks
    for block in range(1, free - 5):
        report.metadata_references.add_one(block)
    with pytest.raises(NoSpaceError, match="no room for new space maps"):
        repair_leaks(device, report)
    assert bytes(device.content) == content


def test_other_damage_is_not_touched(fixture_dir: Callable[[str], Path]) -> None:
    folder = fixture_dir("thin-a.tar.zst") / "thin-a" / "damaged" / "data_refcount_mismatch"
    device = Recorder((folder / "meta.bin").read_bytes())
    with pytest.raises(CorruptError, match="other damage"):
        repair_leaks(device, check(device))
    assert device.log == []


def test_needs_check_is_cleared_in_one_block(fixture_dir: Callable[[str], Path]) -> None:
    path = fixture_dir("needscheck-real.tar.zst") / "needscheck-real" / "meta.bin"
    before = path.read_bytes()
    device = Recorder(before)
    assert clear_needs_check(device)
    assert [entry and entry[0] for entry in device.log] == [0, None]
    assert bytes(device.content[BLOCK_SIZE:]) == before[BLOCK_SIZE:]
    assert check(device).ok
    assert not clear_needs_check(device)
    assert len(device.log) == 2
