# SPDX-License-Identifier: Apache-2.0
"""The devices that a group's text makes are those that LVM2 2.03.16 made of it, on Linux 6.1.

``activation/*.vg`` are groups as vgcfgbackup wrote them, ``*.json`` what device-mapper held after the
commands, with names in place of numbers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.devicemapper.nodes import Udev
from lamella.devicemapper.table import Error, Linear, ThinPool
from lamella.errors import CorruptError, NotFoundError, UnsupportedError
from lamella.lvm.activation.device_tree import Settings, low_water, resolved, wanted_devices
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.segments import Segment

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup

FOLDER = Path(__file__).parent
NUMBERS = {"/dev/vdb": "254:16", "/dev/vdc": "254:32"}
FLAGS = {
    "DISABLE_DM_RULES": Udev.NO_DM_RULES,
    "DISABLE_SUBSYSTEM_RULES": Udev.NO_SUBSYSTEM_RULES,
    "DISABLE_DISK_RULES": Udev.NO_DISK_RULES,
    "DISABLE_OTHER_RULES": Udev.NO_OTHER_RULES,
    "DISABLE_LIBRARY_FALLBACK": Udev.NO_LIBRARY_FALLBACK,
}


@dataclass
class Recorded:
    group: VolumeGroup
    commands: list[str]
    devices: dict[str, Any]


def recorded() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        for number, act in enumerate(json.loads(path.read_text())):
            found.append(pytest.param(path.stem, number, id=f"{path.stem}: {'; '.join(act['commands'])}"))
    return found


def load(name: str, number: int = 0) -> Recorded:
    act = json.loads((FOLDER / f"{name}.json").read_text())[number]
    return Recorded(read_group((FOLDER / f"{name}.vg").read_text()), act["commands"], act["devices"])


def disks(group: VolumeGroup) -> dict[str, str]:
    return {pv.uuid: NUMBERS[pv.device] for pv in group.pvs}


def chosen(group: VolumeGroup, commands: list[str]) -> list[str]:
    """The volumes that ``vgchange -ay`` and ``lvchange -ay`` of these commands mean."""
    names: list[str] = []
    for command in commands:
        words = command.split()
        if words[0] == "vgchange":
            names += [
                lv.name
                for lv in group.lvs.values()
                if group.is_visible(lv) and "ACTIVATION_SKIP" not in lv.flags
            ]
        else:
            name = words[-1].partition("/")[2]
            names = [one for one in names if one != name] + ([name] if "-ay" in words else [])
    return names


@pytest.mark.parametrize(("name", "number"), recorded())
def test_the_devices_are_lvms(name: str, number: int) -> None:
    then = load(name, number)
    wanted = wanted_devices(then.group, chosen(then.group, then.commands), disks(then.group))
    names = {device.uuid: device.name for device in wanted}
    made = {}
    for device in wanted:
        entry: dict[str, Any] = {
            "uuid": device.uuid,
            "read_only": device.read_only,
            "table": [" ".join(target.line.split()) for target in resolved(device.table, names)],
            "udev": sorted(word for word, flag in FLAGS.items() if flag in device.udev),
        }
        if device.link:
            entry["link"] = device.link
        made[device.name] = entry
    assert made == then.devices


def test_what_is_below_comes_first() -> None:
    then = load("thin")
    wanted = wanted_devices(then.group, list(then.group.lvs), disks(then.group))
    seen: set[str] = set()
    for device in wanted:
        assert seen.issuperset(device.below)
        used = set(re.findall(r"LVM-[\w-]+", " ".join(target.line for target in device.table)))
        assert used == set(device.below)
        assert device.uuid not in seen
        seen.add(device.uuid)


def test_low_water() -> None:
    """With LVM2, 180 of 904 chunks of 64 KiB for a threshold of 80 per cent, and none for 100."""
    assert low_water(904 * 128, 128, 80) == 180
    assert low_water(904 * 128, 128, 100) == 0
    assert low_water(904 * 128, 128, 20) == low_water(904 * 128, 128, 50) == 452


def test_the_pools_low_water_is_that_of_its_profile() -> None:
    then = load("thin")
    settings = Settings(lambda group, lv: 80 if lv.name == "pool" else 100)
    pool = next(
        target
        for device in wanted_devices(then.group, ["t1"], disks(then.group), settings)
        for target in device.table
        if isinstance(target, ThinPool)
    )
    assert pool.low_water == 640


def test_a_pool_that_another_program_uses_has_no_layer_for_itself() -> None:
    group = load("thin").group
    segment = group.lvs["pool"].thin_pool
    assert segment is not None
    segment.transaction_id = 0
    top = wanted_devices(group, ["pool"], disks(group))[-1]
    assert (top.name, top.uuid.rpartition("-")[2], top.link) == ("vg0-pool", "tpool", "vg0/pool")
    assert not top.read_only
    assert top.udev == Udev.NO_LIBRARY_FALLBACK | Udev.NO_DISK_RULES | Udev.NO_OTHER_RULES


def test_a_missing_disk_is_refused_or_replaced_by_errors() -> None:
    group = load("thin").group
    there = {uuid: number for uuid, number in disks(group).items() if number != "254:16"}
    with pytest.raises(CorruptError, match="Refusing activation of partial LV vg0/orig"):
        wanted_devices(group, ["orig"], there)
    lower, missing = wanted_devices(group, ["orig"], there, Settings(partial=True))[:2][::-1]
    assert missing.name == "vg0-orig-missing_0_0"
    assert missing.table == (Error(0, 40960),)
    assert lower.table == (Linear(0, 40960, device=missing.uuid, offset=0),)


def test_what_is_not_there_or_not_ours_is_named() -> None:
    group = load("thin").group
    with pytest.raises(NotFoundError, match="vg0/nothing"):
        wanted_devices(group, ["nothing"], disks(group))
    group.lvs["orig"].segments = [Segment("raid1", 0, 5)]
    with pytest.raises(UnsupportedError, match="is of type raid1"):
        wanted_devices(group, ["orig"], disks(group))
