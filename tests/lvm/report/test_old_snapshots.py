# SPDX-License-Identifier: Apache-2.0
"""Which volumes of old-style snapshots are shown, compared with the real LVM2's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lvm.oracle import Loops, ours, real

if TYPE_CHECKING:
    from collections.abc import Iterator

VOLUMES = ("plain", "org1", "cow1", "org2", "cow2", "hidden", "cow3", "cow4")
SNAPSHOTS = (
    ("org1", "cow_store", "cow1"),
    ("org2", "merging_store", "cow2"),
    ("hidden", "cow_store", "cow3"),
    ("hidden", "merging_store", "cow4"),
)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A disk with group ``vg``, in whose text volumes have been made snapshots of others."""
    folder = tmp_path_factory.mktemp("old-snapshots")
    loops = Loops()
    try:
        (disk,) = loops.make(folder, 1, 64 << 20)
        _do(disk, "pvcreate", "-q", disk)
        _do(disk, "vgcreate", "-q", "vg", disk)
        for name in VOLUMES:
            _do(disk, "lvcreate", "-an", "-Zn", "-Wn", "-l1", "-n", name, "vg")
        backup = folder / "backup"
        _do(disk, "vgcfgbackup", "-f", str(backup), "vg")
        backup.write_text(_with_snapshots(backup.read_text()))
        _do(disk, "vgcfgrestore", "-f", str(backup), "vg")
        yield disk
    finally:
        loops.detach()


def _do(disk: str, *words: str) -> None:
    answer = real(words, [disk])
    assert not answer.code, (words, answer)


def _with_snapshots(text: str) -> str:
    at = text.index("status", text.index("hidden {"))
    text = text[:at] + text[at:].replace(', "VISIBLE"', "", 1)
    records = "".join(
        f'snapshot{number} {{ id = "abcdef-{number * 4}-aaaa-bbbb-cccc-dddd-eeeee{number}"\n'
        'status = ["READ", "WRITE"]\nflags = []\nsegment_count = 1\nsegment1 { start_extent = 0\n'
        f'extent_count = 1\ntype = "snapshot"\nchunk_size = 16\norigin = "{origin}"\n'
        f'{key} = "{store}"\n}}\n}}\n'
        for number, (origin, key, store) in zip("0123", SNAPSHOTS, strict=True)
    )
    end = text.rindex("\n\t}")
    return text[:end] + "\n" + records + text[end:]


@pytest.mark.parametrize(
    "words",
    [
        ("lvs",),
        ("lvs", "-a"),
        ("lvs", "-a", "-o", "lv_name,lv_attr,origin,lv_role,lv_layout,seg_type"),
        ("lvs", "-o", "lv_name", "-S", "lv_role=private"),
        ("vgs", "-o", "vg_name,lv_count,snap_count"),
        ("lvscan",),
        ("lvscan", "-a"),
        ("vgdisplay", "-c"),
    ],
    ids=" ".join,
)
def test_what_is_shown_of_them(group: str, words: tuple[str, ...]) -> None:
    assert ours(words, [group]) == real(words, [group])
