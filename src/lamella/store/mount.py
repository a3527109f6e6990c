# SPDX-License-Identifier: Apache-2.0
"""Mounting containers and images, with the kernel's engine.

What is mounted is not remembered: the kernel knows (:mod:`lamella.driver.active_devices`). The default mount
points lie in a folder whose mounts other namespaces do not get, as Docker's driver has it; removing such
a mount point after unmounting also takes it out of namespaces that had copied it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import holders, mountinfo
from lamella.block.system import explain
from lamella.driver.active_devices import present, present_device
from lamella.errors import BusyError, ExistsError, LamellaError, NotFoundError, UsageError
from lamella.fs.mounted import mount as kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.active_devices import Present
    from lamella.driver.device_set import DeviceSet
    from lamella.store.root import Root

LEAVE_ALONE = {"ext4": ("noload",), "xfs": ("norecovery",)}
"""Options that keep the kernel from writing to the device of a file system that is mounted read-only."""
ALWAYS = {"xfs": ("nouuid",)}
"""Every file system of a store has the base device's UUID, and XFS minds."""


def mount(
    root: Root,
    devices: DeviceSet,
    device: str,
    *,
    name: str,
    identity: str,
    folder: str | os.PathLike[str] | None,
    image: bool,
    read_only: bool,
    options: Sequence[str],
) -> Path:
    """Mount *device*, that of the thing called *name*; gives the mount point, which may have been one before.

    *folder* None is ``mnt/IDENTITY`` in the state root. An *image* is mounted read-only, whatever is asked.
    """
    filesystem = devices.state.pool().base_filesystem
    given = [*ALWAYS.get(filesystem, ()), *devices.options.mount_options, *options]
    read_only = image or read_only or bool(kernel.split_options(given)[0] & kernel.Flag.RDONLY)
    if image:
        given += LEAVE_ALONE.get(filesystem, ())
    point = Path(os.path.realpath(root.mounts / identity if folder is None else folder))
    if folder is not None and not point.is_dir():
        raise NotFoundError(f"{point} is no folder to mount on", hint=f"make it: mkdir -p {point}")
    found = kernel.mounted_at(point)
    if found is not None:
        here = present_device(root.path, device)
        if here is None or (found.major, found.minor) != (here.major, here.minor):
            if folder is None:
                raise ExistsError(f"something else is mounted at {point}", hint=f"umount {point}")
        elif found.read_only == read_only:
            return point
        else:
            how = "read-only" if found.read_only else "writable"
            raise BusyError(
                f"{name} is mounted {how} at {point}", hint=f"unmount it first: lamella umount {name}"
            )
    was_active = present_device(root.path, device) is not None
    node = devices.activate(device)
    try:
        if folder is None:
            _make_point(root, point)
        kernel.mount(str(node), point, filesystem, options=given, read_only=read_only)
        if filesystem == "xfs":
            _set_max_retries(node, point, devices.options.xfs_nospace_max_retries)
    except BaseException:
        if folder is None:
            _drop_point(root, point)
        if not was_active:
            with suppress(LamellaError):
                devices.deactivate(device)
        raise
    return point


def _set_max_retries(node: Path, point: Path, count: int | None) -> None:
    """As Docker does it: where that fails, so does the mount."""
    from lamella.fs.xfs.filesystem import set_max_retries

    try:
        set_max_retries(str(node), count)
    except BaseException:
        kernel.unmount(point, lazy=True)
        raise


def unmount(root: Root, present_: Present, name: str, *, lazy: bool, deferred_removal: bool) -> list[str]:
    """Unmount the store's device *present_* and take it out of the kernel.

    It needs neither the pool nor ``state.db``. Gives warnings: what keeps the device.
    """
    points = present_.points
    if not points:
        found = [each for each in holders.holders(present_.major, present_.minor) if each.elsewhere]
        where = f"; it is {holders.describe(found)}" if found else ""
        raise NotFoundError(
            f"{name} is not mounted here{where}", hint=holders.advice(found) or "see: lamella ps"
        )
    ours = [point for point in points if Path(point).parent == Path(os.path.realpath(root.mounts))]
    if len(set(ours or points)) > 1:
        raise UsageError(
            f"{name} is mounted at {', '.join(points)}", hint="name one: lamella umount DIRECTORY"
        )
    return unmount_point(root, present_, (ours or points)[-1], lazy=lazy, deferred_removal=deferred_removal)


def unmount_point(
    root: Root, present_: Present, point: str, *, lazy: bool, deferred_removal: bool
) -> list[str]:
    """Unmount the device from *point*; when it was mounted nowhere else here, it leaves the kernel too."""
    kernel.unmount(point, lazy=lazy)
    if Path(point).parent == Path(os.path.realpath(root.mounts)):
        _drop_point(root, Path(point))
    if kernel.mounts_of(present_.major, present_.minor):
        return []
    return take_down(present_, deferred=deferred_removal)


def take_down(present_: Present, *, deferred: bool) -> list[str]:
    """Remove the device-mapper device. One that is held goes with its last user, if *deferred*.

    Gives who holds it, in words; nothing is raised for that.
    """
    from lamella.devicemapper.client import DeviceMapper
    from lamella.devicemapper.nodes import drop_name
    from lamella.driver.kernel_devices import remove

    with DeviceMapper() as dm:
        info = dm.find(present_.name)
        if info is None or (info.major, info.minor) != (present_.major, present_.minor):
            return []
        try:
            gone = remove(dm, present_.name, info, deferred=deferred)
        except BusyError as error:
            return [f"{error.message}; it stays active"]
    drop_name(present_.name)
    if gone:
        return []
    found = holders.holders(present_.major, present_.minor)
    return [f"device {present_.name} is {holders.describe(found)}; it goes when nobody uses it any more"]


def refuse_mounted(root: Root, device: str, what: str) -> None:
    """Raise :class:`BusyError`, naming where and by whom, if *device* is mounted here."""
    here = present_device(root.path, device)
    if here is None or not here.mounts:
        return
    found = holders.mounted(here.major, here.minor)
    raise BusyError(
        f"{what} is {holders.describe(found)}",
        hint="unmount it first: lamella umount; or remove it all the same: lamella rm --force",
    )


def unmount_own(root: Root, device: str) -> None:
    """Unmount *device* from its mount point in the state root, if it is mounted there, whoever uses it."""
    here = present_device(root.path, device)
    folder = Path(os.path.realpath(root.mounts))
    for point in reversed(here.points if here else []):
        if Path(point).parent == folder:
            kernel.unmount(point, lazy=True)
            _drop_point(root, Path(point))


def unmount_all_own(root: Root) -> list[str]:
    """Unmount everything in the state root's folder of mount points; gives what was unmounted."""
    folder = Path(os.path.realpath(root.mounts))
    done = []
    for line in reversed(mountinfo.mounts()):
        if Path(line.point).parent == folder:
            kernel.unmount(line.point)
            _drop_point(root, Path(line.point))
            done.append(line.point)
    kernel.leave_private(folder)
    return done


def kept(root: Root, device: str) -> list[str]:
    """Who keeps *device*, which is marked as deleted, in the kernel; in words, or nothing."""
    here = present_device(root.path, device)
    if here is None:
        return []
    found = holders.holders(here.major, here.minor)
    return [f"device {here.name} is {holders.describe(found)}; a later command deletes it"]


def remove_stale_mount_points(root: Root) -> None:
    """Remove empty mount points that a killed command left.

    Not while a device is active: removing a folder unmounts what other namespaces have mounted on it.
    """
    if any(hash_ != "pool" for hash_ in present(root.path)):
        return
    try:
        names = os.listdir(root.mounts)
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            (root.mounts / name).rmdir()
    kernel.leave_private(root.mounts)
    with suppress(OSError):
        root.mounts.rmdir()


def _make_point(root: Root, point: Path) -> None:
    try:
        root.mounts.mkdir(mode=0o700, exist_ok=True)
        kernel.make_private(root.mounts)
        point.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise explain(error, "create", str(point)) from error


def _drop_point(root: Root, point: Path) -> None:
    """Remove a mount point of ours, and with it what other namespaces have mounted there."""
    try:
        point.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
            raise explain(error, "remove", str(point)) from error
    kernel.leave_private(root.mounts)
