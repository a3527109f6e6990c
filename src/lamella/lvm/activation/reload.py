# SPDX-License-Identifier: Apache-2.0
"""Reload the tables of active volumes when the metadata of their group changes: loaded before the commit,
live after it.

The order is LVM2's. *Before* the commit tables are loaded from the bottom up; a device below others that has
only grown goes live at once, as the tables above could not be loaded otherwise. Then everything whose
mapping changes is suspended from the top down. *After* the commit all is resumed from the bottom up, devices
are renamed, and new layers are created. A thin pool is extended only then: its own metadata must not refer
to space that the group's metadata does not have.

While anything is suspended, this process blocks signals, imports nothing, and locks its memory if some of it
may be on a suspended device.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.devicemapper.table import Thin, ThinPool, parse_table, total_sectors
from lamella.errors import LamellaError
from lamella.lvm.activation.begun_merges import begun_merges
from lamella.lvm.activation.device_changes import Changes, changes, same_table, set_read_ahead
from lamella.lvm.activation.device_tree import HIDDEN, wanted_devices
from lamella.lvm.activation.memory_lock import memory_locked
from lamella.lvm.activation.pv_numbers import GroupDisks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper, TargetLine
    from lamella.devicemapper.table import Target
    from lamella.lvm.activation.device_tree import Settings, WantedDevice
    from lamella.lvm.disks.scan import FoundGroup


@dataclass(slots=True)
class _Reload:
    """A live device that gets another table."""

    device: WantedDevice
    info: DeviceInfo
    before: list[TargetLine]
    table: tuple[Target, ...]
    live: bool = False
    """Its new table is live already."""


@dataclass(slots=True)
class _Plan:
    dm: DeviceMapper
    made: Changes
    existing: dict[str, tuple[WantedDevice, DeviceInfo]] = field(default_factory=dict)
    reloads: dict[str, _Reload] = field(default_factory=dict)
    fresh: list[WantedDevice] = field(default_factory=list)
    """Devices to create."""
    suspended: list[str] = field(default_factory=list)
    """Names of the devices suspended here, in order."""

    # -- before the commit -----------------------------------------------------------------------

    def prepare(self, wanted: Sequence[WantedDevice]) -> None:
        """Load the tables that differ, from the bottom up."""
        above = {below for device in wanted for below in device.below}
        for device in wanted:
            info = self.dm.find(uuid=device.uuid)
            if info is None:
                self.fresh.append(device)
                continue
            self.made.numbers[device.uuid] = info.number
            self.existing[device.uuid] = (device, info)
            if any(below.uuid in device.below for below in self.fresh):
                continue  # what it is to lie on comes after the commit, and so does its table
            table = self.made.table(device)
            before = self.dm.table(info.name) if info.live_table else []
            if same_table(before, table) and info.read_only == device.read_only:
                continue
            reload = _Reload(device, info, before, table)
            self.reloads[device.uuid] = reload
            self.dm.load(info.name, table, read_only=device.read_only)
            if device.uuid in above and _only_grew(before, table):
                self.made.resume(info.name, device.udev)
                reload.live = True

    def suspend(self) -> None:
        """Suspend everything whose mapping changes, and what uses it, from the top down."""
        moving = {uuid for uuid, reload in self.reloads.items() if not reload.live}
        for uuid, (device, _info) in self.existing.items():  # from below upwards
            if any(below in moving for below in _suspended_through(device)) or self._reads_new_size(device):
                moving.add(uuid)
        for uuid in reversed(self.existing):
            device, info = self.existing[uuid]
            if uuid not in moving or info.suspended:
                continue
            thin = isinstance(device.table[0], Thin | ThinPool)
            self.dm.suspend(info.name, flush=not thin, freeze=False)
            self.suspended.append(info.name)

    def _reads_new_size(self, device: WantedDevice) -> bool:
        """Whether it is a pool on a device that has grown: it reads the new size of its metadata when
        resumed.
        """
        below = (self.reloads.get(uuid) for uuid in device.below)
        return isinstance(device.table[0], ThinPool) and any(each is not None and each.live for each in below)

    # -- after it --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Resume everything with its new table, rename, and create new devices."""
        failed: LamellaError | None = None
        for uuid, (device, info) in self.existing.items():
            reload = self.reloads.get(uuid)
            if info.name in self.suspended or info.suspended or (reload is not None and not reload.live):
                try:
                    self.made.resume(info.name, device.udev)
                except LamellaError as error:
                    failed = failed or error
        for device, info in self.existing.values():
            if info.name != device.name:
                self._remove_layer(device)
                self.made.rename(device, info.name)
            if device.read_ahead is not None:
                set_read_ahead(info, device.read_ahead)
        if failed is not None:
            raise failed
        for device in self.fresh:
            self.made.make(device)
        for device, _info in self.existing.values():
            if device.uuid in self.reloads or not any(one.uuid in device.below for one in self.fresh):
                continue
            table = self.made.table(device)
            if not same_table(self.dm.table(device.name), table):
                self.made.reload(device, table)
        for uuid in self.reloads:
            self._remove_unused_layer(uuid)

    def _remove_unused_layer(self, uuid: str) -> None:
        """Remove the layer of a volume that was an external origin and does not lie on it any more."""
        layer = f"{uuid}-real"
        if layer in self.existing:
            return
        unused = self.dm.find(uuid=layer)
        if unused is not None and not unused.open_count:
            self.made.remove(unused, HIDDEN)

    def _remove_layer(self, pool: WantedDevice) -> None:
        """Remove the layer above a pool whose first thin volume was not created: it has the pool's name."""
        layer = self.dm.find(pool.name)
        if layer is not None and layer.uuid == pool.uuid.removesuffix("-tpool") + "-pool":
            self.made.remove(layer)

    def undo(self) -> None:
        """Roll back: old tables stay, or are loaded again where the new ones are live."""
        for reload in reversed(self.reloads.values()):
            if reload.live:
                continue
            with suppress(LamellaError):
                self.dm.clear(reload.info.name)
        for reload in reversed(self.reloads.values()):
            if reload.live:
                old = parse_table("\n".join(line.line for line in reload.before))
                with suppress(LamellaError):
                    self.dm.load(reload.info.name, old, read_only=reload.info.read_only)
                    self.made.resume(reload.info.name, reload.device.udev)
        for name in reversed(self.suspended):
            with suppress(LamellaError):
                self.dm.resume(name)


def _suspended_through(device: WantedDevice) -> tuple[str, ...]:
    """The devices below through which a suspension is noticed: a pool holds its thin volumes back itself."""
    if isinstance(device.table[0], Thin):
        return device.below[1:]
    return device.below


def _only_grew(before: Sequence[TargetLine], table: Sequence[Target]) -> bool:
    """Whether the new table maps all that the old one did in the same way, and more after it."""
    if not before or isinstance(table[0], Thin | ThinPool):
        return False
    old = parse_table("\n".join(line.line for line in before))
    if total_sectors(table) <= total_sectors(old):
        return False
    for was, now in zip(old, table, strict=False):
        if was.kind != now.kind or was.start != now.start or was.parameters != now.parameters:
            return False
        if was.length > now.length:
            return False
    return len(old) <= len(table)


@contextmanager
def reloading(
    dm: DeviceMapper, settings: Settings, found: FoundGroup, names: Sequence[str]
) -> Iterator[None]:
    """Make the devices of the active volumes *names* match the group's metadata by the end of the block."""
    with GroupDisks(found) as disks, changes(dm) as made:
        wanted = wanted_devices(found.group, names, disks, settings, begun_merges(dm, found.group))
        plan = _Plan(dm, made)
        with _without_signals(), ExitStack() as memory:
            try:
                plan.prepare(wanted)
                memory.enter_context(memory_locked([info.number for _, info in plan.existing.values()]))
                plan.suspend()
                yield
            except BaseException:
                plan.undo()
                raise
            plan.finish()


@contextmanager
def _without_signals() -> Iterator[None]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
