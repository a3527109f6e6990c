# SPDX-License-Identifier: Apache-2.0
"""Unmounting containers and images, without opening the pool, which may be damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import holders, mountinfo
from lamella.driver import options
from lamella.driver.active_devices import present, present_device
from lamella.driver.state import State
from lamella.errors import BusyError, NotFoundError, UsageError
from lamella.fs.mounted import mount as kernel
from lamella.store import mount_points, schema
from lamella.store.catalog import Catalog
from lamella.store.config import Config
from lamella.store.lock import Lock

if TYPE_CHECKING:
    from lamella.driver.active_devices import Present
    from lamella.store.root import Root


def unmount(root: Root, name: str, *, lazy: bool, wait: float) -> list[str]:
    """Unmount a container or an image, by its name or mount point; see :func:`deactivate_device`."""
    config = Config.load(root.config)
    deferred = options.parse(config.storage_options, config.mode).deferred_removal
    with Lock(root.lock, exclusive=True, wait=wait) as lock, lock.briefly():
        here = present(root.path)
        found = kernel.mounted_at(name) if os.path.isdir(name) else None
        for each in here.values() if found is not None else ():
            if found is not None and (each.major, each.minor) == (found.major, found.minor):
                return unmount_at(root, each, found.point, lazy=lazy, deferred_removal=deferred)
        try:
            device = device_called(root, name)
        except (NotFoundError, UsageError):
            if os.sep not in name:
                raise
            raise NotFoundError(  # a path as well as an image may have slashes
                f"no container or image of this store is called {name}, or mounted there", hint="lamella ps"
            ) from None
        if device not in here:
            raise NotFoundError(f"{name} is not mounted", hint="see what is: lamella ps")
        return unmount_device(root, here[device], name, lazy=lazy, deferred_removal=deferred)


def device_called(root: Root, name: str) -> str:
    """The device of the container or, if there is none, of the image called *name*."""
    with State.open(root.state, schema, read_only=True) as state:
        catalog = Catalog(state)
        try:
            return catalog.find_container(name).device
        except NotFoundError:
            return catalog.device_of(catalog.find_image(name).top)


def unmount_device(
    root: Root, active: Present, name: str, *, lazy: bool, deferred_removal: bool
) -> list[str]:
    """Unmount the store's device *active* and deactivate it. Needs neither the pool nor ``state.db``.

    Returns the warnings of :func:`deactivate_device`.
    """
    points = active.points
    if not points:
        found = [each for each in holders.holders(active.major, active.minor) if each.elsewhere]
        where = f"; it is {holders.describe(found)}" if found else ""
        raise NotFoundError(
            f"{name} is not mounted here{where}", hint=holders.advice(found) or "see: lamella ps"
        )
    ours = [point for point in points if mount_points.is_default(root, point)]
    if len(set(ours or points)) > 1:
        raise UsageError(
            f"{name} is mounted at {', '.join(points)}", hint="name one: lamella umount DIRECTORY"
        )
    return unmount_at(root, active, (ours or points)[-1], lazy=lazy, deferred_removal=deferred_removal)


def unmount_at(root: Root, active: Present, point: str, *, lazy: bool, deferred_removal: bool) -> list[str]:
    """Unmount the device from *point*; deactivate it unless this mount namespace has other mounts of it."""
    kernel.unmount(point, lazy=lazy)
    if mount_points.is_default(root, point):
        mount_points.remove(root, Path(point))
    if kernel.mounts_of(active.major, active.minor):
        return []
    return deactivate_device(active, deferred=deferred_removal)


def deactivate_device(active: Present, *, deferred: bool) -> list[str]:
    """Remove the device-mapper device; with *deferred*, an open one is removed at its last close.

    Returns warnings that say who holds it open; that is not an error.
    """
    from lamella.devicemapper.client import DeviceMapper
    from lamella.devicemapper.nodes import drop_name
    from lamella.driver.kernel_devices import remove

    with DeviceMapper() as dm:
        info = dm.find(active.name)
        if info is None or (info.major, info.minor) != (active.major, active.minor):
            return []
        try:
            gone = remove(dm, active.name, info, deferred=deferred)
        except BusyError as error:
            return [f"{error.message}; it stays active"]
    drop_name(active.name)
    if gone:
        return []
    found = holders.holders(active.major, active.minor)
    return [f"device {active.name} is {holders.describe(found)}; it is removed when its last user closes it"]


def require_unmounted(root: Root, device: str, what: str) -> None:
    """Raise :class:`BusyError`, which says where and by whom, if *device* is mounted in this namespace."""
    here = present_device(root.path, device)
    if here is None or not here.mounts:
        return
    found = holders.mounted(here.major, here.minor)
    raise BusyError(
        f"{what} is {holders.describe(found)}",
        hint="unmount it first: lamella umount; or remove it anyway: lamella rm --force",
    )


def unmount_store_mount(root: Root, device: str) -> None:
    """Unmount *device* lazily from its mount point in the state root, if it is mounted there."""
    here = present_device(root.path, device)
    for point in reversed(here.points if here else []):
        if mount_points.is_default(root, point):
            kernel.unmount(point, lazy=True)
            mount_points.remove(root, Path(point))


def unmount_store_mounts(root: Root) -> list[str]:
    """Unmount everything in the state root's folder of mount points; returns the mount points."""
    done = []
    for line in reversed(mountinfo.mounts()):
        if mount_points.is_default(root, line.point):
            kernel.unmount(line.point)
            mount_points.remove(root, Path(line.point))
            done.append(line.point)
    kernel.leave_private(Path(os.path.realpath(root.mounts)))
    return done


def deferred_deletion_warnings(root: Root, device: str) -> list[str]:
    """Warnings that say who holds *device* open, which is marked as deleted; empty if it is inactive."""
    here = present_device(root.path, device)
    if here is None:
        return []
    found = holders.holders(here.major, here.minor)
    return [f"device {here.name} is {holders.describe(found)}; a later command deletes it"]
