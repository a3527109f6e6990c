# SPDX-License-Identifier: Apache-2.0
"""What device-mapper holds for volumes, asked of the kernel once for each volume.

For a thin pool LVM2 reports the device with the layer ``tpool``; for whether it is active, the pool itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.block.sysfs import read_ahead
from lamella.errors import BadInputError, LamellaError
from lamella.lvm.activation.device_tree import lv_uuid, part_layer, top_uuid
from lamella.lvm.report.view import KernelState, TargetState, Usage
from lamella.thin.status import PoolMode, parse_status, parse_thin_status

if TYPE_CHECKING:
    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

HEALTH = {"ro": "metadata_read_only", "out_of_data_space": "out_of_data"}


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
    try:
        status = parse_status(text)
    except BadInputError:
        return None
    if status.mode is PoolMode.FAIL:
        return TargetState(Usage(), "failed", needs_check=False)
    return TargetState(
        Usage(
            _percent(status.used_data, status.total_data),
            _percent(status.used_metadata, status.total_metadata),
        ),
        HEALTH.get(status.mode_word, ""),
        needs_check=status.needs_check,
        discards=status.discards,
    )


def thin_state(text: str, length: int) -> TargetState | None:
    """A thin volume's status line; *length* in sectors."""
    try:
        status = parse_thin_status(text)
    except BadInputError:
        return None
    if status.failed:
        return TargetState(Usage(), "failed")
    return TargetState(Usage(_percent(status.mapped, length * SECTOR)))


def _percent(used: int, total: int) -> float:
    return 100.0 * used / total if total else 0.0


def _read_ahead(info: DeviceInfo) -> int:
    sectors = read_ahead(info.major, info.minor)
    return -1 if sectors is None else sectors * SECTOR
