# SPDX-License-Identifier: Apache-2.0
"""What of a store the kernel has, as any user may see it: from ``/sys`` and ``/proc``, without the pool.

Device-mapper need not be asked, the pool need not work, and with the user engine there is simply nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo
from lamella.driver.naming import device_prefix

if TYPE_CHECKING:
    from lamella.block.mountinfo import Mount

SYS = Path("/sys")


@dataclass(frozen=True)
class Present:
    """A device of the store that is active in the kernel. *mounts*: those in our own mount namespace."""

    hash: str
    name: str
    major: int
    minor: int
    suspended: bool
    mounts: tuple[Mount, ...]

    @property
    def points(self) -> list[str]:
        """Where it is mounted, oldest first."""
        return [each.point for each in self.mounts]


def present(root: Path) -> dict[str, Present]:
    """The store's active devices, by what follows the store's prefix in their names ("pool" too)."""
    try:
        prefix = f"{device_prefix(root)}-"
        names = [name for name in os.listdir(SYS / "block") if name.startswith("dm-")]
    except OSError:
        return {}
    found: dict[str, tuple[str, int, int, bool]] = {}
    for each in names:
        folder = SYS / "block" / each
        with suppress(OSError, ValueError):
            name = (folder / "dm" / "name").read_text().strip()
            if name.startswith(prefix):
                major, _, minor = (folder / "dev").read_text().strip().partition(":")
                suspended = (folder / "dm" / "suspended").read_text().strip() == "1"
                found[name.removeprefix(prefix)] = (name, int(major), int(minor), suspended)
    if not found:
        return {}
    by_number: dict[tuple[int, int], list[Mount]] = {}
    with suppress(OSError):
        for line in mountinfo.mounts():
            by_number.setdefault((line.major, line.minor), []).append(line)
    return {
        hash_: Present(hash_, name, major, minor, suspended, tuple(by_number.get((major, minor), ())))
        for hash_, (name, major, minor, suspended) in found.items()
    }
