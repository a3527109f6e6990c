# SPDX-License-Identifier: Apache-2.0
"""Disks that may belong to a group, or be copies: shown as by LVM2, and never wiped by mistake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lvm.oracle import Loops, ours, real

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lvm.oracle import Answer

START = 2 << 20


class Disks:
    """Three loop devices."""

    def __init__(self, devices: list[str]) -> None:
        self.all = devices
        self.one, self.two, self.three = devices

    def do(self, *words: str, on: list[str] | None = None) -> str:
        answer = real(words, on or self.all)
        assert not answer.code, (words, answer)
        return answer.out

    def ours(self, *words: str, on: list[str] | None = None) -> Answer:
        return ours(words, on or self.all)

    def alike(self, *words: str, on: list[str] | None = None) -> None:
        """Both programs answer the same."""
        assert ours(words, on or self.all).laid_out == real(words, on or self.all).laid_out

    def read(self, disk: str) -> bytes:
        with open(disk, "rb") as stream:
            return stream.read(START)

    def write(self, disk: str, content: bytes) -> None:
        with open(disk, "r+b") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def uuid(self, disk: str) -> str:
        return self.do("pvs", "--noheadings", "-o", "pv_uuid", disk, on=[disk]).strip()


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    loops = Loops()
    try:
        yield Disks(loops.make(tmp_path, 3, 32 << 20))
    finally:
        loops.detach()


@pytest.fixture
def doubled(disks: Disks) -> Disks:
    """The first disk has a group, the second is its copy."""
    disks.do("vgcreate", "vg", disks.one)
    disks.do("lvcreate", "-an", "-Zn", "-l1", "-n", "one", "vg")
    disks.write(disks.two, disks.read(disks.one))
    return disks


def test_duplicates_are_shown_as_such(doubled: Disks) -> None:
    for words in (
        ("pvs",),
        ("pvs", "-a", "-o", "+pv_duplicate,pv_in_use,pv_uuid"),
        ("pvs", doubled.two),
        ("pvs", "-o", "pv_all", doubled.two),
        ("pvs", "--segments", doubled.two),
        ("pvs", "-a", "-S", "pv_duplicate=1"),
        ("pvdisplay", doubled.two),
        ("pvdisplay", "-s", doubled.two),
        ("pvdisplay", "-c", doubled.two),
        ("pvremove", doubled.two),
    ):
        doubled.alike(*words)


def test_a_duplicate_is_not_wiped(doubled: Disks) -> None:
    """LVM2 ends with 5 and says no reason."""
    assert real(["pvremove", "-ff", "-y", doubled.two], doubled.all).code == 5
    answer = doubled.ours("pvremove", "-ff", "-y", doubled.two)
    assert answer.code == 5
    assert f"  Cannot use device {doubled.two} with duplicates." in answer.err
    assert doubled.read(doubled.two) == doubled.read(doubled.one)


@pytest.fixture
def lone(disks: Disks) -> Disks:
    """The second disk belongs to a group, but the group's metadata is on the first alone."""
    disks.do("pvcreate", "--metadatacopies", "0", disks.two)
    disks.do("vgcreate", "vg", disks.one, disks.two)
    return disks


def test_a_disk_whose_group_is_not_there_is_in_use(lone: Disks) -> None:
    on = [lone.two, lone.three]
    for words in (
        ("pvs",),
        ("pvs", "-a"),
        ("pvs", "-o", "pv_all"),
        ("pvs", "--segments"),
        ("pvs", "-S", "pv_in_use=1"),
        ("pvremove", lone.two),
    ):
        lone.alike(*words, on=on)


@pytest.mark.parametrize("change", [("-u",), ("--metadataignore", "y"), ("-xn",)], ids=lambda words: words[0])
def test_a_disk_whose_group_is_not_there_keeps_its_identity(lone: Disks, change: tuple[str, ...]) -> None:
    before = lone.read(lone.two)
    lone.alike("pvchange", *change, lone.two, on=[lone.two, lone.three])
    assert lone.read(lone.two) == before
    lone.do("vgck", "vg")


@pytest.fixture
def returned(disks: Disks) -> Disks:
    """The second disk was away while the group removed it, and is back."""
    disks.do("vgcreate", "vg", disks.one, disks.two)
    disks.do("lvcreate", "-an", "-Zn", "-l2", "-n", "one", "vg", disks.one)
    old = disks.read(disks.two)
    disks.do("vgreduce", "vg", disks.two)
    disks.write(disks.two, old)
    return disks


def test_a_removed_group_does_not_return_with_a_disk(returned: Disks) -> None:
    """vgremove wipes outdated copies, as LVM2 does."""
    kept = returned.read(returned.one), returned.read(returned.two)
    wanted = real(["vgremove", "-ff", "-y", "vg"], returned.all)
    left = returned.do("pvs", "-o", "pv_name,vg_name")
    returned.write(returned.one, kept[0])
    returned.write(returned.two, kept[1])
    assert returned.ours("vgremove", "-ff", "-y", "vg") == wanted
    assert returned.do("pvs", "-o", "pv_name,vg_name") == left
    assert "vg" not in left.replace("VG", "")


def test_an_outdated_copy_is_not_said_to_be_updated(returned: Disks) -> None:
    before = returned.read(returned.two)
    answer = returned.ours("lvchange", "--addtag", "x", "vg/one")
    assert answer.code == 0
    assert not any("updating old metadata" in line for line in answer.err)
    assert returned.read(returned.two) == before


@pytest.mark.parametrize(
    "words",
    [("vgck", "vg"), ("vgcreate", "other", "{two}"), ("pvcreate", "{two}"), ("pvremove", "{two}")],
    ids=lambda words: words[0],
)
def test_an_outdated_disk_belongs_to_its_group(returned: Disks, words: tuple[str, ...]) -> None:
    returned.alike(*(word.format(two=returned.two) for word in words))


@pytest.mark.parametrize("words", [("vgrename", "vg", "other"), ("vgchange", "-u", "vg")], ids=lambda w: w[0])
def test_an_outdated_copy_does_not_become_a_group(returned: Disks, words: tuple[str, ...]) -> None:
    """LVM2 2.03.16 lets it, and then ends in internal errors."""
    before = returned.read(returned.one)
    answer = returned.ours(*words)
    assert answer.code == 5
    assert "outdated metadata" in answer.err[-2]
    assert answer.err[-1] == "  See vgck --updatemetadata to clear outdated metadata."
    assert returned.read(returned.one) == before


def clone(disks: Disks, folder: Path, name: str) -> None:
    """Another disk's group, of the same UUID and newer, called *name*."""
    disks.do("vgcreate", "vg", disks.one)
    disks.do("lvcreate", "-an", "-Zn", "-l2", "-n", "one", "vg")
    disks.do("vgcfgbackup", "-f", str(folder / "text"), "vg")
    text = (folder / "text").read_text()
    disks.do("pvcreate", disks.two, on=[disks.two])
    text = text.replace(disks.uuid(disks.one), disks.uuid(disks.two)).replace("seqno = 2", "seqno = 5")
    (folder / "text").write_text(text.replace("\nvg {", f"\n{name} {{"))
    disks.do("vgcfgrestore", "-f", str(folder / "text"), name, on=[disks.two])


def test_two_groups_with_one_uuid_are_two(disks: Disks, tmp_path: Path) -> None:
    """LVM2 shows both, and says which command gives one another UUID."""
    clone(disks, tmp_path, "vg2")
    for words in (("pvs",), ("vgs", "-o", "vg_name,vg_uuid,vg_seqno"), ("lvs",)):
        theirs, answer = real(words, disks.all), disks.ours(*words)
        assert (answer.code, answer.out) == (theirs.code, theirs.out)
        assert answer.err == theirs.err[:1]
        assert "(see vgchange -u)" in answer.err[0]
    before = disks.read(disks.one)
    assert disks.ours("vgck", "--updatemetadata", "vg2").code == 0
    assert disks.read(disks.one) == before
    assert disks.ours("vgchange", "-u", "vg").code == 0
    assert disks.ours("pvs") == real(["pvs"], disks.all)


@pytest.mark.parametrize(
    "words", [("vgck", "--updatemetadata", "vg"), ("vgremove", "-ff", "-y", "vg")], ids=str
)
def test_a_copy_of_a_group_is_not_wiped_as_outdated(
    disks: Disks, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """A group of the same name and UUID that knows none of the other's disks: LVM2 wipes it."""
    clone(disks, tmp_path, "vg")
    before = disks.read(disks.one)
    answer = disks.ours(*words)
    assert answer.code == 0
    assert any(f"not wiping {disks.one}" in line for line in answer.err)
    assert not any("clear outdated metadata" in line for line in answer.err)
    assert disks.read(disks.one) == before
