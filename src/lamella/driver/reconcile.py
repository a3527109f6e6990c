# SPDX-License-Identifier: Apache-2.0
"""Reconciling the kernel's devices with a store, after a process died or they were changed externally.

A writer does it when it opens the store, which it then has alone: whatever is half done was left by a dead
process. What cannot be repaired is reported, with what to do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block import holders
from lamella.devicemapper.nodes import DEV_MAPPER, QUIET_COOKIE, drop_name, make_name, mapper_path
from lamella.devicemapper.table import Thin, sole_target
from lamella.driver.device_names import device_prefix, pool_name
from lamella.driver.kernel_devices import of_store
from lamella.errors import BusyError, LamellaError, NotFoundError
from lamella.thin.kernel.active_pool import stays_suspended
from lamella.thin.kernel.guard import INTERNAL
from lamella.thin.kernel.quick_removal import finish_removal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.devicemapper.table import Target
    from lamella.driver.kernel_devices import KernelDevices
    from lamella.driver.state import State


def resume_suspended(dm: DeviceMapper, root: Path, pool: str, *, alone: bool) -> None:
    """Before the pool is used: resume or remove devices that were left suspended, half made or half reloaded.

    *alone*: no other process of ours has the store open; else only the pool is looked at, which readers never
    suspend. Raises :class:`BusyError` for a pool of LVM's that stays suspended.
    """
    own = pool_name(root)
    if pool != own and stays_suspended(dm, pool):
        raise BusyError(
            f"the pool {pool} is suspended: a command of LVM's is at work on it, or was interrupted",
            hint=f"wait for that command; if there is none: dmsetup resume {pool}",
        )
    # The pool first: the devices in it cannot be resumed before it.
    for each in sorted(of_store(dm, root), key=lambda one: one.name != own):
        if not alone and each.name != own:
            continue
        with suppress(NotFoundError):
            _resume_or_remove(dm, each, own)


def _resume_or_remove(dm: DeviceMapper, info: DeviceInfo, pool: str) -> None:
    if not info.live_table and not info.inactive_table:
        if info.name != pool:
            dm.remove(info.name, cookie=QUIET_COOKIE)
        return
    if info.suspended and info.live_table:
        # With the inactive table, if there is one: it is for the larger size, so it may become live.
        dm.resume(info.name)
    elif info.inactive_table:
        if info.live_table:
            dm.clear(info.name)
        else:
            dm.remove(info.name, cookie=QUIET_COOKIE)


def remove_stale(kernel: KernelDevices, state: State) -> list[str]:
    """After the pool was opened: remove devices that ``state.db`` lacks, and stale names in ``/dev/mapper``.

    Gives what had to be left, and who has it open.
    """
    dm, root, pool = kernel.dm, kernel.root, kernel.pool
    prefix = f"{device_prefix(root)}-"
    rows = {device.hash: device for device in state.devices()}
    left = []
    active = of_store(dm, root)
    for info in active:
        hash_ = info.name.removeprefix(prefix)
        if info.name == pool.dm_name or hash_ == "pool" or info.uuid.startswith(INTERNAL):
            continue
        target = _target(dm, info.name)
        if finish_removal(dm, info, target):
            continue
        number = target.device_id if isinstance(target, Thin) else None
        row = rows.get(hash_)
        if row is not None and (number is None or number == row.device_id):
            with suppress(OSError):
                if not info.deferred_remove:
                    make_name(info.name, info.major, info.minor)
            continue
        why = (
            "state.db has no such device"
            if row is None
            else f"it is thin device {number} of an earlier state"
        )
        try:
            dm.remove(info.name, cookie=QUIET_COOKIE)
        except NotFoundError:
            pass
        except BusyError:
            found = holders.holders(info.major, info.minor)
            left.append(f"device {info.name} is active though {why}, and in use: {holders.describe(found)}")
            continue
        drop_name(info.name)
    for name in _stale_names(dm, prefix):
        drop_name(name)
    return left + _second_loop_devices(kernel)


def _target(dm: DeviceMapper, name: str) -> Target | None:
    with suppress(LamellaError):
        return sole_target(dm.table(name))
    return None


def _stale_names(dm: DeviceMapper, prefix: str) -> Iterator[str]:
    """Names under ``/dev/mapper`` of devices of the store that are not active any more."""
    try:
        names = [name for name in os.listdir(DEV_MAPPER) if name.startswith(prefix)]
    except OSError:
        return
    active = {mapper_path(name).name for name, _, _ in dm.list()}
    for name in names:
        if name not in active:
            yield name


def _second_loop_devices(kernel: KernelDevices) -> list[str]:
    """Pool files that are attached to more than one loop device: writes by one are not seen by the other."""
    from lamella.block import loop

    used = {kernel.pool.target.data, kernel.pool.target.metadata}
    warnings = []
    for name in ("data", "metadata"):
        path = kernel.root / "pool" / name
        if not path.exists():
            continue
        with suppress(LamellaError):
            for info in loop.find(path):
                major, minor = loop.MAJOR, os.minor(os.stat(info.path).st_rdev)
                if f"{major}:{minor}" not in used:
                    warnings.append(
                        f"{path} is attached to {info.path} as well, which is not the pool's: whoever writes "
                        f"there destroys the pool; detach it: losetup -d {info.path}"
                    )
    return warnings
