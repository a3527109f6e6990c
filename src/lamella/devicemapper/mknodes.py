# SPDX-License-Identifier: Apache-2.0
"""Bring ``/dev/mapper`` in line with the kernel's devices, as ``dmsetup mknodes`` does."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.devicemapper import nodes
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from lamella.devicemapper.client import DeviceMapper

_BEING_MADE = re.compile(r"\.(\d+)-\d+")
"""What :func:`nodes.make_name` gives its final name; the number is the process."""


def mend_names(dm: DeviceMapper, only: Collection[str] = ()) -> list[str]:
    """Make the missing and wrong names of all devices, and remove the names of devices that do not exist.

    With *only* (names as the kernel has them), the names of these are made, and nothing is removed. Gives
    what could not be done, one sentence each, in libdevmapper's words where it has some.
    """
    # Listed before the kernel's devices: a name that is made meanwhile is not taken for one without device.
    there = _listed()
    problems = []
    known = {"control"}
    for name, major, minor in dm.list():
        if only and name not in only:
            continue
        try:
            path = nodes.mapper_path(name)
            known.add(path.name)
            if _in_the_way(path):
                problems.append(f"A non-block device file at '{path}' is already present")
            else:
                nodes.make_name(name, major, minor)
        except LamellaError as error:
            problems.append(error.message)
    for name in sorted(there - known) if not only else ():
        if _being_made(name):
            continue
        try:
            (nodes.DEV_MAPPER / name).unlink(missing_ok=True)
        except OSError:
            problems.append(f"Unable to unlink device node for '{nodes.unmangled(name)}'")
    return problems


def _listed() -> set[str]:
    with suppress(FileNotFoundError):
        return set(os.listdir(nodes.DEV_MAPPER))
    return set()


def _in_the_way(path: Path) -> bool:
    """Whether there is something that is neither a device's node nor a link."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        return not stat.S_ISBLK(mode) and not stat.S_ISLNK(mode)
    return False


def _being_made(name: str) -> bool:
    found = _BEING_MADE.fullmatch(name)
    return found is not None and os.path.exists(f"/proc/{found[1]}")
