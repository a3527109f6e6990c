# SPDX-License-Identifier: Apache-2.0
"""The changes of a container: a device compared with the one that it is a snapshot of."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lamella.fs.difference import list_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.driver.device_set import DeviceSet
    from lamella.fs.difference import Change
    from lamella.fs.pair import Pair


@contextmanager
def open_pair(devices: DeviceSet, lower: str, upper: str) -> Iterator[Pair[Any]]:
    """The trees of both devices; chunks that they share need not be compared."""
    with devices.volume(lower) as below, devices.volume(upper) as above:
        filesystem = devices.filesystem
        changed = devices.differing_ranges(below, above) if filesystem.written_here else None
        with filesystem.pair(below, above, changed) as pair:
            yield pair


def container_changes(devices: DeviceSet, lower: str, upper: str) -> list[Change]:
    """The names that were added, changed or deleted in *upper*."""
    with open_pair(devices, lower, upper) as pair:
        return list_changes(pair)
