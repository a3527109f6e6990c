# SPDX-License-Identifier: Apache-2.0
"""Groups that LVM2 itself reads, judges and changes, in turn with ours, on loop devices."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lamella.errors import LamellaError
from lamella.lvm.disks.scan import scan
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.group_restore import restore_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import GrowRequest, resize_lv
from lamella.lvm.operations.physical_volumes import PvOptions, change_pv, create_pv, remove_pv, resize_pv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.operations.thin_volumes import (
    ThinRequest,
    create_external_snapshot,
    create_snapshot,
    create_thin,
    remove_any,
)
from lamella.lvm.operations.volume_groups import (
    GroupOptions,
    create_group,
    extend_group,
    reduce_group,
    remove_group,
    rename_group,
)
from lamella.lvm.session.backup import write_backup
from tests.lvm import real
from tests.lvm.memory_groups import find_lv
from tests.lvm.real import RealLvm, normal, readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

    Start = Callable[..., RealLvm]


def agree(lvm: RealLvm, folder: Path, name: str = "vg") -> None:
    """LVM2 accepts the group, and both of us write down the same."""
    checked = lvm.run("vgck", name)
    assert checked.returncode == 0, checked.stderr
    assert lvm.complaints(checked) == []
    found = scan(lvm.devices)
    assert [str(notice) for notice in found.all_notices()] == []
    own = readable(next(each.group for each in found.groups if each.group.name == name))
    found.close()
    assert own == lvm.backup(name, folder)


LAYOUTS: list[tuple[list[str], PvOptions]] = [
    ([], PvOptions()),
    (["--pvmetadatacopies", "2"], PvOptions(metadata_copies=2)),
    (["--pvmetadatacopies", "0"], PvOptions(metadata_copies=0)),
    (["--metadatasize", "128k"], PvOptions(metadata_size=128 << 10)),
    (["--metadatasize", "5m"], PvOptions(metadata_size=5 << 20)),
    (["--metadatasize", "100m"], PvOptions(metadata_size=100 << 20)),
    (
        ["--metadatasize", "3m", "--pvmetadatacopies", "2"],
        PvOptions(metadata_size=3 << 20, metadata_copies=2),
    ),
    (["--dataalignment", "2m"], PvOptions(data_alignment=2 << 20)),
    (
        ["--dataalignment", "256k", "--dataalignmentoffset", "7k"],
        PvOptions(data_alignment=256 << 10, data_alignment_offset=7 << 10),
    ),
    (
        ["--dataalignment", "1m", "--dataalignmentoffset", "512k", "--metadatasize", "300k"],
        PvOptions(data_alignment=1 << 20, data_alignment_offset=512 << 10, metadata_size=300 << 10),
    ),
    (["--bootloaderareasize", "300k"], PvOptions(boot_size=300 << 10)),
    (
        ["--bootloaderareasize", "3m", "--pvmetadatacopies", "2"],
        PvOptions(boot_size=3 << 20, metadata_copies=2),
    ),
    (["--setphysicalvolumesize", "20m"], PvOptions(size=20 << 20)),
    (
        ["--setphysicalvolumesize", "21m", "--pvmetadatacopies", "2"],
        PvOptions(size=21 << 20, metadata_copies=2),
    ),
    (["--labelsector", "3"], PvOptions(label_sector=3)),
    (["--metadataignore", "y"], PvOptions(metadata_ignore=True)),
    (["--dataalignment", "100m"], PvOptions(data_alignment=100 << 20)),
    (["--bootloaderareasize", "100m"], PvOptions(boot_size=100 << 20)),
]


@pytest.mark.parametrize(
    ("arguments", "options"),
    LAYOUTS,
    ids=lambda value: " ".join(value) or "default" if isinstance(value, list) else "",
)
def test_pvcreate_lays_out_the_disk_as_lvm_does(
    real_lvm: Start, arguments: list[str], options: PvOptions
) -> None:
    lvm = real_lvm(2, 30 << 20)
    theirs = lvm.run("pvcreate", "-y", *arguments, lvm.devices[0])
    refused = ""
    with lvm.session() as session, session.all_locked():
        try:
            create_pv(session, lvm.devices[1], options)
        except LamellaError as error:
            refused = error.message
    if theirs.returncode:
        told = [line.replace(lvm.devices[0], lvm.devices[1]) for line in lvm.complaints(theirs)]
        assert refused in told
        return
    assert refused == ""
    found = scan(lvm.devices)
    one, other = found.disks
    assert one.label is not None
    assert other.label is not None
    for label in (one.label, other.label):
        label.uuid = ""
    assert one.label == other.label
    assert [copy.header for copy in one.copies] == [copy.header for copy in other.copies]
    found.close()
    lvm.ok("pvs", lvm.devices[1])


def test_a_whole_life(real_lvm: Start, tmp_path: Path) -> None:
    """Everything that makes a group interesting, made by us and judged by LVM2 after every step."""
    lvm = real_lvm(4, 96 << 20)
    with lvm.session() as session, session.creating("vg"):
        create_group(
            session,
            "vg",
            lvm.devices[:3],
            GroupOptions(extent_size=512 << 10, tags=["t1", "t2"], policy="cling", max_lv=50),
            PvOptions(metadata_copies=2),
        )
    agree(lvm, tmp_path)
    steps: list[Callable[[Session, FoundGroup], object]] = [
        lambda s, f: create_lv(s, f, LvRequest(20, "lin", tags=["a/b"])),
        lambda s, f: create_lv(s, f, LvRequest(30, "str", stripes=3, stripe_size=32 << 10)),
        lambda s, f: create_lv(s, f, LvRequest(5, "ro", writable=False, read_ahead=0)),
        lambda s, f: create_lv(s, f, LvRequest(5, "skip", activation_skip=True, autoactivation=False)),
        lambda s, f: create_lv(s, f, LvRequest(5, "minor", minor=77, profile="thin-generic")),
        lambda s, f: create_pool(s, f, "pool", 60, PoolRequest(error_when_full=True, discards="nopassdown")),
        lambda s, f: create_thin(s, f, find_lv(f, "pool"), 500, ThinRequest("thin")),
        lambda s, f: create_snapshot(s, f, find_lv(f, "thin"), ThinRequest("snap")),
        lambda s, f: create_snapshot(s, f, find_lv(f, "snap"), ThinRequest("snap2", activation_skip=False)),
        lambda s, f: create_external_snapshot(s, f, find_lv(f, "ro"), find_lv(f, "pool"), ThinRequest("ext")),
        lambda s, f: remove_any(s, f, find_lv(f, "snap")),
        lambda s, f: create_thin(s, f, find_lv(f, "pool"), 5, ThinRequest("queued", apply=False)),
        lambda s, f: remove_any(s, f, find_lv(f, "snap2")),
        lambda s, f: resize_lv(s, f, find_lv(f, "thin"), 600),
        lambda s, f: resize_pool(s, f, find_lv(f, "pool"), data_extents=90, metadata_extents=9),
        lambda s, f: create_lv(s, f, LvRequest(40, "d", stripes=2)),
        lambda s, f: create_lv(s, f, LvRequest(6, "m")),
        lambda s, f: convert_to_pool(
            s, f, find_lv(f, "d"), find_lv(f, "m"), PoolRequest(chunk_size=512 << 10, zero=False)
        ),
        lambda s, f: change_lv(s, f, find_lv(f, "d"), LvChanges(profile="thin-performance", zero=True)),
        lambda s, f: rename_lv(s, f, find_lv(f, "pool"), "renamed-pool"),
        lambda s, f: change_group(s, f, GroupChanges(policy="normal", max_pv=9, delete_tags=["t1"])),
        lambda s, f: change_group(s, f, GroupChanges(metadata_copies=3)),
        lambda s, f: extend_group(s, f, [lvm.devices[3]]),
        lambda s, f: change_pv(s, f, f.group.pvs[3], allocatable=False, add_tags=["slow"]),
        lambda s, f: change_group(s, f, GroupChanges(extent_size=256 << 10)),
        lambda s, f: reduce_group(s, f, f.group.pvs[3]),
        lambda s, f: change_group(s, f, GroupChanges(new_identity=True)),
    ]
    for step in steps:
        with lvm.session() as session, session.all_locked(), session.editing("vg") as found:
            step(session, found)
        agree(lvm, tmp_path)
    with lvm.session() as session, session.all_locked(), session.editing("vg") as found:
        rename_group(session, found, "vg-2")
    agree(lvm, tmp_path, "vg-2")
    check_reports(lvm, "vg-2")
    with lvm.session() as session, session.all_locked(), session.editing("vg-2") as found:
        remove_group(session, found, force=True)
    assert lvm.ok("vgs", "--noheadings").strip() == ""
    for device in lvm.devices:
        with lvm.session() as session, session.all_locked():
            remove_pv(session, device)
    assert lvm.ok("pvs", "--noheadings").strip() == ""


def check_reports(lvm: RealLvm, name: str) -> None:
    """A few figures of LVM2's reports against the model's own."""
    found = scan(lvm.devices)
    group = found.groups[0].group

    def report(command: str, fields: str) -> list[dict[str, Any]]:
        out = lvm.ok(command, "-a", "--units", "b", "--nosuffix", "--reportformat", "json", "-o", fields)
        out = "\n".join(line for line in out.splitlines() if "Ignoring supplied major" not in line)
        rows: list[dict[str, Any]] = json.loads(out)["report"][0][command[:-1]]
        return rows

    (row,) = [
        each
        for each in report("vgs", "vg_name,vg_uuid,vg_seqno,vg_free_count,vg_mda_count,vg_mda_used_count")
        if each["vg_name"] == name
    ]
    assert row["vg_uuid"] == group.uuid
    assert int(row["vg_seqno"]) == group.seqno
    assert int(row["vg_free_count"]) == group.free_extents()
    assert int(row["vg_mda_count"]) == found.groups[0].mda_count
    assert int(row["vg_mda_used_count"]) == found.groups[0].mda_used_count
    for row in report("pvs", "pv_name,pv_uuid,pv_free,pv_used,pe_start,vg_name"):
        if row["vg_name"] != name:
            continue
        pv = next(each for each in group.pvs if each.uuid == row["pv_uuid"])
        assert int(row["pv_free"]) == group.free_extents(pv) * group.extent_size
        assert int(row["pe_start"]) == pv.pe_start * 512
    rows = report("lvs", "lv_name,lv_uuid,lv_size,seg_count")
    assert {row["lv_name"].strip("[]") for row in rows} == set(group.lvs)
    for row in rows:
        lv = group.lvs[row["lv_name"].strip("[]")]
        assert (row["lv_uuid"], int(row["lv_size"])) == (lv.uuid, group.size_of(lv))
        assert int(row["seg_count"]) == len(lv.segments)
    found.close()


def test_restoring_with_each_others_backups(real_lvm: Start, tmp_path: Path) -> None:
    lvm = real_lvm(2, 32 << 20)
    lvm.ok("vgcreate", "-s", "1m", "vg", *lvm.devices)
    lvm.ok("lvcreate", "-Zn", "-Wn", "-l", "10", "-n", "one", "vg")
    lvm.backup("vg", tmp_path)
    saved = (tmp_path / "backup").read_text()
    lvm.ok("lvremove", "-f", "vg/one")
    lvm.ok("lvcreate", "-Zn", "-Wn", "-l", "10", "-n", "two", "vg")
    backup = read_group(saved)
    lost = backup.pvs[1]
    with Path(lvm.devices[1]).open("r+b") as stream:
        stream.write(bytes(2 << 20))
    with lvm.session() as session, session.all_locked():
        create_pv(session, lvm.devices[1], PvOptions(uuid=lost.uuid, restore=backup))
        restore_group(session, backup)
    agree(lvm, tmp_path)
    assert "one" in lvm.ok("lvs", "vg")
    own = tmp_path / "own.vg"
    with lvm.session() as session:
        create = session.find("vg").group
        write_backup(create, own, session.environment)
    lvm.ok("lvremove", "-f", "vg/one")
    lvm.ok("vgcfgrestore", "-f", str(own), "vg")
    agree(lvm, tmp_path)
    assert "one" in lvm.ok("lvs", "vg")


@pytest.mark.parametrize("copies", ["1", "2"])
def test_pvresize_as_lvm_does_it(real_lvm: Start, tmp_path: Path, copies: str) -> None:
    theirs, ours = real_lvm(1, 64 << 20), real_lvm(1, 64 << 20)
    for lvm in (theirs, ours):
        lvm.ok("vgcreate", "--pvmetadatacopies", copies, "-s", "1m", "vg", *lvm.devices)
        lvm.ok("lvcreate", "-Zn", "-Wn", "-l", "20", "-n", "one", "vg")
    for size in ("41m", "63m", "40m", "64m"):
        theirs.ok("pvresize", "-y", "--setphysicalvolumesize", size, *theirs.devices)
        with ours.session() as session, session.all_locked(), session.editing("vg") as found:
            disk = found.disks[found.group.pvs[0].uuid]
            resize_pv(session, disk, found, int(size[:-1]) << 20)
        agree(ours, tmp_path)
        assert normal(theirs.devices) == normal(ours.devices), size
        one, other = scan(theirs.devices).disks[0].label, scan(ours.devices).disks[0].label
        assert one is not None
        assert other is not None
        assert one.metadata_areas == other.metadata_areas


def test_pvresize_in_turn(real_lvm: Start, tmp_path: Path) -> None:
    lvm = real_lvm(1, 64 << 20)
    lvm.ok("vgcreate", "-s", "1m", "vg", *lvm.devices)
    for size in (40 << 20, 0, 50 << 20):
        with lvm.session() as session, session.all_locked(), session.editing("vg") as found:
            resize_pv(session, found.disks[found.group.pvs[0].uuid], found, size)
        agree(lvm, tmp_path)
        assert lvm.run("pvck", *lvm.devices).returncode == 0
    lvm.ok("lvcreate", "-Zn", "-Wn", "-l", "45", "-n", "one", "vg")
    with lvm.session() as session, session.all_locked(), session.editing("vg") as found:
        disk = found.disks[found.group.pvs[0].uuid]
        with pytest.raises(LamellaError, match="as 45 are allocated"):
            resize_pv(session, disk, found, 20 << 20)
    agree(lvm, tmp_path)


# -- in turn -----------------------------------------------------------------------------------------

policies = st.sampled_from(["", "", "", "contiguous", "cling", "normal", "anywhere"])


class InTurn(RuleBasedStateMachine):
    """One group, changed by LVM2 or by us; afterwards both must see the same, and LVM2 must approve."""

    lvm: RealLvm
    folder: Path
    numbers = itertools.count()

    @initialize(
        ours=st.booleans(),
        copies=st.integers(1, 2),
        extent=st.sampled_from([128, 512, 1024]),
        disks=st.integers(1, 4),
    )
    def begin(self, ours: bool, copies: int, extent: int, disks: int) -> None:
        for path in self.lvm.files:
            with path.open("r+b") as stream:
                stream.write(bytes(2 << 20))
                stream.seek(-(2 << 20), 2)
                stream.write(bytes(2 << 20))
        chosen = self.lvm.devices[:disks]
        self.copies = copies
        if ours:
            with self.lvm.session() as session, session.creating("vg"):
                create_group(
                    session,
                    "vg",
                    chosen,
                    GroupOptions(extent_size=extent << 10),
                    PvOptions(metadata_copies=copies),
                )
        else:
            self.lvm.ok("vgcreate", "--pvmetadatacopies", str(copies), "-s", f"{extent}k", "vg", *chosen)
        self.look()

    def look(self) -> None:
        agree(self.lvm, self.folder)
        found = scan(self.lvm.devices)
        group = found.groups[0].group
        found.close()
        self.group = group
        self.lvs = [lv for lv in group.lvs.values() if lv.kind in ("linear", "striped") and lv.visible]
        self.free = group.free_extents()

    def change(self, ours: bool, act: Callable[[Session, FoundGroup], object], *command: str) -> None:
        """The same change by either; a refusal by one must be a refusal by the other."""
        before = normal(self.lvm.devices)
        if not ours:
            result = self.lvm.run(*command)
            if result.returncode:
                assert normal(self.lvm.devices) == before
                with (
                    self.lvm.session() as session,
                    session.all_locked(),
                    pytest.raises(LamellaError) as refusal,
                    session.editing("vg") as found,
                ):
                    act(session, found)
                assert normal(self.lvm.devices) == before
                assert refusal.value.message in self.lvm.complaints(result), command
        else:
            with self.lvm.session() as session, session.all_locked():
                try:
                    with session.editing("vg") as found:
                        act(session, found)
                except LamellaError:
                    assert normal(self.lvm.devices) == before
                    assert self.lvm.run(*command).returncode != 0, command
        self.look()

    def devices(self, data: st.DataObject) -> list[str]:
        """Disks and ranges to allocate from, or none for all."""
        if data.draw(st.booleans(), "anywhere"):
            return []
        chosen = data.draw(
            st.lists(st.sampled_from(self.group.pvs), min_size=1, max_size=3, unique=True), "disks"
        )
        arguments = []
        for pv in chosen:
            first = data.draw(st.integers(0, pv.pe_count - 1), "first")
            whole = data.draw(st.booleans(), "whole")
            arguments.append(pv.device if whole else f"{pv.device}:{first}-")
        return arguments

    @rule(ours=st.booleans(), data=st.data(), stripes=st.sampled_from([1, 1, 1, 2, 3]), policy=policies)
    @precondition(lambda self: self.free > 3)
    def create(self, ours: bool, data: st.DataObject, stripes: int, policy: str) -> None:
        extents = data.draw(st.integers(1, self.free // 2), "extents")
        extents = -(-extents // stripes) * stripes
        places = self.devices(data)
        name = f"lv{next(self.numbers)}"

        def act(session: Session, found: FoundGroup) -> None:
            ranges = parse_pv_ranges(found, places, session.say) if places else None
            request = LvRequest(
                extents,
                name,
                stripes=stripes,
                policy=policy,
                ranges=ranges,
                zero=False,
                wipe_signatures=False,
            )
            create_lv(session, found, request)

        striping = ["-I", "64k"] if stripes > 1 else []
        alloc = ["--alloc", policy] if policy else []
        command = ["lvcreate", "-Zn", "-Wn", "-n", name, "-l", str(extents), "-i", str(stripes)]
        self.change(ours, act, *command, *striping, *alloc, "vg", *places)

    @rule(ours=st.booleans(), data=st.data(), policy=policies)
    @precondition(lambda self: self.lvs and self.free > 3)
    def extend(self, ours: bool, data: st.DataObject, policy: str) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        stripes = len(lv.segments[-1].areas())
        extents = data.draw(st.integers(1, self.free // 2), "extents")
        total = -(-(lv.extents + extents) // stripes) * stripes
        if (total - lv.extents) % stripes:
            return
        places = self.devices(data)

        def act(session: Session, found: FoundGroup) -> None:
            ranges = parse_pv_ranges(found, places, session.say) if places else None
            resize_lv(
                session, found, find_lv(found, lv.name), total, GrowRequest(policy=policy, ranges=ranges)
            )

        alloc = ["--alloc", policy] if policy else []
        self.change(ours, act, "lvextend", "-l", str(total), *alloc, f"vg/{lv.name}", *places)

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def reduce(self, ours: bool, data: st.DataObject) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        step = max(len(segment.areas()) for segment in lv.segments)
        if lv.extents <= step or any(len(segment.areas()) not in (1, step) for segment in lv.segments):
            return
        less = data.draw(st.integers(1, (lv.extents - 1) // step), "less") * step
        last = lv.segments[-1]
        if less > last.extent_count:
            return
        total = lv.extents - less

        def act(session: Session, found: FoundGroup) -> None:
            resize_lv(session, found, find_lv(found, lv.name), total)

        self.change(ours, act, "lvreduce", "-f", "-l", str(total), f"vg/{lv.name}")

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def remove(self, ours: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.lvs), "volume").name
        self.change(ours, lambda s, f: remove_any(s, f, find_lv(f, name)), "lvremove", "-f", f"vg/{name}")

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def rename(self, ours: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.lvs), "volume").name
        new = f"renamed{next(self.numbers)}"
        self.change(ours, lambda s, f: rename_lv(s, f, find_lv(f, name), new), "lvrename", "vg", name, new)

    @rule(ours=st.booleans(), data=st.data(), tag=st.sampled_from(["x", "y/z", "a:b"]))
    @precondition(lambda self: self.lvs)
    def tag(self, ours: bool, data: st.DataObject, tag: str) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        if tag in lv.tags:
            return
        self.change(
            ours,
            lambda s, f: change_lv(s, f, find_lv(f, lv.name), LvChanges(add_tags=[tag])),
            *("lvchange", "--addtag", tag, f"vg/{lv.name}"),
        )

    @rule(ours=st.booleans(), data=st.data())
    def allocatable(self, ours: bool, data: st.DataObject) -> None:
        pv = data.draw(st.sampled_from(self.group.pvs), "disk")

        def act(session: Session, found: FoundGroup) -> None:
            chosen = found.group.pv_by_device(pv.device)
            assert chosen is not None
            change_pv(session, found, chosen, allocatable=not pv.allocatable)

        self.change(ours, act, "pvchange", "-xn" if pv.allocatable else "-xy", pv.device)

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: len(self.group.pvs) < len(self.lvm.devices))
    def grow(self, ours: bool, data: st.DataObject) -> None:
        there = [pv.device for pv in self.group.pvs]
        device = data.draw(st.sampled_from([each for each in self.lvm.devices if each not in there]), "disk")
        options = PvOptions(metadata_copies=self.copies)
        self.change(
            ours,
            lambda s, f: extend_group(s, f, [device], options),
            *("vgextend", "--pvmetadatacopies", str(self.copies), "vg", device),
        )

    @rule(ours=st.booleans(), data=st.data())
    def shrink(self, ours: bool, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(self.group.pvs), "disk").device

        def act(session: Session, found: FoundGroup) -> None:
            pv = found.group.pv_by_device(device)
            assert pv is not None
            reduce_group(session, found, pv)

        self.change(ours, act, "vgreduce", "vg", device)

    @rule(data=st.data(), chunk=st.sampled_from([64, 128, 512]))
    @precondition(lambda self: self.free * self.group.extent_size > 20 << 20)
    def pool(self, data: st.DataObject, chunk: int) -> None:
        """Only we can do this without the kernel; LVM2 approves, and removes it."""
        extents = (4 << 20) // self.group.extent_size
        name = f"pool{next(self.numbers)}"
        with self.lvm.session() as session, session.editing("vg") as found:
            try:
                pool = create_pool(session, found, name, extents, PoolRequest(chunk_size=chunk << 10))
            except LamellaError:
                return
            create_thin(session, found, pool, 100, ThinRequest(f"thin{next(self.numbers)}"))
        self.look()
        if data.draw(st.booleans(), "removed by LVM2"):
            self.lvm.ok("lvremove", "-f", f"vg/{name}")
            self.look()


@pytest.mark.slow
def test_in_turn_with_lvm2(tmp_path: Path) -> None:
    """Two hundred changes and more, by each in turn."""
    folder = tmp_path / "disks"
    folder.mkdir()
    lvm = real.start(folder, 4, 40 << 20)

    class Machine(InTurn):
        pass

    Machine.lvm, Machine.folder = lvm, tmp_path
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call] # hypothesis leaves it untyped
            Machine,
            settings=settings(
                max_examples=6,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        lvm.close()
