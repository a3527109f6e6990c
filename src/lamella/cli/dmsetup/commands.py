# SPDX-License-Identifier: Apache-2.0
"""``dmsetup table``, ``status``, ``ls``, ``deps``, ``mknodes``, ``targets`` and ``version``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.dmsetup.backend import FailedError, asked, look_up, shown
from lamella.cli.dmsetup.info import print_info
from lamella.cli.dmsetup.options import OptionError
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.mknodes import mend_names
from lamella.devicemapper.nodes import mangled
from lamella.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo
    from lamella.devicemapper.table import TargetLine

NOTHING = "No devices found\n"
NUMBERING = ("devno", "devname", "blkdevname")


def table(devices: Source, options: Options) -> None:
    """The table of each device."""
    _lines(devices, options, of_table=True)


def status(devices: Source, options: Options) -> None:
    """The status of each target."""
    _lines(devices, options, of_table=False)


def _lines(devices: Source, options: Options, *, of_table: bool) -> None:
    names, several = asked(options, devices)
    if not names:
        sys.stdout.write(NOTHING)
        return
    concise: list[str] = []
    for name in names:
        info = look_up(devices, name, options, "table" if of_table else "")
        inactive = "inactive" in options
        if of_table:
            found = [_without_keys(line, options) for line in devices.table(info.name, inactive=inactive)]
        else:
            lines = devices.status(info.name, flush="noflush" not in options, inactive=inactive)
            found = [line.line for line in lines]
        kept = [line for line in found if not options.target or line.split(" ", 3)[2] == options.target]
        if of_table and "concise" in options:
            concise.append(_concise(info, kept, options))
            continue
        if options.target and not kept:
            continue
        verbose = "verbose" in options
        if verbose:
            print_info(devices, info, options)
        prefix = f"{name}: " if several and not verbose else ""
        for line in kept or [""]:
            sys.stdout.write(f"{prefix}{line}\n")
        if several and verbose:
            sys.stdout.write("\n")
    if concise:
        sys.stdout.write(";".join(concise) + "\n")


def _without_keys(line: TargetLine, options: Options) -> str:
    """The line with a crypt target's key as zeros, unless it is asked for; names of keys stay."""
    if line.kind != "crypt" or "showkeys" in options:
        return line.line
    cipher, _, rest = line.text.partition(" ")
    key, blank, rest = rest.partition(" ")
    hidden = key if key.startswith(":") else "0" * len(key)
    return f"{line.start} {line.length} {line.kind} {cipher} {hidden}{blank}{rest}"


def _concise(info: DeviceInfo, found: Sequence[str], options: Options) -> str:
    mode = "ro" if info.read_only else "rw"
    head = f"{shown(info.name, options)},{shown(info.uuid, options)},{info.minor},{mode}"
    return ",".join([head, *found])


def deps(devices: Source, options: Options) -> None:
    """The devices that each device uses."""
    numbering = _numbering(options)
    names, several = asked(options, devices)
    if not names:
        sys.stdout.write(NOTHING)
    for name in names:
        info = look_up(devices, name, options, "deps")
        found = devices.deps(info.name, inactive="inactive" in options)
        verbose = "verbose" in options
        if verbose:
            print_info(devices, info, options)
        prefix = f"{name}: " if several and not verbose else ""
        used = "".join(f" ({_number(devices, each, numbering, ', ')})" for each in found)
        sys.stdout.write(f"{prefix}{len(found)} dependencies\t:{used}\n")
        if several and verbose:
            sys.stdout.write("\n")


def ls(devices: Source, options: Options) -> None:
    """List devices; ``--tree``: as trees."""
    if "tree" in options:
        from lamella.cli.dmsetup.tree import print_tree

        print_tree(devices, options)
        return
    numbering = _numbering(options)
    names = devices.names()
    if not names:
        sys.stdout.write(NOTHING)
    for name in names:
        between = ":"
        try:
            info = devices.info(name)
            if options.target:
                if options.target not in {line.kind for line in devices.status(name, flush=False)}:
                    continue
                between = ", "
        except NotFoundError:
            continue  # it was removed in the meantime
        number = _number(devices, (info.major, info.minor), numbering, between)
        sys.stdout.write(f"{shown(name, options)}\t({number})\n")


def _numbering(options: Options) -> str:
    words = [word for text in options.fields for word in text.split(",") if word]
    for word in words:
        if word not in NUMBERING:
            raise OptionError(f"Option not recognised: {word}.")
    return "blkdevname" if "blkdevname" in words else "devname" if "devname" in words else "devno"


def _number(devices: Source, number: tuple[int, int], numbering: str, between: str) -> str:
    """A device in a list: by number, or by one of its names."""
    own = devices.block_name(*number) if numbering != "devno" else None
    if own is None:
        return f"{number[0]}{between}{number[1]}"
    if numbering == "blkdevname" or not own.startswith("dm-"):
        return own
    return devices.info(number=number).name


def mknodes(devices: Source, options: Options) -> None:
    """Make the names of devices in ``/dev/mapper``; without any given, also remove those of no device.

    As with dmsetup, what could not be done is told, names of no device are left out, and the exit code is 0.
    """
    if not isinstance(devices, DeviceMapper):
        raise FailedError("The devices of the engine in user space have no names in /dev/mapper.")
    names = [name.removeprefix("/dev/mapper/") for name in options.names]
    if options.mangling != "none":
        names = [mangled(name) for name in names]
    for problem in mend_names(devices, names):
        sys.stderr.write(f"{problem}\n")


def targets(devices: Source, options: Options) -> None:
    """The kernel's targets."""
    for name, version in devices.targets().items():
        sys.stdout.write(f"{name:<16} v{'.'.join(map(str, version))}\n")


def version(devices: Source, options: Options) -> None:
    """The versions of the library and the driver."""
    from lamella._version import __version__

    sys.stdout.write(f"Library version:   1.02.185 (options and output), Lamella {__version__}\n")
    sys.stdout.write(f"Driver version:    {'.'.join(map(str, devices.version))}\n")
