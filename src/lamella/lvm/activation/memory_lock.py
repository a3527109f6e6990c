# SPDX-License-Identifier: Apache-2.0
"""Lock this process's memory while devices that it may be paged in from are suspended.

A page that has to be read from a suspended device, by the very process that would resume it, deadlocks.
mlockall() prevents that, but reads every page of every library first, so it is used only where a suspended
device may hold some.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo
from lamella.block.sysfs import with_slaves

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MCL_CURRENT_AND_FUTURE = 3
NO_LOCAL_DISK = frozenset(
    ("9p", "virtiofs", "tmpfs", "ramfs", "proc", "sysfs", "devtmpfs", "nfs", "nfs4", "cifs")
)
"""Types of file systems that lie on no block device of this machine."""


def lies_on(numbers: Collection[str], proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> bool:
    """Whether memory of this process, or swap space, may be on one of the devices "major:minor".

    True where that cannot be found out (on an overlay, for example).
    """
    try:
        # As bytes: a path in them is anybody's choice, and may be no text, or hold other line breaks.
        maps = (proc / "self/maps").read_bytes().rstrip(b"\n").split(b"\n")
        mounts = (proc / "self/mountinfo").read_bytes()
        swaps = (proc / "swaps").read_bytes().splitlines()[1:]
    except OSError:
        return True
    types = {f"{each.major}:{each.minor}": each.filesystem for each in mountinfo.parse(mounts)}
    below: set[str] = set()
    for line in maps:
        words = line.split(None, 5)
        if words[4] == b"0":
            continue  # memory without a file
        major, minor = (int(part, 16) for part in words[3].split(b":"))
        number = f"{major}:{minor}"
        if major:
            below |= with_slaves(number, sys)
        elif types.get(number) not in NO_LOCAL_DISK:
            return True
    for line in swaps:
        path = line.split()[0]
        try:
            device = os.stat(path)
        except OSError:
            return True
        dev = device.st_rdev or device.st_dev
        below |= with_slaves(f"{os.major(dev)}:{os.minor(dev)}", sys)
    return not below.isdisjoint(numbers)


@contextmanager
def memory_locked(numbers: Collection[str]) -> Iterator[None]:
    """mlockall() for the block, if some memory may be on one of the devices."""
    if not lies_on(numbers):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mlockall(MCL_CURRENT_AND_FUTURE)
    try:
        yield
    finally:
        libc.munlockall()
