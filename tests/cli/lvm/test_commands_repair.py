# SPDX-License-Identifier: Apache-2.0
"""``lvconvert --repair`` on a real pool whose metadata is damaged."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.lvm.oracle import ours

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK = 4096
PE_START = 1 << 20


def rows(words: str, disks: list[str]) -> list[dict[str, Any]]:
    got = ours([*words.split(), "--reportformat", "json"], disks, config="global{activation=1}")
    assert got.code == 0, got.err
    found = json.loads(got.out)["report"][0]["lv"]
    assert isinstance(found, list)
    return found


def test_repair(fixture_dir: Callable[[str], Path], tmp_path: Path) -> None:
    """The superblock is gone: the group's own knowledge stands in, and every volume has its data again."""
    folder = fixture_dir("lvm-c.tar.zst") / "lvm-c"
    disks = [str(shutil.copy(folder / f"{name}.img", tmp_path)) for name in ("vdb", "vdc")]
    report = "lvs -a -o lv_name,data_percent -S segtype=~thin vgthin"
    before = rows(report, disks)
    pool = next(row["pool_lv"] for row in rows("lvs -o pool_lv vgthin", disks) if row["pool_lv"])
    place = rows(f"lvs -a -o devices,vg_extent_size --units b --nosuffix vgthin/{pool}_tmeta", disks)
    device, _, extent = place[0]["devices"].rstrip(")").partition("(")
    start = PE_START + int(extent) * int(place[0]["vg_extent_size"])
    with open(device, "r+b") as stream:
        stream.seek(start)
        stream.write(bytes(BLOCK))

    assert {row["data_percent"] for row in rows(report, disks)} != {row["data_percent"] for row in before}

    got = ours(["lvconvert", "-y", "--repair", f"vgthin/{pool}"], disks)
    assert got.code == 0, got.err
    assert f"  WARNING: LV vgthin/{pool}_meta0 holds a backup of the unrepaired metadata." in got.err[-1], got

    assert [row for row in rows(report, disks) if row["lv_name"] != f"{pool}_meta0"] == before
