# SPDX-License-Identifier: Apache-2.0
"""A power cut at any write of any operation leaves the group as it was, or as one of its commits left it."""

from __future__ import annotations

import random
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import BusyError
from lamella.lvm.disks.scan import Scan, scan
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.group_writer import Header
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.group_restore import restore_group, update_metadata
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.physical_volumes import PvOptions, change_pv, create_pv, remove_pv, resize_pv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.pv_orphan import change_orphan
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_snapshot, create_thin, remove_any
from lamella.lvm.operations.volume_groups import (
    create_group,
    extend_group,
    reduce_group,
    remove_group,
    rename_group,
)
from lamella.lvm.session.commit import commit_group
from lamella.lvm.session.session import Session
from tests.lvm.crash_invariants import check_areas
from tests.lvm.memory_groups import environment, find_lv, group_on, session_on, text_of
from tests.support.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.label import Label

    Operation = Callable[[Session, FoundGroup], object]

DISKS = ("disk0", "disk1", "disk2")


def shown(found: Scan) -> str:
    """What a reader makes of the disks: the group, or nothing."""
    assert len(found.groups) <= 1
    return text_of(found.groups[0].group) if found.groups else ""


@contextmanager
def recorded(
    folder: Path, prepare: Callable[[dict[str, BlockDevice]], None], *, subsets: int = 2, held: bool = True
) -> Iterator[tuple[Recording, dict[str, BlockDevice], set[str]]]:
    """Disks as *prepare* leaves them, being recorded; and the set of states that a crash may show.

    What the body did is durable once the body has ended. *held* is :func:`check_areas`'s.
    """
    plain: dict[str, BlockDevice] = {
        name: FileDevice.create(folder / name, 24 << 20) for name in (*DISKS, "spare")
    }
    prepare(plain)
    recording = Recording(folder)
    disks = recording.wrap_all(plain, atomic=512)
    states = {shown(scan([], given=plain))}
    yield recording, disks, states
    last = shown(scan([], given=plain))
    states.add(last)
    recording.mark(last)
    count = 0
    for crash in recording.crashes(random.Random(1), subsets=subsets):
        state = shown(scan([], given=crash.devices))
        assert state in states, crash.what
        assert not crash.finished or state == last, f"not durable: {crash.what}"
        check_areas(crash.devices, crash.what, held=held)
        count += 1
    assert count > 2
    recording.close()


def committing(session: Session, states: set[str]) -> None:
    """Let every commit of the session add the state that it is about to write."""
    commit = session.commit

    def noted(found: FoundGroup, *changed: object) -> None:
        found.group.seqno += 1
        states.add(text_of(found.group))
        found.group.seqno -= 1
        commit(found, *changed)  # type: ignore[arg-type] # whatever it was given

    session.commit = noted  # type: ignore[method-assign] # to see what it is about to write


def full_group(disks: dict[str, BlockDevice]) -> None:
    group_on({name: disks[name] for name in DISKS}, copies=2)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(12, "lin"))
        create_lv(session, found, LvRequest(12, "str", stripes=2))
        create_lv(session, found, LvRequest(40, "data"))
        create_lv(session, found, LvRequest(16, "meta"))
        pool = create_pool(session, found, "pool", 40)
        create_thin(session, found, pool, 80, ThinRequest("thin"))


OPERATIONS: dict[str, Operation] = {
    "create": lambda s, f: create_lv(s, f, LvRequest(5, "new")),
    "create striped": lambda s, f: create_lv(s, f, LvRequest(6, "new", stripes=3)),
    "extend": lambda s, f: resize_lv(s, f, find_lv(f, "lin"), 20),
    "reduce": lambda s, f: resize_lv(s, f, find_lv(f, "str"), 4),
    "remove": lambda s, f: remove_any(s, f, find_lv(f, "lin")),
    "rename": lambda s, f: rename_lv(s, f, find_lv(f, "pool"), "other"),
    "change": lambda s, f: change_lv(s, f, find_lv(f, "lin"), LvChanges(writable=False)),
    "change group": lambda s, f: change_group(s, f, GroupChanges(add_tags=["x"])),
    "metadata copies": lambda s, f: change_group(s, f, GroupChanges(metadata_copies=2)),
    "rename group": lambda s, f: rename_group(s, f, "renamed"),
    "extend group": lambda s, f: extend_group(s, f, ["spare"]),
    "reduce group": lambda s, f: reduce_group(s, f, f.group.pvs[2]),
    "change pv": lambda s, f: change_pv(s, f, f.group.pvs[0], allocatable=False),
    "pool": lambda s, f: create_pool(s, f, "p2", 20, PoolRequest(zero=False)),
    "convert": lambda s, f: convert_to_pool(s, f, find_lv(f, "data"), find_lv(f, "meta")),
    "extend pool": lambda s, f: resize_pool(s, f, find_lv(f, "pool"), data_extents=50, metadata_extents=20),
    "thin": lambda s, f: create_thin(s, f, find_lv(f, "pool"), 30, ThinRequest("t2")),
    "snapshot": lambda s, f: create_snapshot(s, f, find_lv(f, "thin")),
    "remove thin": lambda s, f: remove_any(s, f, find_lv(f, "thin")),
    "remove pool": lambda s, f: remove_any(s, f, find_lv(f, "pool")),
    "update metadata": lambda s, f: update_metadata(s, f),
    "remove group": lambda s, f: remove_group(s, f, force=True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_group_is_the_old_one_or_the_new_one(tmp_path: Path, name: str) -> None:
    held = name != "reduce group"  # the disk that leaves keeps the text before
    with recorded(tmp_path, full_group, held=held) as (_, disks, states), session_on(disks) as session:
        committing(session, states)
        with session.all_locked(), session.editing("vg") as found:
            if name == "reduce group":
                for lv in ("str", "data", "meta"):
                    remove_any(session, found, find_lv(found, lv))
                remove_any(session, found, find_lv(found, "pool"))
            OPERATIONS[name](session, found)


@pytest.mark.parametrize("name", ["create", "extend", "thin", "change group"])
def test_with_a_single_metadata_area(tmp_path: Path, name: str) -> None:
    """Nothing but the order of the writes to one area keeps the group safe."""

    def prepare(disks: dict[str, BlockDevice]) -> None:
        group_on({"disk0": disks["disk0"]})
        with session_on(disks) as session, session.editing("vg") as found:
            create_lv(session, found, LvRequest(12, "lin"))
            create_pool(session, found, "pool", 40)

    with recorded(tmp_path, prepare, subsets=12) as (_recording, disks, states), session_on(disks) as session:
        committing(session, states)
        with session.editing("vg") as found:
            OPERATIONS[name](session, found)


def used_disks(tmp_path: Path) -> tuple[Recording, dict[str, BlockDevice]]:
    """A group on disks with old contents. Only the first has a metadata area, and is flushed by a commit."""
    plain: dict[str, BlockDevice] = {f"disk{n}": MemoryDevice(8 << 20, name=f"disk{n}") for n in range(3)}
    group_on({"disk0": plain["disk0"]})
    with session_on(plain) as session, session.all_locked(), session.editing("vg") as found:
        extend_group(session, found, ["disk1", "disk2"], PvOptions(metadata_copies=0))
    for name in ("disk1", "disk2"):
        plain[name].write(1 << 20, b"\xee" * (6 << 20))
        plain[name].write((1 << 20) + 1080, b"\x53\xef")  # ext4's magic, where a volume will begin
    recording = Recording(tmp_path)
    return recording, recording.wrap_all(plain, atomic=512)


@pytest.mark.parametrize(("stripes", "zero"), [(1, True), (2, True), (1, False), (2, False)])
def test_a_new_volume_is_wiped_when_lvcreate_ends(tmp_path: Path, stripes: int, zero: bool) -> None:
    """lvcreate(8): -W wipes signatures, -Z zeroes the start."""
    recording, disks = used_disks(tmp_path)
    with session_on(disks) as session, session.editing("vg") as found:
        ranges = parse_pv_ranges(found, ["disk1", "disk2"], lambda notice: None)
        request = LvRequest(4, "new", stripes=stripes, stripe_size=4096, ranges=ranges, zero=zero)
        create_lv(session, found, request, yes=True)
    recording.mark("created")
    checked = 0
    for crash in recording.crashes(random.Random(3), subsets=3):
        if crash.finished:
            found = scan([], given=crash.devices).groups[0]
            start = open_lv(found, "new", read_only=True).read(0, 4096)
            assert start[1080:1082] == b"\0\0", crash.what
            assert not zero or not any(start), crash.what
            checked += 1
    assert checked
    recording.close()


@pytest.mark.parametrize("convert", [False, True])
def test_a_new_pool_has_cleared_metadata_at_every_moment(tmp_path: Path, convert: bool) -> None:
    """What the extents held must not pass for a pool's metadata: the kernel formats a pool only on zeros."""
    recording, disks = used_disks(tmp_path)
    with session_on(disks) as session, session.editing("vg") as found:
        ranges = parse_pv_ranges(found, ["disk1", "disk2"], lambda notice: None)
        request = PoolRequest(ranges=ranges, spare=False)
        if convert:
            for name in ("data", "meta"):
                create_lv(session, found, LvRequest(16, name, ranges=ranges, zero=False), yes=True)
            convert_to_pool(session, found, find_lv(found, "data"), find_lv(found, "meta"), request)
        else:
            create_pool(session, found, "data", 16, request)
    checked = 0
    for crash in recording.crashes(random.Random(4), subsets=3):
        for found in scan([], given=crash.devices).groups:
            if "data_tmeta" in found.group.lvs:
                device = open_lv(found, "data_tmeta", read_only=True)
                assert not any(device.read(0, device.size)), crash.what
                checked += 1
    assert checked > 2
    recording.close()


def test_a_failed_activation_leaves_no_precommitted_text(tmp_path: Path) -> None:
    """vg_revert: once the command has reported the error, no header refers to the text it gave up."""
    plain: dict[str, BlockDevice] = {name: FileDevice.create(tmp_path / name, 24 << 20) for name in DISKS}
    group_on(plain, copies=2)
    recording = Recording(tmp_path)
    disks = recording.wrap_all(plain, atomic=512)

    class Failing(nullcontext[None]):
        def __enter__(self) -> None:
            raise BusyError("cannot suspend", hint="")

    with session_on(disks) as session, session.editing("vg") as found:
        before = text_of(found.group)
        found.group.lvs.clear()
        with pytest.raises(BusyError):
            commit_group(found, Header("", "", "", 0), lambda notice: None, Failing())
    recording.mark("reported")
    checked = 0
    for crash in recording.crashes(random.Random(5), subsets=3):
        found = scan([], given=crash.devices)
        assert text_of(found.groups[0].group) == before
        if crash.finished:
            for disk in found.disks:
                for copy in disk.copies:
                    assert copy.header is not None
                    assert copy.header.precommitted.empty, crash.what
            checked += 1
    assert checked
    recording.close()


def test_creating_a_group(tmp_path: Path) -> None:
    with recorded(tmp_path, lambda disks: None) as (_recording, disks, states), session_on(disks) as session:
        committing(session, states)
        with session.creating("vg"):
            create_group(session, "vg", list(DISKS))


def test_restoring_a_group(tmp_path: Path) -> None:
    with recorded(tmp_path, full_group) as (_recording, disks, states), session_on(disks) as session:
        backup = read_group(text_of(session.find("vg").group))
        committing(session, states)
        with session.editing("vg") as found:
            remove_any(session, found, find_lv(found, "lin"))
        with session.all_locked():
            restore_group(session, backup, force=True)


def test_physical_volumes_are_whole_or_not_there(tmp_path: Path) -> None:
    """pvcreate, pvresize, pvchange and pvremove: the label is the old one or, at the end, the new one."""
    recording = Recording(tmp_path)
    plain = FileDevice.create(tmp_path / "disk", 8 << 20)
    disks: dict[str, BlockDevice] = {"disk": recording.wrap(plain, "disk", atomic=512)}
    labels: list[Label | None] = [None]

    def done() -> None:
        labels.append(scan([], given=disks).disks[0].label)
        recording.mark(labels[-1])

    with session_on(disks) as session, session.all_locked():
        disk = create_pv(session, "disk", PvOptions(metadata_copies=2))
        done()
        resize_pv(session, disk, None, 4 << 20)
        done()
        change_orphan(session, disk, new_identity=True, metadata_ignore=True)
        done()
        remove_pv(session, "disk")
        done()
    for crash in recording.crashes(random.Random(1), subsets=12):
        found = scan([], given=crash.devices)
        step = len(crash.finished)
        assert found.disks[0].label in labels[step : step + 2], crash.what
        assert [str(notice) for notice in found.all_notices()] == []
    recording.close()


def test_a_disk_created_again_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """pvcreate -ff on a group's disk: its areas are emptied only when its old label is gone."""
    plain = {"disk": FileDevice.create(tmp_path / "disk", 8 << 20)}
    group_on(plain)
    recording = Recording(tmp_path)
    disks: dict[str, BlockDevice] = {"disk": recording.wrap(plain["disk"], "disk", atomic=512)}
    old = scan([], given=plain).disks[0].label
    assert old is not None
    with session_on(disks) as session, session.all_locked():
        create_pv(session, "disk", PvOptions(force=2, yes=True), confirm=lambda question: True)
    new = scan([], given=plain).disks[0].label
    recording.mark(new)
    for crash in recording.crashes(random.Random(1), subsets=5):
        found = scan([], given=crash.devices)
        label = found.disks[0].label
        assert label in (old, None, new), crash.what
        assert (label == old) == bool(found.groups), crash.what
        assert label == new or not crash.finished, crash.what
    recording.close()


def test_a_cut_between_text_and_pool_is_made_good(tmp_path: Path) -> None:
    """Thin volumes: the text and the pool never part, whatever the moment."""
    plain: dict[str, BlockDevice] = {name: FileDevice.create(tmp_path / name, 24 << 20) for name in DISKS}
    full_group(plain)
    recording = Recording(tmp_path)
    disks = recording.wrap_all(plain, atomic=512)
    with session_on(disks) as session, session.editing("vg") as found:
        pool = find_lv(found, "pool")
        create_thin(session, found, pool, 30, ThinRequest("t2"))
        create_snapshot(session, found, find_lv(found, "t2"), ThinRequest("s2"))
        remove_any(session, found, find_lv(found, "thin"))
    seen: set[frozenset[str]] = set()
    for crash in recording.crashes(random.Random(2), every=2):
        with Session([], environment(), given=crash.devices) as session, session.editing("vg") as found:
            pool = find_lv(found, "pool")
            made = create_thin(session, found, pool, 10, ThinRequest("after"))
            wanted = {lv.thin.device_id for lv in found.group.thin_volumes(pool) if lv.thin}
            with opened_pool(found, pool, read_only=True) as engine:
                assert set(engine.devices()) == wanted
                assert pool.thin_pool is not None
                assert engine.transaction_id == pool.thin_pool.transaction_id
            seen.add(frozenset(found.group.lvs) - {made.name})
    assert len(seen) > 2
    recording.close()
