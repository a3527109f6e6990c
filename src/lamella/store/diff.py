# SPDX-License-Identifier: Apache-2.0
"""What differs between two devices of which one began as a snapshot of the other."""

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
def both(devices: DeviceSet, lower: str, upper: str) -> Iterator[Pair[Any]]:
    """The trees of both devices, of which the upper one shares with the lower one what did not change."""
    with devices.volume(lower) as below, devices.volume(upper) as above:
        filesystem = devices.filesystem
        changed = devices.differing_ranges(below, above) if filesystem.written_here else None
        with filesystem.pair(below, above, changed) as pair:
            yield pair


def container_changes(devices: DeviceSet, lower: str, upper: str) -> list[Change]:
    """The names that were added, changed or deleted in *upper*."""
    with both(devices, lower, upper) as pair:
        return list_changes(pair)
