# SPDX-License-Identifier: Apache-2.0
"""What device-mapper holds for volumes, asked of the kernel once for each volume.

For a thin pool LVM2 reports the device with the layer ``tpool``; for whether it is active, the pool itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.sysfs import read_ahead
from lamella.errors import LamellaError
from lamella.lvm.activation.device_tree import lv_uuid, part_layer, top_uuid
from lamella.lvm.report.view import KernelState, TargetState, Usage

if TYPE_CHECKING:
    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

SECTOR = 512
HEALTH = {"ro": "metadata_read_only", "out_of_data_space": "out_of_data"}
DISCARDS = {"discard_passdown": "passdown", "no_discard_passdown": "nopassdown", "ignore_discard": "ignore"}


class KernelView:
    """The devices of the volumes of a command, each asked for once."""

    def __init__(self, dm: DeviceMapper) -> None:
        self._dm = dm
        self._infos: dict[str, DeviceInfo | None] = {}
        self._targets: dict[str, TargetState | None] = {}

    def _info(self, uuid: str) -> DeviceInfo | None:
        if uuid not in self._infos:
            self._infos[uuid] = self._dm.find(uuid=uuid)
        return self._infos[uuid]

    def active(self, group: VolumeGroup, lv: LogicalVolume) -> bool:
        """Whether the device of the volume itself exists."""
        uuid = top_uuid(group, lv) if lv.thin_pool is not None else self._own(group, lv)
        return self._info(uuid) is not None

    def _own(self, group: VolumeGroup, lv: LogicalVolume) -> str:
        return lv_uuid(group, lv, part_layer(group, lv))

    def state(self, group: VolumeGroup, lv: LogicalVolume) -> KernelState | None:
        """The device that ``lv_kernel_major``, ``lv_suspended`` and the like report."""
        if lv.thin_pool is None:
            return self.top_state(group, lv)
        info = self._info(lv_uuid(group, lv, "tpool"))
        if info is None:
            return None
        if not self.active(group, lv):
            target = self.target(group, lv)
            if target is None or not target.needs_check:
                return None
        return _state(info, read_ahead=0)  # LVM2 does not ask for a pool's

    def top_state(self, group: VolumeGroup, lv: LogicalVolume) -> KernelState | None:
        """The device of the volume itself."""
        uuid = top_uuid(group, lv) if lv.thin_pool is not None else self._own(group, lv)
        info = self._info(uuid)
        return _state(info, _read_ahead(info)) if info is not None else None

    def target(self, group: VolumeGroup, lv: LogicalVolume) -> TargetState | None:
        """The state of the target of a thin pool or a thin volume; None for others, and without a device."""
        if lv.thin_pool is None and lv.thin is None:
            return None
        uuid = lv_uuid(group, lv, "tpool" if lv.thin_pool is not None else "")
        if uuid not in self._targets:
            info = self._info(uuid)
            self._targets[uuid] = self._ask(info, lv) if info is not None and info.live_table else None
        return self._targets[uuid]

    def _ask(self, info: DeviceInfo, lv: LogicalVolume) -> TargetState | None:
        try:
            lines = self._dm.status(info.name, flush=False)
        except LamellaError:
            return None
        line = lines[0] if lines else None
        if line is not None and lv.thin_pool is not None and line.kind == "thin-pool":
            return pool_state(line.text)
        if line is not None and lv.thin is not None and line.kind == "thin":
            return thin_state(line.text, line.length)
        return None


def _state(info: DeviceInfo, read_ahead: int) -> KernelState:
    return KernelState(
        info.major,
        info.minor,
        suspended=info.suspended,
        open=info.open_count > 0,
        read_only=info.read_only,
        read_ahead=read_ahead,
        live_table=info.live_table,
        inactive_table=info.inactive_table,
        open_count=info.open_count,
    )


def pool_state(text: str) -> TargetState | None:
    """A pool's status line."""
    words = text.split()
    if words in (["Fail"], ["Error"]):
        return TargetState(Usage(), "failed", needs_check=False)
    try:
        metadata, data, mode, discards, check = words[1], words[2], words[4], words[5], words[7]
        return TargetState(
            Usage(_percent(data), _percent(metadata)),
            HEALTH.get(mode, ""),
            needs_check=check == "needs_check",
            discards=DISCARDS.get(discards, ""),
        )
    except (IndexError, ValueError):
        return None


def thin_state(text: str, length: int) -> TargetState | None:
    """A thin volume's status line; *length* in sectors."""
    words = text.split()
    if words[:1] == ["Fail"]:
        return TargetState(Usage(), "failed")
    try:
        return TargetState(Usage(100.0 * int(words[0]) / length if length else 0.0))
    except (IndexError, ValueError):
        return None


def _percent(fraction: str) -> float:
    used, total = map(int, fraction.split("/"))
    return 100.0 * used / total if total else 0.0


def _read_ahead(info: DeviceInfo) -> int:
    sectors = read_ahead(info.major, info.minor)
    return -1 if sectors is None else sectors * SECTOR
