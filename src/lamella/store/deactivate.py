# SPDX-License-Identifier: Apache-2.0
"""Deactivating a store's devices in device-mapper, without opening the pool, which may be damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import holders
from lamella.driver import backends
from lamella.driver.active_devices import present
from lamella.errors import BusyError
from lamella.store import mount_points, umount
from lamella.store.config import Config
from lamella.store.lock import Lock, refuse_hosted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.active_devices import Present
    from lamella.store.root import Root

POOL = "pool"
"""The suffix of the device-mapper name of a loop-lvm pool."""


def deactivate(root: Root, names: Sequence[str], *, unmount: bool, wait: float) -> list[str]:
    """Deactivate the named containers and images, or the whole store; returns messages about what was done.

    Raises :class:`BusyError`, naming who uses what, before anything is deactivated.
    """
    config = Config.load(root.config)
    backend = backends.backend(config.mode, root.path)
    if not names:
        refuse_hosted(root, "deactivate it")
    with Lock(root.lock, exclusive=True, wait=wait) as lock, lock.briefly():
        if names:
            wanted = [umount.device_called(root, name) for name in names]
            return _deactivate_named(root, dict(zip(wanted, names, strict=True)), unmount=unmount)
        from lamella.devicemapper.client import DeviceMapper
        from lamella.driver.kernel_devices import deactivate_all

        if not DeviceMapper.available():
            return ["Nothing is active: the kernel's device-mapper is not in use."]
        with DeviceMapper() as dm:
            pool = backend.active(dm)
            done = [f"Unmounted {point}." for point in require_unused(root, unmount=unmount)]
            gone: list[str] = []
            deactivate_all(dm, backend, root.path, before=gone.append)
        mount_points.remove_stale(root)
        done += [f"Deactivated {name}." for name in [*gone, *([pool] if pool else [])]]
        return done or ["Nothing was active."]


def require_unused(root: Root, *, unmount: bool) -> list[str]:
    """Unmount what is mounted in the store's folder if *unmount*; returns the mount points.

    Raises :class:`BusyError`, naming the user, if one of the store's devices is in use.
    """
    points = umount.unmount_store_mounts(root) if unmount else []
    _require_unused([each for hash_, each in present(root.path).items() if hash_ != POOL])
    return points


def _deactivate_named(root: Root, wanted: dict[str, str], *, unmount: bool) -> list[str]:
    if unmount:
        for device in wanted:
            umount.unmount_store_mount(root, device)
    here = present(root.path)
    _require_unused([here[device] for device in wanted if device in here])
    done = []
    for device, name in wanted.items():
        if device in here:
            left = umount.deactivate_device(here[device], deferred=False)
            if left:
                raise BusyError(left[0], hint="see lsblk")
            done.append(f"Deactivated {name}.")
        else:
            done.append(f"{name} was not active.")
    return done


def _require_unused(devices: Sequence[Present]) -> None:
    """Raise :class:`BusyError` if one of the devices is open."""
    if not devices:
        return
    from lamella.devicemapper.client import DeviceMapper

    with DeviceMapper() as dm:
        for each in devices:
            info = dm.find(each.name)
            if info is not None and info.open_count:
                raise holders.explained(
                    BusyError(f"device {each.name} is in use; nothing was deactivated"),
                    each.major,
                    each.minor,
                )
