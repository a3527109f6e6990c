# SPDX-License-Identifier: Apache-2.0
"""Extending a container: by the kernel while it is mounted, else on a snapshot that replaces it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.block import SECTOR, holders
from lamella.driver.active_devices import present_device
from lamella.driver.options import BASE_MAX
from lamella.errors import ReadOnlyError, UsageError
from lamella.units import human_size

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.active_devices import Present
    from lamella.driver.device_set import DeviceSet


def resize(root: Path, devices: DeviceSet, device: str, size: int, *, name: str) -> None:
    """Make *device*, that of the container called *name*, *size* bytes.

    Repeating it with the same size completes an interrupted resize.
    """
    old = devices.get(device)
    if size < old.size:
        raise UsageError(
            f"{name} has {human_size(old.size)} and cannot be reduced",
            hint=f"give more than {old.size} bytes; or copy its files into a new container",
        )
    if size % SECTOR or size > BASE_MAX:
        raise UsageError(
            f"invalid size of a container: {size} bytes",
            hint=f"give a multiple of {SECTOR}, up to {human_size(BASE_MAX)}",
        )
    here = present_device(root, device)
    point = _mount_point(here, name) if here is not None else None
    if here is None or point is None:
        devices.grow(device, size)
        return
    if not devices.in_kernel:
        raise UsageError(f"{name} is mounted", hint="resize it with --engine kernel, or unmount it first")
    from lamella.fs.mounted.grow import grow_mounted

    devices.engine.resize_active(old, size)
    # Before the file system: one that is larger than its device could not be mounted again.
    with devices.state.transaction():
        devices.state.put_device(replace(old, size=size))
    kind = devices.state.pool().base_filesystem
    grow_mounted(point, kind, size, device=(here.major, here.minor))


def _mount_point(here: Present, name: str) -> str | None:
    """A folder through which the mounted file system can be reached, in whatever mount namespace it is."""
    for line in reversed(here.mounts):
        if not line.read_only:
            return line.point
    if here.mounts:
        raise ReadOnlyError(
            f"{name} is mounted read-only at {here.points[-1]}", hint="unmount it, and resize it then"
        )
    for holder in holders.mounted(here.major, here.minor):
        return f"/proc/{holder.process}/root{holder.where}"
    return None
