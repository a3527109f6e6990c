# SPDX-License-Identifier: Apache-2.0
"""The block devices through which others mount a store's devices, whichever engine maps these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lamella.driver.device_names import device_prefix
from lamella.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet


class DeviceNodes(Protocol):
    """Gives named devices block devices, and takes them away again. Any thread may call its methods."""

    def attach(self, name: str, *, read_only: bool) -> Path:
        """The path of the block device of *name*, which is made if it is not there."""

    def detach(self, name: str) -> bool:
        """Remove it, at once or when its last user closes it; whether it is gone."""

    def is_open(self, name: str) -> bool:
        """Whether somebody has it open: a mount, a program."""

    def name_of(self, path: str) -> str | None:
        """The device whose block device is at *path*, if it is one of these."""

    def forget_cached(self, name: str) -> None:
        """Have the kernel read the block device of *name* anew, which was written to past it."""

    def detach_unused(self) -> None:
        """Remove those that nobody has open."""

    def finish_detaching(self) -> None:
        """Let go of those that were detached while they were open, and have been closed since."""

    def close(self) -> None:
        """Remove all, those that are open when they are closed. Closing twice is harmless."""


class KernelNodes:
    """Those of device-mapper, which are the devices themselves."""

    def __init__(self, devices: DeviceSet) -> None:
        self._devices = devices

    def attach(self, name: str, *, read_only: bool) -> Path:
        with self._devices.state.lock:
            return self._devices.activate(name, frozen=read_only)

    def detach(self, name: str) -> bool:
        with self._devices.state.lock:
            device = self._devices.state.device(name)  # which may be marked as deleted
            return device is None or self._devices.engine.deactivate(device, deferred=True)

    def is_open(self, name: str) -> bool:
        return self._devices.engine.use_of(self._devices.state.device(name)).is_open

    def name_of(self, path: str) -> str | None:
        folder, _, found = path.rpartition("/")
        prefix = f"{device_prefix(self._devices.state.path.parent)}-"
        name = found.removeprefix(prefix)
        if folder != "/dev/mapper" or name == found or self._devices.state.device(name) is None:
            return None
        return name

    def forget_cached(self, name: str) -> None:
        """Nothing: who writes to a device here does so through the same block device."""

    def detach_unused(self) -> None:
        """Nothing: what is active stays so."""

    def finish_detaching(self) -> None:
        """Nothing: the kernel does it."""

    def close(self) -> None:
        """Nothing, likewise."""


class NoNodes:
    """None: neither device-mapper nor FUSE can be used here."""

    def __init__(self, why: str) -> None:
        self._why = why

    def attach(self, name: str, *, read_only: bool) -> Path:
        raise UsageError(
            f"device {name} cannot be mounted: {self._why}", hint="use the kernel's engine, or run it as root"
        )

    def detach(self, name: str) -> bool:
        return True

    def is_open(self, name: str) -> bool:
        return False

    def name_of(self, path: str) -> str | None:
        return None

    def forget_cached(self, name: str) -> None:
        """Nothing."""

    def detach_unused(self) -> None:
        """Nothing."""

    def finish_detaching(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
