# SPDX-License-Identifier: Apache-2.0
"""``dmsetup info``: a block of lines for each device, or with ``-c`` a table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.dmsetup.backend import asked, look_up, shown

if TYPE_CHECKING:
    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo


def info(devices: Source, options: Options) -> None:
    """Information about each device."""
    if "columns" in options:
        from lamella.cli.dmsetup.report import print_report

        print_report(devices, options)
        return
    names, _ = asked(options, devices)
    if not names:
        sys.stdout.write("No devices found\n")
    for name in names:
        print_info(devices, look_up(devices, name, options), options)


def print_info(devices: Source, found: DeviceInfo, options: Options) -> None:
    """Print the block of lines about a device."""
    state = "SUSPENDED" if found.suspended else "ACTIVE"
    state += " (READ-ONLY)" if found.read_only else ""
    state += " (DEFERRED REMOVE)" if found.deferred_remove else ""
    lines = [("Name:", shown(found.name, options)), ("State:", state)]
    sectors = devices.read_ahead(found)
    if sectors is not None:
        lines.append(("Read Ahead:", str(sectors)))
    lines += [
        ("Tables present:", tables(found)),
        ("Open count:", str(found.open_count)),
        ("Event number:", str(found.event_nr)),
        ("Major, minor:", f"{found.major}, {found.minor}"),
        ("Number of targets:", str(found.target_count)),
    ]
    for label, value in lines:
        sys.stdout.write(f"{label:<18} {value}\n")
    if found.uuid:
        sys.stdout.write(f"UUID: {shown(found.uuid, options)}\n")
    sys.stdout.write("\n")


def tables(found: DeviceInfo) -> str:
    """Which of the two table slots are filled."""
    if found.live_table:
        return "LIVE & INACTIVE" if found.inactive_table else "LIVE"
    return "INACTIVE" if found.inactive_table else "None"
