# SPDX-License-Identifier: Apache-2.0
"""Whether a process's own memory lies on certain disks, told from /proc and /sys made up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block.sysfs import with_slaves
from lamella.lvm.activation.memory_lock import lies_on, memory_locked

if TYPE_CHECKING:
    from pathlib import Path

MAPS = """\
55d0-55d1 r--p 00000000 {device} 131 /usr/bin/python3
7f00-7f01 rw-p 00000000 00:00 0
7f02-7f03 r-xp 00000000 {other} 77 /srv/lib.so
"""


def machine(
    folder: Path, *, device: str = "fd:05", other: str = "00:17", kind: str = "9p"
) -> tuple[Path, Path]:
    proc, sys = folder / "proc", folder / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self/maps").write_text(MAPS.format(device=device, other=other))
    (proc / "self/mountinfo").write_text(
        f"21 1 253:5 / / rw shared:1 - ext4 /dev/dm-5 rw\n22 21 0:23 / /srv rw - {kind} srv rw\n"
    )
    (proc / "swaps").write_text("Filename Type Size Used Priority\n")
    for number, below in (("253:5", ["253:2"]), ("253:2", ["8:1", "8:17"]), ("8:1", []), ("8:17", [])):
        slaves = sys / "dev/block" / number / "slaves"
        slaves.mkdir(parents=True)
        for at, one in enumerate(below):
            (slaves / f"s{at}").mkdir()
            (slaves / f"s{at}" / "dev").write_text(one + "\n")
    return proc, sys


def test_through_the_devices_below(tmp_path: Path) -> None:
    proc, sys = machine(tmp_path)
    assert with_slaves("253:5", sys) == {"253:5", "253:2", "8:1", "8:17"}
    for number in ("253:5", "253:2", "8:17"):
        assert lies_on([number], proc, sys)
    assert not lies_on(["253:1", "8:2"], proc, sys)
    assert not lies_on([], proc, sys)


@pytest.mark.parametrize(
    ("kind", "unknown"), [("9p", False), ("nfs4", False), ("overlay", True), ("btrfs", True)]
)
def test_file_systems_without_a_device(tmp_path: Path, kind: str, unknown: bool) -> None:
    proc, sys = machine(tmp_path, kind=kind)
    assert lies_on(["253:1"], proc, sys) is unknown


def test_paths_may_be_any_bytes(tmp_path: Path) -> None:
    """Whoever may mount a file system of his own (FUSE) chooses the mount point's name."""
    proc, sys = machine(tmp_path)
    odd = "a\rb 253:9 / x - ext4 y\v1 2 253:1 / /z rw\x1c\x85\u2028 - ext4 /dev/x rw".encode() + b"\xff\xfe"
    with (proc / "self/mountinfo").open("ab") as file:
        file.write(b"23 21 0:40 / /home/" + odd + b" rw - fuse.x x rw\n")
    with (proc / "self/maps").open("ab") as file:
        file.write(b"7f03-7f04 r--p 00000000 fd:05 9 /srv/" + odd + b"\n")
    assert lies_on(["253:5"], proc, sys)
    assert not lies_on(["253:1", "253:9"], proc, sys)


def test_swap_counts(tmp_path: Path) -> None:
    proc, sys = machine(tmp_path)
    (proc / "swaps").write_text("Filename Type Size Used Priority\n/nosuch/swap file 8 0 -2\n")
    assert lies_on(["253:1"], proc, sys)


def test_nothing_known_is_taken_for_yes(tmp_path: Path) -> None:
    assert lies_on(["253:1"], tmp_path, tmp_path)


def test_this_process() -> None:
    with memory_locked([]):
        pass
