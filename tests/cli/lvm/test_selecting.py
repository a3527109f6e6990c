# SPDX-License-Identifier: Apache-2.0
"""``-S`` with fields of other kinds of objects: the same are changed as by LVM2, or none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lvm.oracle import Loops, ours, real

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1 << 20
JOINED = (
    "pv_free=0", "pvseg_start=0", "pvseg_size>1", "pv_name={1}", "seg_size>10m", "stripes=2", "vg_tags=vt",
    "pv_tags=pt", "lv_name=one", "lv_size>8m", "lv_name=two && pv_name={1}", "pv_free>0 || lv_name=one",
    "pv_mda_count=1", "pvseg_start=0 && lv_name=one", "pv_ext_vsn=2",
)  # fmt: skip


class Disks:
    """Four disks: two of group ``vg``, one of ``v2``, one without a group."""

    def __init__(self, devices: list[str]) -> None:
        self.devices = devices
        one, two, three, four = devices
        self.do("vgcreate", "--addtag", "vt", "vg", one, two)
        self.do("vgcreate", "v2", three)
        self.do("pvcreate", four)
        for name, disk in (("one", one), ("two", two), ("big", one)):
            self.do("lvcreate", "-an", "-Zn", "-l3" if name == "big" else "-l2", "-n", name, "vg", disk)
        self.do("lvcreate", "-an", "-Zn", "-l1", "-n", "one", "v2")
        self.do("lvcreate", "-an", "-Zn", "-l2", "-i2", "-n", "str", "vg")
        self.do("pvchange", "--addtag", "pt", two)
        self.before = [self._read(disk) for disk in devices]

    def _read(self, disk: str) -> bytes:
        with open(disk, "rb") as stream:
            return stream.read(START)

    def do(self, *words: str) -> None:
        answer = real(words, self.devices)
        assert not answer.code, (words, answer)

    def put(self) -> None:
        for disk, content in zip(self.devices, self.before, strict=True):
            with open(disk, "r+b") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())

    def state(self) -> list[str]:
        """Which volumes, groups and disks there are, with their tags."""
        return [
            real([*words, "--noheadings"], self.devices).out
            for words in (
                ("lvs", "-o", "vg_name,lv_name,lv_tags"),
                ("vgs", "-o", "vg_name,vg_tags"),
                ("pvs", "-o", "pv_name,pv_tags,vg_name"),
            )
        ]


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    loops = Loops()
    try:
        yield Disks(loops.make(tmp_path_factory.mktemp("selecting"), 4, 32 << 20))
    finally:
        loops.detach()


@pytest.mark.parametrize(
    "command",
    [
        ("lvremove", "-y"),
        ("lvchange", "--addtag", "z"),
        ("vgchange", "--addtag", "z"),
        ("vgremove", "-ff", "-y"),
        ("pvchange", "--addtag", "z"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_selected_is_what_lvm2_selects(disks: Disks, command: tuple[str, ...]) -> None:
    """LVM2 refuses to join disks with volumes, for each of them, and then ends with 0; we end with 5."""
    for selection in JOINED:
        words = [*command, "-S", selection.format(*disks.devices)]
        disks.put()
        theirs = real(words, disks.devices)
        wanted = disks.state()
        disks.put()
        answer = ours(words, disks.devices)
        assert disks.state() == wanted, (words, answer, theirs)
        if any(line.startswith("  Can't report LV and PV fields") for line in theirs.err):
            assert answer.code == 5, words
            assert answer.err == (theirs.err[0],), words
        else:
            assert (answer.code, answer.out) == (theirs.code, theirs.out), (words, answer, theirs)


def test_nothing_is_removed_by_a_field_of_disks(disks: Disks) -> None:
    disks.put()
    before = disks.state()
    for selection in ("pv_free=0", "pvseg_start=0"):
        assert ours(["lvremove", "-y", "-S", selection, "vg"], disks.devices).code == 5
        assert disks.state() == before
