# SPDX-License-Identifier: Apache-2.0
"""A store's devices in the kernel: their names, who uses them, activating and deactivating them.

A device that somebody asked for (``activate``, a mount) has Docker's name and no UUID, as Docker's
have. One that a process of ours has open only to read or fill it has a UUID that begins with ``LAMELLA-``
and goes with its last user; what a killed process leaves is known by it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lamella.block import holders
from lamella.devicemapper.nodes import QUIET_COOKIE, drop_name, make_name
from lamella.driver.device_names import device_name, device_prefix
from lamella.driver.temporary_snapshots import TemporarySnapshots
from lamella.errors import BusyError, LamellaError, NotFoundError
from lamella.thin.kernel.guard import INTERNAL
from lamella.thin.kernel.pool import KernelPool
from lamella.thin.kernel.quick_removal import quick_remove, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.driver.backend import PoolBackend
    from lamella.driver.state import Device, State


class KernelDevices:
    """The device-mapper devices of the store in *root*, whose pool is active as *pool_name*."""

    def __init__(self, dm: DeviceMapper, root: Path, state: State, pool_name: str) -> None:
        self.dm = dm
        self.root = root
        self.state = state
        self.temporaries = TemporarySnapshots(root)
        self.pool = KernelPool(dm, pool_name, name_of=self.name_of, guard=self.temporaries)
        self.temporaries.pool = self.pool
        self._creating: dict[int, str] = {}

    def close(self) -> None:
        """Close device-mapper; what is active stays so."""
        self.dm.close()

    # -- names -----------------------------------------------------------------------------------

    def name_of(self, dev_id: int) -> str:
        """The device-mapper name of thin device *dev_id*: Docker's, for one with a name in ``state.db``."""
        hash_ = self._creating.get(dev_id)
        if hash_ is None:
            row = self.state.row("SELECT hash FROM devices WHERE device_id = ?", (dev_id,))
            hash_ = row["hash"] if row else f"device-{dev_id}"
        return device_name(self.root, hash_)

    @contextmanager
    def naming(self, device: Device) -> Iterator[None]:
        """Within the block *device*, which is being created, has its name already.

        One that takes another's place has a name of its own until it is in ``state.db``.
        """
        taken = self.state.device(device.hash) is not None
        self._creating[device.device_id] = f"{device.hash}-{device.device_id}" if taken else device.hash
        try:
            yield
        finally:
            self._creating.pop(device.device_id, None)

    # -- who uses them ---------------------------------------------------------------------------

    def used(self, device: Device) -> DeviceInfo | None:
        """The kernel's device, if it is active and somebody has it open: a mount, a program."""
        info = self.pool.active(device.device_id)
        return info if info is not None and info.open_count else None

    def refuse_used(self, device: Device, doing: str) -> None:
        """Raise :class:`BusyError`, naming who it is, if somebody has the device open."""
        info = self.used(device)
        if info is not None:
            raise holders.explained(BusyError(f"cannot {doing}: it is in use"), info.major, info.minor)

    # -- activation ------------------------------------------------------------------------------

    def activate(self, device: Device) -> Path:
        """Make the device's node under ``/dev/mapper``, or use the one that is there."""
        pool, name = self.pool, self.name_of(device.device_id)
        info = pool.active(device.device_id)
        if info is not None and (not info.live_table or pool.is_internal(info)):
            self._remove(name, info)
            info = None
        if info is None:
            table = [pool.table_for(device.device_id, device.size)]
            info = pool.retry_while_suspended(
                lambda: self.dm.create_with_table(name, table, cookie=QUIET_COOKIE)
            )
        elif info.deferred_remove:
            self.dm.cancel_deferred_remove(name)
        return make_name(name, info.major, info.minor)

    def deactivate(self, device: Device, *, deferred: bool = False) -> bool:
        """Remove the device's node, *deferred*: once it is closed, if it is open. Gives whether it is gone.

        Raises :class:`BusyError` naming who has it open.
        """
        name = self.name_of(device.device_id)
        info = self.pool.active(device.device_id)
        gone = True
        if info is not None:
            gone = self._remove(name, info, deferred=deferred)
        drop_name(name)
        return gone

    def resize(self, device: Device, size: int) -> None:
        """Make the active device *size* bytes, while it is in use."""
        pool, table = self.pool, self.pool.table_for(device.device_id, size)
        pool.retry_while_suspended(lambda: self.dm.reload(self.name_of(device.device_id), [table]))

    @contextmanager
    def removing(self, active: Sequence[tuple[Device, DeviceInfo]]) -> Iterator[None]:
        """Remove the nodes of devices that are being deleted and are not open, while the block runs.

        If the block fails, what was active is so again. What cannot be removed is left to who deletes it.
        """

        def remove_all() -> None:
            for _, info in active:
                with suppress(LamellaError):
                    quick_remove(self.dm, info)
                    drop_name(info.name)

        if not active:
            yield
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as executor:
            removal = executor.submit(remove_all)
            try:
                yield
            except BaseException:
                removal.result()
                for device, info in active:
                    if not self.pool.is_internal(info):
                        with suppress(LamellaError):
                            self.activate(device)
                raise
            removal.result()

    def wait_until_removed(self, removed: Iterable[DeviceInfo]) -> None:
        """Wait until the kernel has forgotten the names of devices that it was told to remove."""
        for info in removed:
            wait_until_gone(self.dm, info.name)

    def is_active(self, device: Device) -> bool:
        """Whether it is active because somebody asked for it."""
        info = self.pool.active(device.device_id)
        return info is not None and info.live_table and not self.pool.is_internal(info)

    def _remove(self, name: str, info: DeviceInfo, *, deferred: bool = False) -> bool:
        return remove(self.dm, name, info, deferred=deferred)

    # -- after a crash ---------------------------------------------------------------------------

    def clean_up(self, *, alone: bool) -> None:
        """Remove what killed processes left. *alone*: no other process of ours has the store open."""
        if self.pool.read_only:
            return
        self.temporaries.clear()
        if alone:
            for info in of_store(self.dm, self.root):
                if info.uuid.startswith(INTERNAL) and not info.open_count:
                    with suppress(NotFoundError, BusyError):
                        self.dm.remove(info.name, cookie=QUIET_COOKIE)


def of_store(dm: DeviceMapper, root: Path) -> list[DeviceInfo]:
    """Every device-mapper device with a name of the store in *root*."""
    prefix = f"{device_prefix(root)}-"
    found = [dm.find(name) for name, _, _ in dm.list() if name.startswith(prefix)]
    return [info for info in found if info is not None]


def remove(dm: DeviceMapper, name: str, info: DeviceInfo, *, deferred: bool = False) -> bool:
    """Remove a device; whether it is gone. Raises :class:`BusyError` naming who has it open."""
    try:
        return dm.remove(name, deferred=deferred, cookie=QUIET_COOKIE)
    except NotFoundError:
        return True
    except BusyError as error:
        raise holders.explained(BusyError(f"device {name} is in use"), info.major, info.minor) from error


def deactivate_all(
    dm: DeviceMapper, backend: PoolBackend, root: Path, *, before: Callable[[str], None] | None = None
) -> None:
    """Deactivate everything of the store: its devices, the pool, and what is below that.

    *before* is called with the name of each device before it goes. Nothing needs to be sound, nor active.
    Raises :class:`BusyError` for a device that somebody has open; those before it are gone then.
    """
    pool = backend.active(dm)
    for info in of_store(dm, root):
        if info.name == pool:
            continue
        if before is not None:
            before(info.name)
        remove(dm, info.name, info)
        drop_name(info.name)
    backend.deactivate(dm)
