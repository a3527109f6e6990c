# SPDX-License-Identifier: Apache-2.0
"""A store's active devices and their mounts, from ``/sys`` and ``/proc``: as any user may read them.

Needs neither device-mapper nor a pool that works; with the user engine there are none.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo
from lamella.block.sysfs import attribute, mapped_devices
from lamella.driver.device_names import device_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    found = list(_active(root))
    if not found:
        return {}
    by_number: dict[tuple[int, int], list[Mount]] = {}
    with suppress(OSError):
        for line in mountinfo.mounts():
            by_number.setdefault((line.major, line.minor), []).append(line)
    return {
        each.hash: replace(each, mounts=tuple(by_number.get((each.major, each.minor), ()))) for each in found
    }


def present_device(root: Path, hash_: str) -> Present | None:
    """The store's device *hash_* if it is active. The list of mounts is only read if it is."""
    from lamella.fs.mounted.mount import mounts_of

    for each in _active(root, hash_):
        if each.hash == hash_:
            with suppress(OSError):
                return replace(each, mounts=tuple(mounts_of(each.major, each.minor)))
            return each
    return None


def _active(root: Path, beginning: str = "") -> Iterator[Present]:
    """The store's active devices whose hashes begin so, without their mounts."""
    try:
        prefix = f"{device_prefix(root)}-"
    except OSError:
        return
    for device in mapped_devices(SYS / "block"):
        if device.name.startswith(prefix + beginning):
            major, _, minor = attribute(device.folder, "dev").partition(":")
            suspended = attribute(device.folder, "dm/suspended") == "1"
            with suppress(ValueError):  # it was removed in the meantime
                hash_ = device.name.removeprefix(prefix)
                yield Present(hash_, device.name, int(major), int(minor), suspended, ())
