# SPDX-License-Identifier: Apache-2.0
"""``devtypes``, ``segtypes``, ``formats``, ``tags``, ``systemid``, ``version`` and ``lastlog``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context

LVM_VERSION = "2.03.16"
"""The LVM2 whose commands, options and metadata these are."""
SEGMENT_TYPES = ("linear", "striped", "zero", "error", "thin-pool", "thin")
"""The types of volumes that are created here; others are only read and reported."""


def devtypes(context: Context) -> None:
    """List types of block devices, as a report."""
    from lamella.cli.lvm.reports import checked, helped, make_request
    from lamella.lvm.report.device_types import device_types
    from lamella.lvm.report.layout import TITLES
    from lamella.lvm.report.report import build_rows
    from lamella.lvm.report.view import GroupView, Row

    if helped(context, "devtype"):
        return
    request = make_request(context, "devtype")
    checked(context, request)
    nothing = GroupView(None)
    found = build_rows(request, [Row(nothing, entry=one) for one in device_types()])
    context.output.add(request, [(TITLES["devtype"], found)])


def segtypes(context: Context) -> None:
    """List the types of segments that ``lvcreate`` and ``lvconvert`` make."""
    for name in SEGMENT_TYPES:
        context.console.print(name)


def formats(context: Context) -> None:
    """List the formats of metadata."""
    context.console.print("lvm2")


def tags(context: Context) -> None:
    """List the tags of this host."""
    from lamella.lvm.session.host_tags import host_tags

    for tag in host_tags(context.config):
        context.console.print(tag)


def systemid(context: Context) -> None:
    """Show this host's system ID."""
    context.console.print(f"system ID: {context.environment.system_id}")


def print_version() -> None:
    """What ``version`` and the option ``--version`` show; without device-mapper no line for the driver."""
    from lamella._version import __version__
    from lamella.devicemapper.client import DeviceMapper

    lines = [
        f"LVM version:     {LVM_VERSION} (commands and format), Lamella {__version__}",
        f"Library version: none, Lamella {__version__}",
    ]
    if DeviceMapper.available():
        try:
            with DeviceMapper() as dm:
                lines.append(f"Driver version:  {'.'.join(map(str, dm.version))}")
        except LamellaError:  # the driver is there, but may not be asked
            pass
    sys.stdout.write("".join(f"  {line}\n" for line in lines))


def lastlog(_context: Context) -> None:
    """Show the log of the last command in LVM2's shell; there is no shell here, and LVM2 has none outside."""
    raise Failed("No log report stored.")
