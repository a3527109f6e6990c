# SPDX-License-Identifier: Apache-2.0
"""A commit's steps one by one, on disks that fail at each of them. What a power cut between them leaves is
tested in tests/lvm/operations/test_power_cut.py; the order is LVM2's (vg_write, vg_precommit, vg_commit)."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import DeviceIOError, UsageError
from lamella.lvm.format.group_writer import Header
from lamella.lvm.format.label import find_label
from lamella.lvm.format.metadata_area import IGNORED, Slot, text_ranges, unpack_header
from lamella.lvm.session.commit import commit_group, forget_group, mark_used
from tests.lvm.memory_groups import SIZE, group_on, session_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.block.device import Buffer
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.metadata_area import AreaHeader

HEADER = Header("test", "a command", "host", 7)
AREA = 4096
"""Where the first metadata area starts: its header is written there."""


class Disk(MemoryDevice):
    """Logs what it is told to do, and fails where *broken* says so."""

    log: list[tuple[str, str]]
    broken: Callable[[str, str], bool] = staticmethod(lambda name, step: False)

    def _step(self, step: str) -> None:
        self.log.append((self.name, step))
        if self.broken(self.name, step):
            raise DeviceIOError(f"{self.name}: Input/output error", hint="replace it")

    def write(self, offset: int, data: Buffer) -> None:
        step = "label" if offset < 2048 else "header" if offset == AREA else "text"
        self._step(step)
        super().write(offset, data)

    def flush(self) -> None:
        self._step("flush")

    def area(self) -> AreaHeader:
        return unpack_header(self.read(AREA, 512), AREA, self.name, [])

    def text(self) -> str:
        area = self.area()
        parts = text_ranges(area, area.committed, self.name)
        return b"".join(self.read(at, length) for at, length in parts).decode()


def _disks() -> dict[str, Disk]:
    disks = {f"disk{number}": Disk(SIZE, name=f"disk{number}") for number in range(3)}
    log: list[tuple[str, str]] = []
    for disk in disks.values():
        disk.log = log
    group_on(disks)
    log.clear()
    return disks


@contextmanager
def _found(disks: dict[str, Disk]) -> Iterator[FoundGroup]:
    with session_on(disks) as session:
        yield session.find("vg")


def _commit(found: FoundGroup, around: object = None) -> list[Notice]:
    said: list[Notice] = []
    commit_group(found, HEADER, said.append, around)  # type: ignore[arg-type]
    return said


NAMES = ("disk0", "disk1", "disk2")


def _each(step: str) -> list[tuple[str, str]]:
    return [(name, step) for name in NAMES]


def test_all_disks_finish_a_step_before_any_starts_the_next() -> None:
    disks = _disks()
    log = disks["disk0"].log

    @contextmanager
    def around() -> Iterator[None]:
        log.append(("", "suspended"))
        yield
        log.append(("", "resumed"))

    with _found(disks) as found:
        log.clear()
        assert _commit(found, around()) == []
        assert found.group.seqno == 2
        assert found.stale == []
        for copy in found.copies:
            assert copy.text.decode() == disks[copy.disk.path].text()
            assert copy.group is found.group
    flush = _each("flush")
    assert log == [
        *(_each("text") + flush),
        *(_each("header") + flush),
        ("", "suspended"),
        *(_each("header") + flush),
        ("", "resumed"),
    ]
    for disk in disks.values():
        assert "seqno = 2" in disk.text()
        assert disk.text().endswith("\0")
        assert disk.area().precommitted == Slot()
        assert disk.area().committed.flags == 0


def test_what_has_the_new_text_is_in_the_second_slot_first() -> None:
    """vg_precommit: the first slot still refers to the old text, the second to the new one."""
    disks = _disks()
    old = {name: disk.area().committed for name, disk in disks.items()}

    @contextmanager
    def around() -> Iterator[None]:
        for name, disk in disks.items():
            assert disk.area().committed == old[name]
            assert disk.area().precommitted.offset != old[name].offset
            assert "seqno = 1" in disk.text()
            before[name] = disk.area().precommitted
        yield

    before: dict[str, Slot] = {}
    with _found(disks) as found:
        _commit(found, around())
    assert {name: disk.area().committed for name, disk in disks.items()} == before


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("step", ["text", "header", "flush"])
def test_a_failure_before_the_last_step_leaves_the_old_text(step: str, number: int) -> None:
    disks = _disks()
    seen = 0

    def broken(name: str, what: str) -> bool:
        nonlocal seen
        seen += what == step
        return what == step and seen == number

    with _found(disks) as found:
        for disk in disks.values():
            disk.broken = broken
        with pytest.raises(DeviceIOError):
            _commit(found)
    for disk in disks.values():
        disk.broken = Disk.broken
        assert "seqno = 1" in disk.text()
    with _found(disks) as found:
        assert found.group.seqno == 1
        assert found.stale == []


def test_what_fails_while_volumes_are_suspended_is_rolled_back() -> None:
    disks = _disks()

    class Around(nullcontext[None]):
        def __enter__(self) -> None:
            raise ValueError("cannot suspend")

    with _found(disks) as found:
        _commit(found)
        old = [copy.header for copy in found.copies]
        log = disks["disk0"].log
        log.clear()
        disks["disk1"].broken = lambda name, step: log.count((name, "header")) > 1
        with pytest.raises(ValueError, match="cannot suspend"):
            _commit(found, Around())
        assert found.group.seqno == 2
        assert [copy.header for copy in found.copies] == old
    # The second slots are cleared on each disk, whatever another one says, and durably.
    assert log[-5:] == [
        ("disk0", "header"),
        ("disk0", "flush"),
        ("disk1", "header"),
        ("disk2", "header"),
        ("disk2", "flush"),
    ]
    disks["disk1"].broken = Disk.broken
    for name in ("disk0", "disk2"):
        assert disks[name].area().precommitted == Slot()
    assert all("seqno = 2" in disk.text() for disk in disks.values())


def test_what_fails_after_the_commit_does_not_roll_it_back() -> None:
    disks = _disks()

    @contextmanager
    def around() -> Iterator[None]:
        yield
        raise ValueError("cannot resume")

    with _found(disks) as found:
        with pytest.raises(ValueError, match="cannot resume"):
            _commit(found, around())
        assert found.group.seqno == 2
    assert all("seqno = 2" in disk.text() for disk in disks.values())


@pytest.mark.parametrize("what", ["header", "flush"])
def test_once_one_disk_is_committed_others_are_only_reported(what: str) -> None:
    disks = _disks()
    log = disks["disk0"].log
    with _found(disks) as found:
        log.clear()
        limit = 1 if what == "header" else 2
        disks["disk1"].broken = lambda name, step: step == what and log.count((name, what)) > limit
        said = _commit(found)
        assert found.group.seqno == 2
        assert [(str(each), each.kind, each.level) for each in said] == [
            ("Failed to write metadata to disk1: disk1: Input/output error", "write", "error")
        ]
    assert log[-3:] == _each("flush")
    disks["disk1"].broken = Disk.broken
    for name in ("disk0", "disk2"):
        assert "seqno = 2" in disks[name].text()
    assert ("seqno = 1" in disks["disk1"].text()) == (what == "header")


def test_where_no_disk_takes_the_commit_it_is_rolled_back() -> None:
    disks = _disks()
    log = disks["disk0"].log
    with _found(disks) as found:
        log.clear()
        for disk in disks.values():
            disk.broken = lambda name, step: step == "header" and log.count((name, step)) > 1
        with pytest.raises(DeviceIOError, match="disk0: Input/output error"):  # the first of them
            _commit(found)
        assert found.group.seqno == 1
    for disk in disks.values():
        disk.broken = Disk.broken
        assert "seqno = 1" in disk.text()


def test_an_area_that_is_to_be_ignored_takes_this_last_text() -> None:
    disks = _disks()
    with _found(disks) as found:
        found.copies[1].ignore_next = True
        found.copies[2].problem = "damaged"
        _commit(found)
        assert [copy.ignore_next for copy in found.copies] == [None, None, None]
    assert [disks[name].area().committed.flags for name in NAMES] == [0, IGNORED, 0]
    assert ["seqno = 2" in disks[name].text() for name in NAMES] == [True, True, False]
    old = disks["disk1"].text()
    with _found(disks) as found:
        _commit(found)
    assert disks["disk1"].text() == old  # ignored now, it is left alone
    with _found(disks) as found:
        found.copies[1].ignore_next = False
        _commit(found)
    assert [disks[name].area().committed.flags for name in NAMES] == [0, 0, 0]
    assert disks["disk1"].text() == disks["disk0"].text()


def test_an_ignored_area_that_is_used_again_has_no_precommitted_text() -> None:
    """Its old text is out of date, and a reader stops at a first slot without an offset."""
    disks = _disks()
    with _found(disks) as found:
        found.copies[1].ignore_next = True
        _commit(found)
    seen: list[tuple[Slot, Slot]] = []

    class Around(nullcontext[None]):
        def __enter__(self) -> None:
            seen.append((disks["disk1"].area().committed, disks["disk1"].area().precommitted))

    with _found(disks) as found:
        found.copies[1].ignore_next = False
        _commit(found, Around())
    assert seen == [(Slot(flags=IGNORED), Slot())]
    assert "seqno = 3" in disks["disk1"].text()


def test_bytes_that_are_no_utf_8_are_written_as_they_are() -> None:
    """LVM2 takes any byte in a description; what was read is written again."""
    disks = _disks()
    with _found(disks) as found:
        commit_group(found, Header("test", "a \udcff command", "host", 7), lambda notice: None)
    disk = disks["disk0"]
    parts = text_ranges(disk.area(), disk.area().committed, "disk0")
    assert b"a \xff command" in b"".join(disk.read(at, length) for at, length in parts)


def test_one_area_must_stay() -> None:
    disks = _disks()
    with _found(disks) as found:
        for copy in found.copies:
            copy.ignore_next = True
        log = disks["disk0"].log
        log.clear()
        with pytest.raises(UsageError, match="Aborting vg_write: No metadata areas to write to!"):
            _commit(found)
        assert found.group.seqno == 1
        assert log == []


def test_areas_with_an_old_text_are_told_of() -> None:
    disks = _disks()
    with _found(disks) as found:
        found.stale = [found.copies[2]]
        (said,) = _commit(found)
        assert str(said) == "WARNING: updating old metadata to 2 on disk2 for VG vg."
        assert (said.kind, said.device) == ("stale", "disk2")
        assert found.stale == []
        found.copies[2].problem = "damaged"
        found.stale = [found.copies[2]]
        assert _commit(found) == []  # and not of those that are not updated


def _flags(disk: Disk) -> int:
    label = find_label(disk.read(0, 2048), disk.name, [])
    assert label is not None
    return label.flags


def test_the_mark_of_a_disk_that_belongs_to_a_group() -> None:
    disks = _disks()
    log = disks["disk0"].log
    with _found(disks) as found:
        assert [_flags(disk) for disk in disks.values()] == [1, 1, 1]
        log.clear()
        mark_used(found.disks.values(), True)
        assert log == []  # written only where it says otherwise
        (label,) = [disk.label for disk in found.disks.values() if disk.path == "disk1"]
        assert label is not None
        label.flags = 6
        mark_used(found.disks.values(), True)
        assert log == [("disk1", "label"), ("disk1", "flush")]
        assert [_flags(disk) for disk in disks.values()] == [1, 7, 1]  # other flags stay
        mark_used(found.disks.values(), False)
        assert [_flags(disk) for disk in disks.values()] == [0, 6, 0]
        log.clear()
        _commit(found)
        assert log[:6] == [pair for name in NAMES for pair in ((name, "label"), (name, "flush"))]
        assert [_flags(disk) for disk in disks.values()] == [1, 7, 1]


def test_a_disk_that_leaves_its_group() -> None:
    """The slots are cleared durably before the label's mark is; what ignores the area stays."""
    disks = _disks()
    log = disks["disk0"].log
    with _found(disks) as found:
        leaving = [disk for disk in found.disks.values() if disk.path != "disk0"]
        found.copies[1].header.committed.flags = IGNORED  # type: ignore[union-attr]
        found.copies[2].problem = "old"
        for disk in leaving:
            disk.label.device_size = 4096  # type: ignore[union-attr]
        # An area whose header cannot be read is passed over, and no others with it.
        leaving[0].copies.insert(0, replace(found.copies[1], header=None))
        log.clear()
        forget_group(leaving)
        assert log == [(name, step) for name in NAMES[1:] for step in ("header", "flush", "label", "flush")]
        for copy in found.copies[1:]:
            assert (copy.text, copy.group, copy.problem) == (b"", None, "")
    for name, flags in (("disk1", IGNORED), ("disk2", 0)):
        area = disks[name].area()
        assert (area.committed, area.precommitted) == (Slot(flags=flags), Slot())
        assert (area.start, _flags(disks[name])) == (AREA, 0)
        label = find_label(disks[name].read(0, 2048), name, [])
        assert label is not None
        assert label.device_size == SIZE  # what pvresize took away counts only inside a group
    assert "seqno = 1" in disks["disk0"].text()
