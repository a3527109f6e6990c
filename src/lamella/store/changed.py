# SPDX-License-Identifier: Apache-2.0
"""What differs between two devices of which one began as a snapshot of the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.fs.difference import differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.driver.device_set import DeviceSet
    from lamella.fs.difference import Change
    from lamella.thin.engine import ThinVolume

Ranges = list[tuple[int, int]]


@contextmanager
def both(devices: DeviceSet, lower: str, upper: str) -> Iterator[tuple[ThinVolume, ThinVolume, Ranges]]:
    """Both devices open, and the byte ranges where the upper one no longer shares the lower one's chunks."""
    with devices.volume(lower) as below, devices.volume(upper) as above:
        yield below, above, devices.differing_ranges(below, above)


def container_changes(devices: DeviceSet, lower: str, upper: str) -> list[Change]:
    """The names that were added, changed or deleted in *upper*."""
    with both(devices, lower, upper) as (below, above, ranges):
        return differences(below, above, changed=ranges)
