# SPDX-License-Identifier: Apache-2.0
"""Commands on a group that holds every kind of section which names a volume; LVM2 must read the result."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.format.group_reader import read_group
from tests.lvm.every_section import group_text
from tests.lvm.later_words import later
from tests.lvm.oracle import Answer, ours, real
from tests.lvm.real import agree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lvm.real import RealLvm

EXTENTS = 480
UUIDS = [f"PvPvPv-nnnn-nnnn-nnnn-nnnn-nnnn-n0000{number}" for number in (1, 2)]
NAMES = list(read_group(group_text(UUIDS[:1], EXTENTS)).lvs)
LINEAR = [
    name
    for name, lv in read_group(group_text(UUIDS[:1], EXTENTS)).lvs.items()
    if lv.kind == "linear" and name != "moving"
]
START = 1 << 20


class Group:
    """The group on two loop devices, put back as it was before each command."""

    def __init__(self, lvm: RealLvm, folder: Path) -> None:
        self.lvm = lvm
        self.folder = folder
        self.disks = lvm.devices
        for uuid, disk in zip(UUIDS, self.disks, strict=True):
            lvm.ok("pvcreate", "-u", uuid, "--norestorefile", disk)
        self.before = [self.read(disk) for disk in self.disks]

    def read(self, disk: str) -> bytes:
        with open(disk, "rb") as stream:
            return stream.read(START)

    def put(self, *, elsewhere: str = "", both: bool = False) -> None:
        """Write the group anew; *both*: over both disks, and otherwise on the first alone."""
        self.lvm.devices = self.disks
        for disk, content in zip(self.disks, self.before, strict=True):
            with open(disk, "r+b") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        uuids = UUIDS if both else UUIDS[:1]
        backup = self.folder / "every"
        backup.write_text(group_text(uuids, EXTENTS, elsewhere=elsewhere))
        self.lvm.ok("vgcfgrestore", "--force", "-f", str(backup), "vg")
        self.start = self.read(self.disks[0])

    def again(self) -> None:
        with open(self.disks[0], "r+b") as stream:
            stream.write(self.start)
            stream.flush()
            os.fsync(stream.fileno())

    def volumes(self, group: str = "vg") -> set[str]:
        """All that LVM2 lists."""
        names = self.lvm.ok("lvs", "-a", "--noheadings", "-o", "lv_name", group).split()
        return {name.strip("[]") for name in names}

    def sound(self, *words: str) -> Answer:
        """Run our command; LVM2 must find nothing wrong with the group, which a refusal leaves as it was."""
        answer = ours(words, self.lvm.devices)
        if answer.code:
            assert self.read(self.disks[0]) == self.start, (words, answer)
        else:
            checked = self.lvm.run("vgck", "vg")
            assert (checked.returncode, self.lvm.complaints(checked)) == (0, []), (words, answer)
        return answer


@pytest.fixture
def group(real_lvm: Callable[[int, int], RealLvm], tmp_path: Path) -> Iterator[Group]:
    made = Group(real_lvm(2, 64 << 20), tmp_path)
    yield made
    made.lvm.devices = made.disks  # all of them are to be detached


def test_lvm2_reads_the_group_and_we_write_it_alike(group: Group, tmp_path: Path) -> None:
    group.put()
    agree(group.lvm, tmp_path)
    assert group.volumes() >= {"tp_tmeta", "quick_cvol", "r1_rimage_0_imeta", "virt_vorigin"}


@pytest.mark.parametrize(
    "words",
    [
        ("lvs", "-a", "-o", "lv_name,lv_attr,origin,pool_lv,seg_type"),
        ("vgs", "-o", "lv_count,snap_count,vg_attr"),
        ("vgs", "-o", "max_lv,pv_count,vg_all"),
        ("vgdisplay", "-c"),
    ],
    ids=" ".join,
)
def test_the_group_is_shown_as_by_lvm2(group: Group, words: tuple[str, ...]) -> None:
    group.put()
    answer = ours(words, group.lvm.devices)
    if later():  # 2.03.31 shows the volume below an image's integrity as an image
        out = re.sub(r"(_rimage_[01]_iorig\] +)-wi-", r"\1Iwi-", answer.out)
        answer = Answer(answer.code, out, answer.err)
    assert answer == real(words, group.lvm.devices)


@pytest.mark.parametrize("command", ["lvremove", "lvextend", "lvconvert", "swap"])
def test_lvm2_reads_what_a_command_leaves(group: Group, command: str) -> None:
    group.put()
    for name in NAMES:
        group.again()
        match command:
            case "lvremove":
                group.sound("lvremove", "-y", f"vg/{name}")
            case "lvextend":
                group.sound("lvextend", "-l+1", f"vg/{name}")
            case "lvconvert":
                group.sound("lvconvert", "-y", "--type", "thin-pool", f"vg/{name}")
            case _:
                group.sound("lvconvert", "-y", "--thinpool", "vg/tp", "--poolmetadata", f"vg/{name}")


@pytest.mark.slow
def test_a_rename_is_lvm2s(group: Group) -> None:
    """The same volumes are renamed, hidden ones included, and the same names are refused."""
    group.put()
    for name in NAMES:
        group.again()
        theirs = group.lvm.run("lvrename", "vg", name, "zz")
        wanted = group.volumes()
        group.again()
        answer = group.sound("lvrename", "vg", name, "zz")
        assert (answer.code, group.volumes()) == (theirs.returncode, wanted), (name, answer)


def test_parts_that_are_in_use_are_not_removed(group: Group) -> None:
    """LVM2's messages, where it has one (lib/metadata/lv_manip.c)."""
    group.put()
    for name, said in (
        ("tp_tdata", "used by a pool."),
        ("fast_cpool_cmeta", "used by a pool."),
        ("mir_mimage_0", "used by a mirror."),
        ("mir_mlog", "used as mirror log."),
        ("r1_rmeta_0", "used as RAID device."),
        ("r0_rimage_1", "used as RAID device."),
    ):
        theirs = group.lvm.run("lvremove", "-y", f"vg/{name}")
        assert group.lvm.complaints(theirs) == [f"Can't remove logical volume vg/{name} {said}"]
        answer = group.sound("lvremove", "-y", f"vg/{name}")
        assert answer.code == 5
        assert f"Can't remove logical volume vg/{name} {said}" in answer.err[0]
    for name in (
        "slow_corig",
        "quick_cvol",
        "wfast_cvol",
        "vp_vdata",
        "r1_rimage_0_imeta",
        "mcow",
        "pvmove0",
    ):
        assert group.sound("lvremove", "-y", f"vg/{name}").code == 5


def test_history_follows_renames_and_removals(group: Group) -> None:
    group.put()
    assert group.sound("lvrename", "vg", "t1", "first").code == 0
    assert group.sound("lvrename", "vg", "tlive", "last").code == 0
    text = group.lvm.backup("vg", group.folder)
    assert 'origin = "first"' in text
    assert 'descendants = ["last"]' in text
    assert group.lvm.run("lvrename", "vg", "other", "gone").returncode == 5
    answer = ours(["lvrename", "vg", "other", "gone"], group.lvm.devices)
    assert answer.code == 5
    assert 'istorical Logical Volume "gone" already exists' in answer.err[0]


def test_records_without_descendants_go_as_with_lvm2(group: Group) -> None:
    group.put()
    theirs = group.lvm.run("lvremove", "-y", "vg/tp")
    group.again()
    answer = group.sound("lvremove", "-y", "vg/tp")
    gone = [line for line in answer.out.splitlines() if "historical" in line]
    assert gone == [line for line in theirs.stdout.splitlines() if "historical" in line]
    assert len(gone) == 2
    assert "historical" not in group.lvm.backup("vg", group.folder)


@pytest.mark.slow
def test_a_lost_disk_takes_what_is_built_on_it(group: Group) -> None:
    """``vgreduce --removemissing --force``: what LVM2 removes, and readable afterwards.

    Three differences: LVM2 wants its own repair for raids and mirrors; it removes an origin whose snapshot is
    lost, which has all of its data; and it leaves a spare on the lost disk.
    """
    kept = {"scow": {"sorg"}, "mcow": {"morg"}, "lvol0_pmspare": set(), "ext": set()}
    for name in LINEAR:
        if name.startswith(("mir_", "r0_", "r1_")):
            continue
        group.put(elsewhere=name, both=True)
        group.lvm.devices = group.disks[:1]
        theirs = group.lvm.run("vgreduce", "--removemissing", "--force", "vg")
        wanted = group.volumes()
        group.again()
        answer = group.sound("vgreduce", "--removemissing", "--force", "vg")
        assert answer.code == 0, (name, answer)
        left = group.volumes()
        if name in kept:
            assert left - wanted == kept[name], name
            assert name not in left
        else:
            assert theirs.returncode == 0
            assert left == wanted, name


@pytest.mark.parametrize("room", [0, 1], ids=["fits", "too long"])
def test_names_of_group_and_volume_that_are_too_long_together(group: Group, room: int) -> None:
    """LVM2 accepts 124 characters for both; with more it can change nothing in the group any more."""
    group.put()
    for words, part in (
        (("lvrename", "vg", "plain"), ""),
        (("lvrename", "vg", "tp"), "_tmeta"),
        (("lvrename", "vg", "virt"), "_vorigin"),
        (("lvcreate", "-an", "-Zn", "-l1", "vg", "-n"), ""),
    ):
        group.again()
        name = "x" * (122 - len(part) + room)
        theirs = group.lvm.run(words[0], *words[1:], name)
        group.again()
        answer = group.sound(words[0], *words[1:], name)
        assert (answer.code, theirs.returncode) == (5 * room, 5 * room), (words, answer, theirs)
    group.again()
    longest = max(len(name) for name in NAMES)
    answer = ours(["vgrename", "vg", "x" * (124 - longest + room)], group.lvm.devices)
    assert answer.code == 5 * room
    if room:
        assert re.search('LV name ".*" length 128 is not supported.', answer.err[0])
        pool = group.sound("lvcreate", "-an", "-l1", "--type", "thin-pool", "-n", "x" * 120, "vg")
        assert pool.code == 5
