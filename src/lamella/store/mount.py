# SPDX-License-Identifier: Apache-2.0
"""Mounting containers and images, with the kernel's engine.

The store does not record what is mounted: the kernel knows (:mod:`lamella.driver.active_devices`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.driver.active_devices import present_device
from lamella.errors import BusyError, ExistsError, LamellaError, NotFoundError
from lamella.fs.mounted import mount as kernel
from lamella.store import mount_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.device_set import DeviceSet
    from lamella.store.root import Root

READ_ONLY_OPTIONS = {"ext4": ("noload",), "xfs": ("norecovery",)}
"""Options that keep the kernel from writing to the device of a read-only mount."""
REQUIRED_OPTIONS = {"xfs": ("nouuid",)}
"""All file systems of a store have the same UUID, which XFS otherwise refuses."""


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
    """Mount *device*, that of the container or image *name*; returns the mount point.

    *folder* None is ``mnt/IDENTITY`` in the state root. An *image* is always mounted read-only. A device that
    is mounted there already stays mounted.
    """
    filesystem = devices.state.pool().base_filesystem
    given = [*REQUIRED_OPTIONS.get(filesystem, ()), *devices.options.mount_options, *options]
    read_only = image or read_only or bool(kernel.split_options(given)[0] & kernel.Flag.RDONLY)
    if image:
        given += READ_ONLY_OPTIONS.get(filesystem, ())
    point = Path(os.path.realpath(root.mounts / identity if folder is None else folder))
    if folder is not None and not point.is_dir():
        raise NotFoundError(f"{point} is not a directory", hint=f"make it: mkdir -p {point}")
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
    node = devices.activate(device, frozen=image)
    try:
        if folder is None:
            mount_points.make(root, point)
        kernel.mount(str(node), point, filesystem, options=given, read_only=read_only)
        if filesystem == "xfs":
            _set_max_retries(node, point, devices.options.xfs_nospace_max_retries)
    except BaseException:
        if folder is None:
            mount_points.remove(root, point)
        if not was_active:
            with suppress(LamellaError):
                devices.deactivate(device)
        raise
    return point


def _set_max_retries(node: Path, point: Path, count: int | None) -> None:
    """As in Docker, the mount fails if this does."""
    from lamella.fs.xfs.kind import set_max_retries

    try:
        set_max_retries(str(node), count)
    except BaseException:
        kernel.unmount(point, lazy=True)
        raise
