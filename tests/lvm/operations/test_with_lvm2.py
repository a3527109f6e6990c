# SPDX-License-Identifier: Apache-2.0
"""Groups that LVM2 itself reads, judges and changes, on loop devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import LamellaError
from lamella.lvm.disks.scan import scan
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.group_restore import restore_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
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
from tests.lvm.memory_groups import find_lv
from tests.lvm.real import RealLvm, agree, normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

    Start = Callable[..., RealLvm]


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
