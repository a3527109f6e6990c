# SPDX-License-Identifier: Apache-2.0
"""Repairing leaks: the real tools accept the result, nothing is lost, and a crash leaves old or new."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.cli.thin.tools import main
from lamella.errors import CorruptError, NoSpaceError, ReadOnlyError
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools.check import CheckOptions, check
from lamella.thin.tools.leak_repair import _FreeBlocks, _WithSuperblock, clear_needs_check, repair_leaks
from lamella.units import human_size
from tests.support.leaks import leak
from tests.support.recording import Recording
from tests.thin.judges import failure, since_1
from tests.thin.metadata_files import dumped, restore, xml
from tests.thin.plain_dumps import plain

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


def _leaky(fixture_dir: Callable[[str], Path], letter: str) -> bytes:
    folder = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / "damaged" / "leak_held_root"
    return (folder / "meta.bin").read_bytes()


@pytest.mark.parametrize("letter", ["a", "c"])
def test_leaks_are_freed(
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
    assert dumped(path.read_bytes()) == dumped(before)


def test_a_crash_leaves_the_old_state_or_the_new_one(fixture_dir: Callable[[str], Path]) -> None:
    before = _leaky(fixture_dir, "a")
    device = Recorder(before)
    report = check(device)
    repair_leaks(device, report)
    assert device.log[-1] is None
    last_flush = max(place for place, entry in enumerate(device.log[:-1]) if entry is None)
    assert device.log[last_flush + 1][0] == 0  # type: ignore[index]  # the superblock comes last, alone
    assert len(device.log) == last_flush + 3
    wanted = dumped(before)
    writes = [entry for entry in device.log[:last_flush] if entry]
    # Before the flush any part of the writes may have got to the disk, in any order.
    for chosen in (*(writes[:cut] for cut in range(len(writes) + 1)), writes[1::2], writes[::-3]):
        image = bytearray(before)
        for offset, data in chosen:
            image[offset : offset + len(data)] = data
        again = check(MemoryDevice(content=bytes(image)))
        assert not again.fatal
        assert (again.metadata_leaks, again.data_leaks) == (report.metadata_leaks, report.data_leaks)
        assert dumped(bytes(image)) == wanted


def test_counts_above_two_and_many_bitmaps(tool: Callable[[str], str], tmp_path: Path) -> None:
    shared = [(0, 0, 300, 1), (1000, 40000, 500, 1), (2000, 99_000, 1000, 1)]
    devices = {number: [*shared, (5000, 10_000 + 10 * number, 10, 2)] for number in range(1, 9)}
    path = restore(tool, xml(devices, nr_data_blocks=100_000), tmp_path / "meta.bin")
    before = dumped(path.read_bytes())
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
    assert dumped(path.read_bytes()) == before


def test_no_room_is_reported_and_nothing_written(tool: Callable[[str], str], tmp_path: Path) -> None:
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


def test_a_check_that_was_not_complete_is_no_ground_for_a_repair(fixture_dir: Callable[[str], Path]) -> None:
    device = Recorder(_leaky(fixture_dir, "a"))
    report = check(device, CheckOptions(skip_mappings=True))
    assert not report.fatal
    assert not report.complete
    with pytest.raises(CorruptError, match="other damage"):
        repair_leaks(device, report)
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


# -- leaks as a power cut makes them -----------------------------------------------------------------


def _sound(fixture_dir: Callable[[str], Path], letter: str, state: str) -> bytes:
    return (fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / state / "meta.bin").read_bytes()


@pytest.mark.parametrize(("letter", "state"), [("a", "clean"), ("c", "held")])
def test_how_much_has_leaked(fixture_dir: Callable[[str], Path], letter: str, state: str) -> None:
    device = MemoryDevice(content=_sound(fixture_dir, letter, state))
    report = check(device)
    assert report.leaks is not None
    assert not report.leaks
    assert not report.only_space_maps
    leak(device, data=3, metadata=1, too_high=4)
    report = check(device)
    assert report.leaks is not None
    chunk = report.leaks.chunk_size
    assert (report.leaks.data_bytes, report.leaks.metadata_bytes) == (3 * chunk, 4096)
    assert str(report.leaks) == (
        f"{human_size(3 * chunk)} of data (3 chunks) and 4.096kB of metadata (1 block); "
        "4 blocks in use, but counted too often"
    )
    assert check(device, CheckOptions(skip_mappings=True)).leaks is None


def _of(content: bytes) -> superblock.Superblock:
    return superblock.unpack(content[:BLOCK_SIZE], name="it")


def _in_use(path: Path) -> tuple[int, int]:
    """Blocks of data and of metadata in use, by the space maps."""
    fields = _of(path.read_bytes())
    return fields.data_sm_root.nr_allocated, fields.metadata_sm_root.nr_allocated


@pytest.mark.parametrize(("letter", "state"), [("a", "clean"), ("c", "clean"), ("c", "held")])
@pytest.mark.parametrize(("metadata", "data", "too_high"), [(5, 0, 0), (0, 7, 0), (2, 3, 4)])
def test_as_the_real_auto_repair(
    fixture_dir: Callable[[str], Path],
    tool: Callable[[str], str],
    tmp_path: Path,
    letter: str,
    state: str,
    metadata: int,
    data: int,
    too_high: int,
) -> None:
    sound = _sound(fixture_dir, letter, state)
    device = MemoryDevice(content=sound)
    leak(device, data=data, metadata=metadata, too_high=too_high)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for path in (theirs, ours):
        path.write_bytes(device.content)
    program = tool("thin_check")
    seen = failure() if metadata or since_1() else 0
    assert subprocess.run([program, "-q", theirs], check=False).returncode == seen
    # 1.1 leaves some of these leaks, and the number in use as it was.
    subprocess.run([program, "-q", "--auto-repair", theirs], check=not since_1())
    assert main("thin_check", ["-q", str(ours)]) == 1
    assert main("thin_check", ["-q", "--ignore-non-fatal-errors", str(ours)]) == 0
    assert main("thin_check", ["-q", "--auto-repair", str(ours)]) == 0
    assert main("thin_check", ["-q", str(ours)]) == 0
    subprocess.run([program, "-q", ours], check=True)
    real, own = (check(MemoryDevice(content=path.read_bytes())) for path in (theirs, ours))
    # 0.9 does not look at the counts of data; of metadata the result is the same.
    assert since_1() or _in_use(ours)[1] == _in_use(theirs)[1]
    assert _in_use(ours) == (_of(sound).data_sm_root.nr_allocated, _of(sound).metadata_sm_root.nr_allocated)
    assert since_1() or (real.metadata_leaks, real.data_leaks) == (0, data + too_high)
    assert own.ok
    dumps = {
        plain(subprocess.run([tool("thin_dump"), path], check=True, capture_output=True, text=True).stdout)
        for path in (theirs, ours)
    }
    assert dumps == {dumped(sound)}


@pytest.mark.parametrize(("letter", "state"), [("a", "clean"), ("c", "held")])
def test_cut_off_at_every_write(
    fixture_dir: Callable[[str], Path], tmp_path: Path, letter: str, state: str
) -> None:
    sound = _sound(fixture_dir, letter, state)
    device = MemoryDevice(content=sound)
    leak(device, data=9, metadata=3, too_high=2)
    wanted = dumped(sound)
    recording = Recording(tmp_path)
    recorded = recording.wrap(device, "metadata")
    repair_leaks(recorded, check(recorded))
    recording.mark("repaired")
    crashes, seen = 0, set()
    for crash in recording.crashes(random.Random(4), subsets=4):
        crashes += 1
        report = check(crash.devices["metadata"])
        assert report.ok or report.only_space_maps, crash.what
        assert report.ok or not crash.finished, crash.what
        seen.add(report.ok)
        assert dumped(crash.devices["metadata"]) == wanted, crash.what
        if not report.ok:
            assert (report.metadata_leaks, report.data_leaks) == (3, 11), crash.what
            assert repair_leaks(crash.devices["metadata"], report).ok, crash.what
    recording.close()
    assert seen == {False, True}
    assert crashes > 10


class Forgetful(MemoryDevice):
    """Loses the write number *lost*."""

    def __init__(self, content: bytes, lost: int) -> None:
        super().__init__(content=content)
        self.lost = lost
        self.writes = 0

    def write(self, offset: int, data: Buffer) -> None:
        self.writes += 1
        if self.writes != self.lost:
            super().write(offset, data)


def test_what_the_device_does_not_keep_is_not_applied(fixture_dir: Callable[[str], Path]) -> None:
    leaky = MemoryDevice(content=_sound(fixture_dir, "a", "clean"))
    leak(leaky, data=9, metadata=3)
    whole = Forgetful(bytes(leaky.content), 0)
    assert repair_leaks(whole, check(whole)).ok
    for lost in range(1, whole.writes):
        device = Forgetful(bytes(leaky.content), lost)
        with pytest.raises(CorruptError, match="does not return what was written"):
            repair_leaks(device, check(device))
        assert check(device).only_space_maps
    assert whole.writes > 4


@pytest.mark.parametrize("option", ["--clear-needs-check-flag", "--auto-repair"])
def test_leaks_beside_a_mark(fixture_dir: Callable[[str], Path], tmp_path: Path, option: str) -> None:
    """Both options mend leaks, as in thin-provisioning-tools 1.x."""
    folder = fixture_dir("needscheck-real.tar.zst") / "needscheck-real"
    device = MemoryDevice(content=(folder / "meta.bin").read_bytes())
    leak(device, data=2)
    path = tmp_path / "meta.bin"
    path.write_bytes(device.content)
    assert main("thin_check", ["-q", str(path)]) == 1
    assert path.read_bytes() == bytes(device.content)
    assert main("thin_check", ["-q", option, str(path)]) == 0
    found = superblock.unpack(path.read_bytes()[:BLOCK_SIZE], name="it")
    assert not found.needs_check
    assert main("thin_check", ["-q", str(path)]) == 0


def test_metadata_that_is_full_of_leaks(fixture_dir: Callable[[str], Path]) -> None:
    sound = _sound(fixture_dir, "a", "clean")
    device = MemoryDevice(content=sound)
    root = _of(sound).metadata_sm_root
    used = root.nr_allocated
    # All but what the space maps of the helper take; when it is done, those that they replace are free.
    leak(device, metadata=root.nr_blocks - used - 8)
    assert _of(bytes(device.content)).metadata_sm_root.nr_allocated >= root.nr_blocks - 8
    assert repair_leaks(device, check(device)).ok
    assert _of(bytes(device.content)).metadata_sm_root.nr_allocated == used


def test_what_will_be_checked_is_the_new_superblock_and_the_rest_of_the_device() -> None:
    """The check before the superblock is written: every way of reading gives block 0 as it will be."""
    old = bytes(range(256)) * (3 * BLOCK_SIZE // 256)
    new = b"\xa5" * BLOCK_SIZE
    after = new + old[BLOCK_SIZE:]
    device = _WithSuperblock(MemoryDevice(content=old), new)
    assert (device.size, device.read_only) == (len(old), True)
    places = [(0, 100), (100, BLOCK_SIZE), (BLOCK_SIZE - 1, 2), (BLOCK_SIZE, 512), (BLOCK_SIZE + 7, 90)]
    buffers = [bytearray(length) for _offset, length in places]
    device.read_many((offset, buffer) for (offset, _), buffer in zip(places, buffers, strict=True))
    for (offset, length), many in zip(places, buffers, strict=True):
        wanted = after[offset : offset + length]
        one = bytearray(length)
        device.read_into(offset, one)
        assert device.read(offset, length) == bytes(one) == bytes(many) == wanted, offset
    wide = np.zeros(20, np.uint32)  # whatever its items are, a buffer is filled with bytes
    device.read_into(BLOCK_SIZE - 40, wide)
    assert wide.tobytes() == after[BLOCK_SIZE - 40 : BLOCK_SIZE + 40]
    for change in (lambda: device.write(0, b"x"), lambda: device.discard(0, BLOCK_SIZE)):
        with pytest.raises(ReadOnlyError, match="for reading only"):
            change()
    assert bytes(device.device.content) == old  # type: ignore[attr-defined]


def test_the_last_free_block_is_taken_and_no_more() -> None:
    """Room for exactly the new space maps is enough; no block is passed over or given out twice."""
    free = np.array([3, 5, 6, 9], np.uint64)
    blocks = _FreeBlocks(MemoryDevice(10 * BLOCK_SIZE), free)
    assert blocks.take(1).tolist() == [3]
    assert blocks.take(3).tolist() == [5, 6, 9]
    with pytest.raises(NoSpaceError):
        blocks.take(1)
