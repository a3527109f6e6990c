# SPDX-License-Identifier: Apache-2.0
"""Activation of volume groups in the kernel, as LVM2 does it; see ``docs/explanation/activation.md``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.devicemapper.nodes import udev_cookie
from lamella.devicemapper.table import ThinPool
from lamella.errors import BusyError, CorruptError, LamellaError
from lamella.lvm.activation import pool_checks
from lamella.lvm.activation.begun_merges import begun_merges
from lamella.lvm.activation.busy_check import check_unused
from lamella.lvm.activation.device_changes import Changes, SharedCookie, changes, same_table
from lamella.lvm.activation.device_tree import (
    HIDDEN,
    SHOWN,
    Settings,
    is_own_pool,
    lv_uuid,
    pool_device_name,
    top_uuid,
    wanted_devices,
)
from lamella.lvm.activation.pv_numbers import GroupDisks, wait_for_loop_devices
from lamella.lvm.format.ids import dm_uuid, split_dm_uuid, without_dashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.lvm.activation.device_tree import WantedDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

log = logs.logger(__name__)


NEVER = 100
"""The threshold of a pool that is not extended automatically."""


class KernelActivator:
    """Makes the kernel's devices match the metadata of volume groups: the
    :class:`lamella.lvm.session.activator_interface.Activator` that activates.

    *check_pools*: check a thin pool's metadata before the pool is activated and after it was deactivated.
    *monitor*: register active pools with dmeventd, where it is installed. *warn* is called with warnings.
    Without *settings*, ``lvm.conf`` and the pool's profile give its low water mark.
    """

    def __init__(
        self,
        dm: DeviceMapper,
        settings: Settings | None = None,
        *,
        check_pools: bool = True,
        monitor: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.dm = dm
        self.settings = settings or Settings(threshold)
        self.check_pools = check_pools
        self.monitor = monitor
        self._warn = warn or (lambda text: None)
        self._shared: SharedCookie | None = None

    @contextmanager
    def one_udev_wait(self) -> Iterator[None]:
        """Wait for udev once, at the end of the block, instead of after each call in it."""
        with udev_cookie() as cookie:
            self._shared = SharedCookie(cookie)
            try:
                yield
            finally:
                self._shared = None

    # -- asking ----------------------------------------------------------------------------------

    def info(self, found: FoundGroup, name: str) -> DeviceInfo | None:
        """The device of the volume itself, or None."""
        lv = found.group.find_lv(name)
        info = self.dm.find(uuid=top_uuid(found.group, lv))
        if info is None and lv.thin_pool is not None:
            # One whose first thin volume is just being made still has the layers of another's pool.
            own = is_own_pool(lv)
            info = self.dm.find(uuid=lv_uuid(found.group, lv, "tpool" if own else "pool"))
            if own and info is not None and info.name.endswith("-tpool"):
                info = None
        return info

    def is_active(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume itself can be used, and not only devices below it."""
        info = self.info(found, name)
        return info is not None and info.live_table

    def is_open(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume is active and open."""
        info = self.info(found, name)
        return info is not None and info.open_count > 0

    def check_unused(self, found: FoundGroup, name: str) -> None:
        """Raise :class:`BusyError` with LVM2's message if the volume is in use."""
        info = self.info(found, name)
        if info is not None:
            check_unused(self.dm, info.uuid, f"{found.group.name}/{name}")

    def active_in(self, found: FoundGroup) -> list[str]:
        """Names of the volumes, hidden ones included, that have a device in the kernel."""
        active = {split_dm_uuid(info.uuid)[1] for info in self.devices_of(found)}
        return [lv.name for lv in found.group.lvs.values() if without_dashes(lv.uuid) in active]

    def pool_status(self, found: FoundGroup, pool: str) -> str | None:
        """The parameters of the thin pool's status line; None for a pool without a device."""
        info = self.dm.find(uuid=lv_uuid(found.group, found.group.find_lv(pool), "tpool"))
        return None if info is None or not info.live_table else self.dm.status(info.name)[0].text

    def begun_merges(self, found: FoundGroup) -> frozenset[str]:
        """Origins of delayed merges whose active device is already the snapshot's: LVM2 activates it so, and
        changes the text later.
        """
        return frozenset(begun_merges(self.dm, found.group))

    def devices_of(self, found: FoundGroup) -> list[DeviceInfo]:
        """Every device of the group in the kernel."""
        prefix = dm_uuid(found.group.uuid)
        infos = [self.dm.find(name) for name, _major, _minor in self.dm.list()]
        return [info for info in infos if info is not None and info.uuid.startswith(prefix)]

    # -- up --------------------------------------------------------------------------------------

    def activate(self, found: FoundGroup, names: Iterable[str], *, read_only: bool = False) -> None:
        """Create the devices of the volumes and of all that they need. Active ones stay as they are."""
        inactive = [name for name in names if not self.is_active(found, name)]
        if not inactive:
            return
        log.info("activating in volume group %s: %s", found.group.name, ", ".join(inactive))
        settings = replace(self.settings, read_only=True) if read_only else self.settings
        with GroupDisks(found) as disks, changes(self.dm, self._shared) as made:
            wanted = wanted_devices(found.group, inactive, disks, settings)
            self._refuse_active_parts(found, inactive, wanted)
            for device in wanted:
                self._ensure(found, device, made)

    def _refuse_active_parts(
        self, found: FoundGroup, names: list[str], wanted: Iterable[WantedDevice]
    ) -> None:
        """Refuse to activate a pool whose data or metadata volume is active as a volume of its own."""
        by_uuid = {device.uuid: device for device in wanted}
        for device in by_uuid.values():
            if not isinstance(device.table[0], ThinPool) or self.dm.find(uuid=device.uuid) is not None:
                continue
            for part in device.below:
                if self.dm.find(uuid=part) is not None:
                    group = found.group.name
                    asked = next((name for name in names if _pool_of(found, name) == device.lv), device.lv)
                    raise BusyError(
                        f"Activation of logical volume {group}/{asked} is prohibited while logical "
                        f"volume {group}/{by_uuid[part].lv} is active.",
                        hint=f"lvchange -an {group}/{by_uuid[part].lv}",
                    )

    def _ensure(self, found: FoundGroup, device: WantedDevice, made: Changes) -> None:
        info = self.dm.find(uuid=device.uuid)
        pool = found.group.lvs[device.lv] if isinstance(device.table[0], ThinPool) else None
        if info is None:
            if pool is not None:
                self._check(found, pool)
            made.make(device)
            fresh = pool is not None
        else:
            fresh = False
            made.numbers[device.uuid] = info.number
            if info.name != device.name:
                made.rename(device, info.name)
            table = made.table(device)
            if (
                not info.live_table
                or info.read_only != device.read_only
                or not same_table(self.dm.table(device.name), table)
            ):
                made.reload(device, table)
            elif info.suspended:
                made.resume(device.name, device.udev)
        if pool is not None:
            self._send_queued(found, pool, device.name)
        if fresh:
            self.watch(found, device.lv, True)

    def watch(self, found: FoundGroup, pool: str, wanted: bool) -> None:
        """Register the active pool with dmeventd, or unregister it.

        Only the automatic extension of pools depends on this, so a failure is a warning.
        """
        from lamella.lvm.activation.dmeventd import set_monitored

        lv = found.group.find_lv(pool)
        uuid = lv_uuid(found.group, lv, "tpool")
        if not self.monitor or self.dm.find(uuid=uuid) is None:
            return
        problem = set_monitored(uuid, wanted)
        if not problem:
            return
        full = f"{found.group.name}/{pool}"
        self._warn(f"WARNING: Failed to {'' if wanted else 'un'}monitor {full}: {problem}.")
        percent = self.settings.threshold(found.group, lv)
        if wanted and percent < NEVER:
            self._warn(f"WARNING: {full} does not grow by itself when it is {percent}% full.")

    def monitored(self, group: VolumeGroup, lv: LogicalVolume) -> str:
        """The value of ``seg_monitor``: whether dmeventd monitors the pool; "" if it is not active."""
        from lamella.lvm.activation.dmeventd import Monitor

        uuid = lv_uuid(group, lv, "tpool")
        if not self.monitor or self.dm.find(uuid=uuid) is None:
            return ""
        try:
            if Monitor.reachable():
                with Monitor() as daemon:
                    if daemon.is_registered(uuid):
                        return "monitored"
        except (LamellaError, OSError) as error:
            self._warn(f"WARNING: {error}")
        return "not monitored"

    def _check(self, found: FoundGroup, pool: LogicalVolume) -> None:
        """Refuse a pool that the kernel would format and, where pools are checked, damaged metadata."""
        segment = found.group.pool_segment(pool)
        full = f"{found.group.name}/{pool.name}"
        metadata = self.dm.info(uuid=lv_uuid(found.group, found.group.find_lv(segment.metadata), "tmeta"))
        pool_checks.refuse_blank_device(found.group, pool, metadata.node)
        if not self.check_pools:
            return
        try:
            sound = pool_checks.check_metadata(metadata.node, write=not metadata.read_only)
        except LamellaError as error:
            raise pool_checks.explain_refusal(error, full) from error
        if not sound:
            raise pool_checks.explain_refusal(CorruptError(""), full)

    def _send_queued(self, found: FoundGroup, pool: LogicalVolume, name: str) -> None:
        segment = found.group.pool_segment(pool)
        if pool_checks.has_unsent_messages(self.dm, name, segment):
            pool_checks.send_messages(self.dm, found.group, pool, name)

    def send_messages(self, found: FoundGroup, pool: str) -> None:
        """Send the messages that are queued in the pool's segment; an inactive pool is activated for it."""
        lv = found.group.find_lv(pool)
        if self.dm.find(uuid=lv_uuid(found.group, lv, "tpool")) is None:
            self.activate(found, [pool])
            return
        info = self.dm.info(uuid=lv_uuid(found.group, lv, "tpool"))
        self._send_queued(found, lv, info.name)

    # -- down ------------------------------------------------------------------------------------

    def deactivate(self, found: FoundGroup, names: Iterable[str]) -> None:
        """Remove the devices of the volumes, and those below them that nothing else needs."""
        with changes(self.dm, self._shared) as made:
            for name in names:
                lv = found.group.find_lv(name)
                info = self.info(found, name)
                if info is None:
                    continue
                if found.group.is_visible(lv):
                    check_unused(self.dm, info.uuid, f"{found.group.name}/{name}")
                log.info("deactivating %s/%s", found.group.name, name)
                self._remove_tree(found, info, made)
        wait_for_loop_devices(disk.path for disk in found.disks.values())

    def _remove_tree(self, found: FoundGroup, top: DeviceInfo, made: Changes) -> None:
        below = self._below(found, top)
        self._unwatch(found, top)
        made.remove(top, SHOWN)
        self._check_removed_pool(found, top)
        for info in below:
            now = self.dm.find(uuid=info.uuid)
            if now is not None and not now.open_count and not self._is_volume(found, now):
                self._unwatch(found, now)
                made.remove(now, HIDDEN)
                self._check_removed_pool(found, now)

    def _unwatch(self, found: FoundGroup, info: DeviceInfo) -> None:
        lv = self._lv_of(found, info) if self.monitor and info.uuid.endswith("-tpool") else None
        if lv is not None:
            self.watch(found, lv.name, False)

    def _below(self, found: FoundGroup, top: DeviceInfo) -> list[DeviceInfo]:
        """Devices of the group that *top* uses, at any depth, each before those that it uses."""
        by_number = {info.number: info for info in self.devices_of(found)}
        order: list[DeviceInfo] = []

        def visit(info: DeviceInfo) -> None:
            for major, minor in self.dm.deps(info.name):
                under = by_number.get(f"{major}:{minor}")
                if under is not None:
                    visit(under)
            if info not in order:
                order.append(info)

        visit(top)
        return order[-2::-1]

    def _is_volume(self, found: FoundGroup, info: DeviceInfo) -> bool:
        """Whether the device is that of a visible volume, and not only a part of others."""
        layer = split_dm_uuid(info.uuid)[2]
        if layer:
            return layer == "pool"
        lv = self._lv_of(found, info)
        return lv is not None and found.group.is_visible(lv)

    def _lv_of(self, found: FoundGroup, info: DeviceInfo) -> LogicalVolume | None:
        own = split_dm_uuid(info.uuid)[1]
        return next((lv for lv in found.group.lvs.values() if without_dashes(lv.uuid) == own), None)

    def _check_removed_pool(self, found: FoundGroup, gone: DeviceInfo) -> None:
        """Check a pool's metadata after its device was removed."""
        if not self.check_pools or not gone.uuid.endswith("-tpool"):
            return
        lv = self._lv_of(found, gone)
        segment = lv.thin_pool if lv is not None else None
        if lv is None or segment is None or segment.metadata not in found.group.lvs:
            return
        metadata = self.dm.find(uuid=lv_uuid(found.group, found.group.lvs[segment.metadata], "tmeta"))
        if metadata is None:
            return
        try:
            sound = pool_checks.check_metadata(metadata.node, write=not metadata.read_only)
        except LamellaError:
            sound = False
        if not sound:
            full = f"{found.group.name}/{lv.name}"
            self._warn(f"WARNING: Integrity check of metadata for pool {full} failed.")

    # -- changed ---------------------------------------------------------------------------------

    @contextmanager
    def changing(self, found: FoundGroup, names: Iterable[str] | None = None) -> Iterator[None]:
        """Enclose the commit of a group that was changed in memory; see :class:`Activator`."""
        from lamella.lvm.activation.reload import reloading

        asked = found.group.lvs if names is None else names
        active = [name for name in asked if self.info(found, name) is not None]
        if not active:
            yield
            return
        with reloading(self.dm, self.settings, found, active):
            yield

    def refresh(self, found: FoundGroup, names: Iterable[str]) -> None:
        """Load the tables of active volumes again, and resume suspended ones."""
        from lamella.lvm.activation.reload import reloading

        active = [name for name in names if self.info(found, name) is not None]
        if active:
            with reloading(self.dm, self.settings, found, active):
                pass


def threshold(group: VolumeGroup, lv: LogicalVolume) -> int:
    """The fill, in per cent, at which a pool is extended: from its profile and the machine's ``lvm.conf``."""
    from lamella.lvm.session.config import Config
    from lamella.lvm.session.profile import auto_extend

    config = Config.load()
    folders = [Path(config.text("config/profile_dir"))]
    return auto_extend(config, lv.profile or group.profile, folders).threshold


def _pool_of(found: FoundGroup, name: str) -> str:
    """The pool of a thin volume, or the name itself."""
    thin = found.group.lvs[name].thin
    return thin.pool if thin is not None else name


__all__ = ["KernelActivator", "pool_device_name"]
