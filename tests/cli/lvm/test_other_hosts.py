# SPDX-License-Identifier: Apache-2.0
"""Groups with a system ID, or that several hosts share, and sizes as LVM2 shows them, beside the real one."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks.scan import scan
from tests.lvm.oracle import Answer, Loops, ours, real, real_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = 'global{activation=0 system_id_source="lvmlocal"} local{system_id="me-host"}'


@pytest.fixture
def loops() -> Iterator[Loops]:
    made = Loops()
    yield made
    made.detach()


@pytest.fixture
def disk(loops: Loops, tmp_path: Path) -> str:
    return loops.make(tmp_path, 1, 17 << 20)[0]


def theirs(words: tuple[str, ...], disk: str, config: str) -> str:
    """What the real one prints with a system ID of its own."""
    settings = f'{config} devices{{filter=["a|^{disk}$|","r|.*|"] use_devicesfile=0 hints="none"}}'
    settings += " backup{backup=0 archive=0}"
    command = [real_program(), words[0], "--config", settings, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def text_of(disk: str) -> str:
    found = scan([disk])
    try:
        return found.groups[0].copies[0].text.decode()
    finally:
        found.close()


def test_a_group_with_a_system_id_is_writable(disk: str) -> None:
    """Its text says WRITE_LOCKED in place of WRITE (lib/format_text/export.c)."""
    theirs(("vgcreate", "vg", disk), disk, OWN)
    theirs(("lvcreate", "-an", "-Zn", "-l1", "-n", "one", "vg"), disk, OWN)
    assert text_of(disk).count("WRITE_LOCKED") == 2
    for words in (
        ("vgs", "-o", "vg_name,vg_attr,vg_permissions,vg_systemid"),
        ("lvs", "-o", "lv_name,lv_attr,lv_permissions"),
        ("vgdisplay", "vg"),
    ):
        assert ours(words, [disk], config=OWN).out == theirs(words, disk, OWN)


def test_our_group_with_a_system_id_is_theirs(disk: str) -> None:
    assert ours(["vgcreate", "vg", disk], [disk], config=OWN).code == 0
    assert ours(["lvcreate", "-an", "-l1", "-n", "one", "vg"], [disk], config=OWN).code == 0
    assert re.findall(r'status = (.*)\nflags = (.*"WRITE_LOCKED".*)', text_of(disk)) == [
        ('["RESIZEABLE", "READ"]', '["WRITE_LOCKED"]'),
        ('["READ", "VISIBLE"]', '["WRITE_LOCKED"]'),
    ]
    words = ("vgs", "-o", "vg_attr,vg_systemid")
    assert theirs(words, disk, OWN) == ours(words, [disk], config=OWN).out
    assert ours(["vgchange", "-y", "--systemid", "", "vg"], [disk], config=OWN).code == 0
    assert "WRITE_LOCKED" not in text_of(disk)


EDITS = {
    "sanlock": ("max_lv = 0", 'lock_type = "sanlock"\nlock_args = "1.0.0:lvmlock"\nmax_lv = 0'),
    "clustered": ('"RESIZEABLE"', '"CLUSTERED", "RESIZEABLE"'),
    "foreign": ("max_lv = 0", 'system_id = "other-host"\nmax_lv = 0'),
    "lock type none": ("max_lv = 0", 'lock_type = "none"\nmax_lv = 0'),
}


@pytest.mark.parametrize("edit", EDITS)
def test_groups_of_other_hosts_are_hidden_as_by_lvm2(disk: str, tmp_path: Path, edit: str) -> None:
    backup = tmp_path / "backup"
    for words in (
        ("vgcreate", "vg", disk),
        ("lvcreate", "-an", "-Zn", "-l1", "-n", "one", "vg"),
        ("vgcfgbackup", "-f", str(backup), "vg"),
    ):
        assert real(words, [disk]).code == 0
    backup.write_text(backup.read_text().replace(*EDITS[edit], 1))
    real(["vgcfgrestore", "--force", "-f", str(backup), "vg"], [disk])
    for words in (
        ("vgs",),
        ("vgs", "vg"),
        ("lvs",),
        ("lvs", "vg/one"),
        ("pvs",),
        ("pvs", disk),
        ("vgck", "vg"),
        ("vgs", "--foreign"),
        ("vgs", "-o", "vg_name,lock_type,vg_shared,vg_clustered"),
        ("vgdisplay", "vg"),
        ("vgscan",),
        ("lvchange", "--addtag", "x", "vg/one"),
        ("vgchange", "--addtag", "x", "vg"),
    ):
        wanted, answer = real(words, [disk]), ours(words, [disk])
        assert (answer.code, answer.out) == (wanted.code, wanted.out), words
        # What LVM2 says; it says some of it twice.
        assert set(wanted.err) <= set(answer.err), words
        if wanted.code == 0:
            assert answer.err == wanted.err, words


def test_the_size_of_a_disk_that_was_reduced_and_grew_again(disk: str) -> None:
    """LVM2 2.03.16 counts what is before the first extent, which pvresize leaves out (tools/toollib.c)."""

    def size(answer: Answer) -> list[str]:
        return [line for line in answer.out.splitlines() if "PV Size" in line]

    assert real(["vgcreate", "vg", disk], [disk]).code == 0
    seen = []
    for change in ((), ("--setphysicalvolumesize", "15M"), ("--setphysicalvolumesize", "13M"), ()):
        assert real(["pvresize", "-y", *change, disk], [disk]).code == 0
        wanted = size(real(["pvdisplay", disk], [disk]))
        assert size(ours(["pvdisplay", disk], [disk])) == wanted
        seen += wanted
    assert len(set(seen)) == 3


def test_the_line_of_a_boot_loader_area(disk: str) -> None:
    assert real(["pvcreate", "--bootloaderareasize", "100k", disk], [disk]).code == 0
    assert ours(["pvck", "--dump", "headers", disk], [disk]) == real(
        ["pvck", "--dump", "headers", disk], [disk]
    )


def test_small_chunks_are_warned_of_whatever_the_size_is_given_by(loops: Loops, tmp_path: Path) -> None:
    disks = loops.make(tmp_path, 2, 15 << 40)
    assert real(["vgcreate", "vg", *disks], disks).code == 0
    for size in (("-l", "90%FREE"), ("-l", "100%FREE"), ("-l", "90%VG"), ("-L", "20T")):
        words = ["lvcreate", "-t", "-an", "-y", *size, "-T", "-c", "64k", "vg/pool"]
        assert ours(words, disks) == real(words, disks)
