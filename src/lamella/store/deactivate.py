# SPDX-License-Identifier: Apache-2.0
"""Unmounting, and taking a store out of the kernel: without opening the pool, which may be damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block import holders
from lamella.driver import backends, options
from lamella.driver.active_devices import present
from lamella.driver.state import State
from lamella.errors import BusyError, NotFoundError, UsageError
from lamella.fs.mounted.mount import mounted_at
from lamella.store import mount, schema
from lamella.store.catalog import Catalog
from lamella.store.config import Config
from lamella.store.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.active_devices import Present
    from lamella.store.root import Root

POOL = "pool"
"""What follows the store's prefix in the name of the pool of loop-lvm."""


def unmount(root: Root, name: str, *, lazy: bool, wait: float) -> list[str]:
    """Unmount a container or an image, by its name or mount point. Gives who keeps its device, in words."""
    config = Config.load(root.config)
    deferred = options.parse(config.storage_options, config.mode).deferred_removal
    lock = Lock(root.lock, exclusive=True, wait=wait)
    try:
        here = present(root.path)
        found = mounted_at(name) if os.path.isdir(name) else None
        for each in here.values() if found is not None else ():
            if found is not None and (each.major, each.minor) == (found.major, found.minor):
                return mount.unmount_point(root, each, found.point, lazy=lazy, deferred_removal=deferred)
        try:
            device = _device_called(root, name)
        except (NotFoundError, UsageError):
            if os.sep not in name:
                raise
            raise NotFoundError(  # a path as well as an image may have slashes
                f"no container or image of this store is called {name}, or mounted there", hint="lamella ps"
            ) from None
        if device not in here:
            raise NotFoundError(f"{name} is not mounted", hint="see what is: lamella ps")
        return mount.unmount(root, here[device], name, lazy=lazy, deferred_removal=deferred)
    finally:
        lock.release()


def deactivate(root: Root, names: Sequence[str], *, unmount: bool, wait: float) -> list[str]:
    """Take the named containers and images, or the whole store, out of the kernel; gives lines to print.

    Raises :class:`BusyError` naming who uses what, before anything is taken down.
    """
    config = Config.load(root.config)
    backend = backends.backend(config.mode, root.path)
    lock = Lock(root.lock, exclusive=True, wait=wait)
    try:
        if names:
            wanted = [_device_called(root, name) for name in names]
            return _take_down_named(root, dict(zip(wanted, names, strict=True)), unmount=unmount)
        from lamella.devicemapper.client import DeviceMapper
        from lamella.driver.kernel_devices import deactivate_all

        if not DeviceMapper.available():
            return ["Nothing is active: the kernel's device-mapper is not in use."]
        with DeviceMapper() as dm:
            pool = backend.active(dm)
            done = [f"Unmounted {point}." for point in require_unused(root, unmount=unmount)]
            gone: list[str] = []
            deactivate_all(dm, backend, root.path, before=gone.append)
        mount.remove_stale_mount_points(root)
        done += [f"Deactivated {name}." for name in [*gone, *([pool] if pool else [])]]
        return done or ["Nothing was active."]
    finally:
        lock.release()


def require_unused(root: Root, *, unmount: bool) -> list[str]:
    """Unmount what is mounted in the store's folder, if asked to; gives the mount points.

    Raises :class:`BusyError` naming who else uses one of the store's devices.
    """
    points = mount.unmount_all_own(root) if unmount else []
    _refuse_used([each for hash_, each in present(root.path).items() if hash_ != POOL])
    return points


def _take_down_named(root: Root, wanted: dict[str, str], *, unmount: bool) -> list[str]:
    if unmount:
        for device in wanted:
            mount.unmount_own(root, device)
    here = present(root.path)
    _refuse_used([here[device] for device in wanted if device in here])
    done = []
    for device, name in wanted.items():
        if device in here:
            left = mount.take_down(here[device], deferred=False)
            if left:
                raise BusyError(left[0], hint="see lsblk")
            done.append(f"Deactivated {name}.")
        else:
            done.append(f"{name} was not active.")
    return done


def _refuse_used(devices: Sequence[Present]) -> None:
    """Raise :class:`BusyError` if somebody has one of the devices open."""
    if not devices:
        return
    from lamella.devicemapper.client import DeviceMapper

    with DeviceMapper() as dm:
        for each in devices:
            info = dm.find(each.name)
            if info is not None and info.open_count:
                raise holders.explained(
                    BusyError(f"device {each.name} is in use; nothing was taken down"), each.major, each.minor
                )


def _device_called(root: Root, name: str) -> str:
    """The device of the container or, if there is none, of the image called *name*."""
    state = State.open(root.state, schema, read_only=True)
    try:
        catalog = Catalog(state)
        try:
            return catalog.find_container(name).device
        except NotFoundError:
            return catalog.device_of(catalog.find_image(name).top)
    finally:
        state.close()
