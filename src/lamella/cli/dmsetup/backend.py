# SPDX-License-Identifier: Apache-2.0
"""The devices that dmsetup reports: the kernel's, or those emulated for a store."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from lamella.block.sysfs import block_name, read_ahead
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.nodes import mangled, unmangled
from lamella.errors import LamellaError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo
    from lamella.devicemapper.table import TargetLine


class FailedError(LamellaError):
    """A failure, with dmsetup's message."""

    ending = "Command failed.\n"


class FieldError(FailedError):
    """An unknown field, about which dmsetup prints nothing more."""

    ending = ""


class Source(Protocol):
    """What the commands need; :class:`DeviceMapper`'s methods mean the same."""

    version: tuple[int, int, int]

    def names(self) -> list[str]:
        """The kernel's names of all devices, in its order."""

    def info(
        self, name: str = "", *, uuid: str = "", number: tuple[int, int] | None = None
    ) -> DeviceInfo: ...
    def table(self, name: str, *, inactive: bool = False) -> Sequence[TargetLine]: ...
    def status(self, name: str, *, flush: bool = True, inactive: bool = False) -> Sequence[TargetLine]: ...
    def deps(self, name: str, *, inactive: bool = False) -> Sequence[tuple[int, int]]: ...
    def targets(self) -> dict[str, tuple[int, int, int]]: ...

    def block_name(self, major: int, minor: int) -> str | None:
        """The kernel's own name of a block device, or None where there is no such device."""

    def read_ahead(self, info: DeviceInfo) -> int | None:
        """Sectors that are read ahead."""


class KernelDevices(DeviceMapper):
    """The kernel's devices."""

    def names(self) -> list[str]:
        return [name for name, _, _ in self.list()]

    def block_name(self, major: int, minor: int) -> str | None:
        return block_name(major, minor)

    def read_ahead(self, info: DeviceInfo) -> int | None:
        return read_ahead(info.major, info.minor)


@contextmanager
def source(options: Options) -> Iterator[Source]:
    """The kernel where it can be used, else the store that the options name."""
    from lamella.driver.engines import asked_for

    engine = asked_for(options.engine)
    if engine == "kernel" or (engine == "auto" and KernelDevices.available()):
        with KernelDevices() as devices:
            yield devices
        return
    from lamella.driver.emulated_devices import emulated_devices
    from lamella.store import Store

    with Store.open(options.root, read_only=True, wait=options.wait, engine="user") as store:
        yield emulated_devices(store.devices)


def shown(name: str, options: Options) -> str:
    """A kernel's name as it is printed (see ``--manglename``)."""
    return name if options.mangling == "none" else unmangled(name)


def asked(options: Options, devices: Source) -> tuple[list[str], bool]:
    """The names of the devices that a command reports, and whether each line needs its name.

    Without names: all devices; the second is then True.
    """
    if options.names:
        return options.names, len(options.names) > 1
    if options.uuid or options.number is not None:
        return [""], False
    return [unmangled(name) if options.mangling != "none" else name for name in devices.names()], True


def look_up(devices: Source, name: str, options: Options, ioctl: str = "") -> DeviceInfo:
    """The device that the user calls *name*, also by a path. Raises :class:`FailedError`.

    *ioctl*: the error names that call, as with some of dmsetup's commands.
    """
    try:
        if not name and (options.uuid or options.number is not None):
            uuid = mangled(options.uuid) if options.mangling != "none" else options.uuid
            return devices.info(uuid=uuid, number=None if uuid else options.number)
        kernel_name = _from_path(devices, name)
        if not kernel_name:
            raise NotFoundError("no device name given")
        return devices.info(mangled(kernel_name) if options.mangling != "none" else kernel_name)
    except NotFoundError as error:
        if not ioctl:
            raise FailedError("Device does not exist.") from error
        where = f"({options.number[0]}:{options.number[1]})" if not name and options.number else ""
        uuid = options.uuid if not name else ""
        raise FailedError(
            f"device-mapper: {ioctl} ioctl on {name} {uuid}{where} failed: {os.strerror(errno.ENXIO)}"
        ) from error


def _from_path(devices: Source, name: str) -> str:
    """A path under ``/dev`` as the name of the device; anything else as it is."""
    if "/" not in name:
        return name
    if name.startswith("/dev/mapper/"):
        return name.removeprefix("/dev/mapper/")
    try:
        if name.startswith("/dev/"):
            found = os.stat(name).st_rdev
            return devices.info(number=(os.major(found), os.minor(found))).name
    except (OSError, NotFoundError):
        pass
    raise FailedError(f"Device {name} not found")
